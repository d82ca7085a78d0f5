/* tile.h: the micro-tile, where the time is spent.
 *
 *   c (16 x 16) = init (16 x 16) + a (16 x K) b (K x 16)
 *
 * b streams as rows of 16; every number of a is broadcast and multiplied into a row of
 * accumulators, one fused multiply-add for each of their vectors. Ways to read a:
 *
 *   ROWS            a is [K/16][row][16]: 16 rows of activations against a weight panel
 *   FEATURES        a is [K][16]:         16 features against deltas, K runs over rows
 *   ROWS_APART      the same two where row r of a lies at rows[r], in the caller's own
 *   FEATURES_APART  matrix: a first layer needs no copy of its input, or copies it on the way
 *
 * init_row = 16 continues from a tile, 0 starts every row from one vector (the bias).
 *
 * Where there are registers for it, three panels of b are taken together: the wide tile below.
 *
 * The order of the sum over k is the same for every tile, number of rows, thread and call, so
 * a row's result does not depend on its company. Accumulators are named variables: arrays of
 * vectors spill. */

enum Reading { ROWS, FEATURES, ROWS_APART, FEATURES_APART };

/* Where a tile begins: a and the distance of its blocks, or the rows and a column of them;
 * and what to fetch for later, FETCH lines of it for every BLOCK steps of k. */
typedef struct {
    const T *a;
    int64_t a_block;
    const T *const *rows;
    int64_t column;
    const char *ahead; /* or NULL */
    int64_t ahead_step;
    T *copy; /* where a tile that copies leaves rows that lie apart: [K/16][row][16]; its lines
              * are fetched for writing, since other threads have read what was there before */
    int64_t copy_block;
} Source;

enum { LINE = 64, FETCH = sizeof(T) }; /* FETCH lines are a quarter of a block of b */

/* Vectors per accumulator row of a sub-tile, and its heights: what fills the register file. */
#if VECTORS == 1
#define COLUMNS 1
#else
#define COLUMNS 2
#endif
#define COLUMN_GROUPS (VECTORS / COLUMNS)

/* k is cut so that the b it spans stays in the first-level cache between sub-tiles. */
#if LEVEL == 4 && BITS == 32
#define CHUNK INT64_MAX
#else
#define CHUNK (16384 / (int64_t)(BLOCK * sizeof(T)))
#endif

#define EACH_1(M) M(0)
#define EACH_2(M) EACH_1(M) M(1)
#define EACH_4(M) EACH_2(M) M(2) M(3)
#define EACH_5(M) EACH_4(M) M(4)
#define EACH_6(M) EACH_5(M) M(5)
#define EACH_8(M) EACH_6(M) M(6) M(7)
#define EACH_16(M) \
    EACH_8(M) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)

#if COLUMNS == 1
#define LOAD_B(at_k) const V b0 = load(b + (at_k) * BLOCK);
#define START(r) V p##r = load(init + r * init_row);
#define MULTIPLY_ADD(r) p##r += b0 * splat(ELEMENT(r));
#define FINISH(r) store(c + r * BLOCK, p##r);
/* Sixteen rows that lie apart are more than there are address registers: once one has its
 * address loaded, it takes four steps of k. */
#define STEPS_APART 4
#define LOAD_B_4(at_k) \
    const V b0 = load(b + (at_k) * BLOCK), b1 = load(b + ((at_k) + 1) * BLOCK), \
            b2 = load(b + ((at_k) + 2) * BLOCK), b3 = load(b + ((at_k) + 3) * BLOCK);
#define MULTIPLY_ADD_4(r) \
    p##r += b0 * splat(rows[r][k]); \
    p##r += b1 * splat(rows[r][k + 1]); \
    p##r += b2 * splat(rows[r][k + 2]); \
    p##r += b3 * splat(rows[r][k + 3]);
#else
#define LOAD_B(at_k) \
    const V b0 = load(b + (at_k) * BLOCK), b1 = load(b + (at_k) * BLOCK + LANES);
#define START(r) V p##r = load(init + r * init_row), q##r = load(init + r * init_row + LANES);
#define MULTIPLY_ADD(r) \
    { \
        const V x = splat(ELEMENT(r)); \
        p##r += b0 * x; \
        q##r += b1 * x; \
    }
#define FINISH(r) \
    store(c + r * BLOCK, p##r); \
    store(c + r * BLOCK + LANES, q##r);
#define STEPS_APART 1
#define LOAD_B_4 LOAD_B
#define MULTIPLY_ADD_4 MULTIPLY_ADD
#endif

#define ELEMENT(r) \
    (reading == ROWS         ? a[(r) * BLOCK + k] \
     : reading == FEATURES   ? a[k * BLOCK + (r)] \
     : reading == ROWS_APART ? rows[r][k] \
                             : row[r])

/* The row of a that step k reads. Left to itself, gcc adds such pointers as vectors and takes
 * those to pieces again. */
#define FIND_ROW(k) \
    const T *row = NULL; \
    (void)row; \
    if (reading == FEATURES_APART) { \
        row = from->rows[k] + from->column + first; \
        __asm__("" : "+r"(row)); \
    }

#define DEFINE_SUBTILE(R) \
    INLINE void subtile_##R(const enum Reading reading, const int fetch, const int copying, \
                            const Source *from, int64_t first, const T *b, int64_t K, \
                            const T *init, int64_t init_row, T *c) \
    { \
        const T *a = from->a + first * (reading == ROWS ? BLOCK : 1), *rows[BLOCK]; \
        if (reading == ROWS_APART) \
            for (int i = 0; i < R; i++) \
                rows[i] = from->rows[first + i] + from->column; \
        T *copy = copying ? from->copy + first * BLOCK : NULL; \
        EACH_##R(START) \
        int64_t done = 0; \
        for (; done + BLOCK <= K; done += BLOCK, b += BLOCK * BLOCK, a += from->a_block) { \
            if (fetch) \
                for (int i = 0; i < FETCH; i++) \
                    __builtin_prefetch(from->ahead + done / BLOCK * from->ahead_step + i * LINE, \
                                       0, 2); \
            if (reading == ROWS_APART) { \
                _Pragma("GCC unroll 16") for (int k = 0; k < BLOCK; k += STEPS_APART) \
                { \
                    FIND_ROW(k) /* none */ \
                    LOAD_B_4(k) \
                    EACH_##R(MULTIPLY_ADD_4) \
                } \
                for (int i = 0; i < R; i++) { \
                    if (copying) { \
                        copy_lanes(copy + i * BLOCK, rows[i], BLOCK); \
                        __builtin_prefetch(copy + from->copy_block + i * BLOCK, 1, 3); \
                    } \
                    rows[i] += BLOCK; \
                } \
                if (copying) \
                    copy += from->copy_block; \
                continue; \
            } \
            _Pragma("GCC unroll 16") for (int k = 0; k < BLOCK; k++) \
            { \
                FIND_ROW(done + k) \
                LOAD_B(k) \
                EACH_##R(MULTIPLY_ADD) \
            } \
        } \
        if (copying && done < K) \
            for (int i = 0; i < R; i++) \
                copy_part(copy + i * BLOCK, rows[i], K - done); \
        /* the rest moves its pointers: gcc would keep one for each row, set up for nothing */ \
        for (int64_t left = K - done, at = 0; left > 0; left--, b += BLOCK) { \
            const int64_t k = reading == ROWS || reading == FEATURES ? 0 : at++; \
            FIND_ROW(K - left) \
            LOAD_B(0) \
            EACH_##R(MULTIPLY_ADD) \
            a += reading == ROWS ? 1 : BLOCK; \
        } \
        EACH_##R(FINISH) \
    }

DEFINE_SUBTILE(1)
DEFINE_SUBTILE(2)
DEFINE_SUBTILE(4)
DEFINE_SUBTILE(5)
DEFINE_SUBTILE(6)
DEFINE_SUBTILE(8)
DEFINE_SUBTILE(16)

/* Rows first ... first + R of a tile, for some of its columns. */
#define SUBTILE(R, first, reading, fetch, copying, from, b, K, init, init_row, c) \
    subtile_##R(reading, (fetch) && (first) == 0, copying, from, first, b, K, \
                (init) + (first) * (init_row), init_row, (c) + (first) * BLOCK);

#define DEFINE_TILE(name, reading_, fetch_, copying_, R, SUBTILES) \
    OUTLINE void name##_##R(const Source *from, const T *b, int64_t K, const T *init, \
                            int64_t init_row, T *c) \
    { \
        const enum Reading reading = reading_; \
        const int fetch = fetch_, copying = copying_; \
        const T *start = init; \
        int64_t start_row = init_row; \
        int64_t k = 0; \
        do { /* once at least: the sum over no k is init */ \
            const int64_t depth = K - k < CHUNK ? K - k : CHUNK; \
            Source at = *from; \
            if (reading == ROWS || reading == FEATURES) \
                at.a += k / BLOCK * from->a_block; \
            if (reading == ROWS_APART) \
                at.column += k; \
            if (reading == FEATURES_APART) \
                at.rows += k; \
            if (fetch) \
                at.ahead += k / BLOCK * from->ahead_step; \
            if (copying) \
                at.copy += k / BLOCK * from->copy_block; \
            for (int g = 0; g < COLUMN_GROUPS; g++) { \
                const int lane = g * COLUMNS * LANES; \
                SUBTILES(reading, fetch, copying && g == 0, &at, b + k * BLOCK + lane, depth, \
                         start + lane, start_row, c + lane) \
            } \
            start = c; \
            start_row = BLOCK; \
            k += CHUNK; \
        } while (k < K); \
    }

#define HEIGHT_1(...) SUBTILE(1, 0, __VA_ARGS__)
#define HEIGHT_2(...) SUBTILE(2, 0, __VA_ARGS__)
#define HEIGHT_4(...) SUBTILE(4, 0, __VA_ARGS__)
#if LEVEL == 4 && BITS == 32
#define HEIGHT_16(...) SUBTILE(16, 0, __VA_ARGS__)
#define HEIGHT_8(...) SUBTILE(8, 0, __VA_ARGS__)
#elif LEVEL == 4
#define HEIGHT_16(...) SUBTILE(8, 0, __VA_ARGS__) SUBTILE(8, 8, __VA_ARGS__)
#define HEIGHT_8(...) SUBTILE(8, 0, __VA_ARGS__)
#elif LEVEL == 3
#define HEIGHT_16(...) \
    SUBTILE(6, 0, __VA_ARGS__) SUBTILE(5, 6, __VA_ARGS__) SUBTILE(5, 11, __VA_ARGS__)
#define HEIGHT_8(...) HEIGHT_4(__VA_ARGS__) SUBTILE(4, 4, __VA_ARGS__)
#else
#define HEIGHT_16(...) HEIGHT_8(__VA_ARGS__) SUBTILE(4, 8, __VA_ARGS__) SUBTILE(4, 12, __VA_ARGS__)
#define HEIGHT_8(...) HEIGHT_4(__VA_ARGS__) SUBTILE(4, 4, __VA_ARGS__)
#endif

#define DEFINE_TILES(name, reading, copying) \
    DEFINE_TILE(name, reading, 0, copying, 16, HEIGHT_16) \
    DEFINE_TILE(name, reading, 0, copying, 8, HEIGHT_8) \
    DEFINE_TILE(name, reading, 0, copying, 4, HEIGHT_4) \
    DEFINE_TILE(name, reading, 0, copying, 2, HEIGHT_2) \
    DEFINE_TILE(name, reading, 0, copying, 1, HEIGHT_1)

DEFINE_TILES(rows_tile, ROWS, 0)
DEFINE_TILES(features_tile, FEATURES, 0)
DEFINE_TILE(rows_fetching_tile, ROWS, 1, 0, 16, HEIGHT_16)
DEFINE_TILES(rows_apart_tile, ROWS_APART, 0)
DEFINE_TILES(rows_copying_tile, ROWS_APART, 1)
DEFINE_TILES(features_apart_tile, FEATURES_APART, 0)

/* ---- the wide tile ----
 *
 *   c (8 x 48) = init (8 x 48) + a (8 x K) b (K x 48)
 *
 * b is three panels. A number of a that is loaded once serves three multiply-adds: 11 loads for
 * 24 of them, where 16 x 16 takes 17 for 16 and waits for the loads. 24 of 32 registers hold
 * sums; with two vectors to a row of b (double) four rows would be left, which is slower. */
#if LEVEL == 4 && BITS == 32
#define PANELS 3
#define WIDE_ROWS 8
#define START_WIDE(r) \
    V p##r = load(init + r * init_row), q##r = load(init + init_panel + r * init_row), \
      s##r = load(init + 2 * init_panel + r * init_row);
#define MULTIPLY_ADD_WIDE(r) \
    { \
        V x = splat(ELEMENT(r)); \
        __asm__("" : "+v"(x)); /* in a register: not loaded again by each multiply-add */ \
        p##r += b0 * x; \
        q##r += b1 * x; \
        s##r += b2 * x; \
    }
#define FINISH_WIDE(r) \
    store(c + r * BLOCK, p##r); \
    store(c + c_panel + r * BLOCK, q##r); \
    store(c + 2 * c_panel + r * BLOCK, s##r);
#define LOAD_B_WIDE(k) \
    const V b0 = load(b + (k) * BLOCK), b1 = load(second + (k) * BLOCK), \
            b2 = load(third + (k) * BLOCK);

#define DEFINE_WIDE_TILE(name, reading_, fetch) \
    OUTLINE void name(const Source *from, const T *b, int64_t b_panel, int64_t K, const T *init, \
                      int64_t init_row, int64_t init_panel, T *c, int64_t c_panel) \
    { \
        const enum Reading reading = reading_; \
        const T *a = from->a, *second = b + b_panel, *third = second + b_panel; \
        const T *rows[WIDE_ROWS], *row = NULL; \
        (void)row; \
        if (reading == ROWS_APART) \
            for (int i = 0; i < WIDE_ROWS; i++) \
                rows[i] = from->rows[i] + from->column; \
        EACH_8(START_WIDE) \
        int64_t done = 0; \
        for (; done + BLOCK <= K; done += BLOCK) { \
            if (fetch) \
                for (int i = 0; i < FETCH; i++) \
                    __builtin_prefetch(from->ahead + done / BLOCK * from->ahead_step + i * LINE, \
                                       0, 2); \
            /* four pointers: gcc would keep one for every step, on the stack */ \
            __asm__("" : "+r"(a), "+r"(b), "+r"(second), "+r"(third)); \
            _Pragma("GCC unroll 16") for (int k = 0; k < BLOCK; k++) \
            { \
                LOAD_B_WIDE(k) \
                EACH_8(MULTIPLY_ADD_WIDE) \
            } \
            for (int i = 0; reading == ROWS_APART && i < WIDE_ROWS; i++) \
                rows[i] += BLOCK; \
            a += from->a_block; \
            b += BLOCK * BLOCK, second += BLOCK * BLOCK, third += BLOCK * BLOCK; \
        } \
        for (; done < K; done++) { \
            const int k = 0; \
            LOAD_B_WIDE(k) \
            EACH_8(MULTIPLY_ADD_WIDE) \
            for (int i = 0; reading == ROWS_APART && i < WIDE_ROWS; i++) \
                rows[i]++; \
            a += reading == ROWS ? 1 : BLOCK; \
            b += BLOCK, second += BLOCK, third += BLOCK; \
        } \
        EACH_8(FINISH_WIDE) \
    }

DEFINE_WIDE_TILE(rows_wide_tile, ROWS, 0)
DEFINE_WIDE_TILE(rows_fetching_wide_tile, ROWS, 1)
DEFINE_WIDE_TILE(rows_apart_wide_tile, ROWS_APART, 0)
DEFINE_WIDE_TILE(features_wide_tile, FEATURES, 0)
#else
#define PANELS 1
#endif

/* The lowest tile of at least this height; what lies beyond is computed and not used. */
#define BY_HEIGHT(name, height, ...) \
    ((height) > 8   ? name##_16(__VA_ARGS__) \
     : (height) > 4 ? name##_8(__VA_ARGS__) \
     : (height) > 2 ? name##_4(__VA_ARGS__) \
     : (height) > 1 ? name##_2(__VA_ARGS__) \
                    : name##_1(__VA_ARGS__))

/* to (width x 16) = from (height x 16) transposed, zero beyond the height. LANES rows at a
 * time: interleaving row i with row i + LANES/2 log2(LANES) times over transposes them. */
INLINE void transpose_part(const T *from, const int height, T *to, const int width)
{
    V r[LANES], t[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        r[i] = i < height ? load(from + i * BLOCK) : ZERO;
#pragma GCC unroll 4
    for (int stage = 1; stage < LANES; stage *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            t[i] = interleave(r[i / 2], r[i / 2 + LANES / 2], i % 2);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            r[i] = t[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (i < width)
            store(to + i * BLOCK, r[i]);
}

INLINE void transpose_tile(const T *from, int height, T *to, int width)
{
    for (int o = 0; o < width; o += LANES)
        for (int i = 0; i < BLOCK; i += LANES) {
            if (height == BLOCK && width == BLOCK)
                transpose_part(from + i * BLOCK + o, LANES, to + o * BLOCK + i, LANES);
            else
                transpose_part(from + i * BLOCK + o, height - i, to + o * BLOCK + i, width - o);
        }
}
