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
 *   FEATURES_APART  matrix: a first layer needs no copy of its input
 *
 * init_row = 16 continues from a tile, 0 starts every row from one vector (the bias).
 *
 * The order of the sum over k is the same for every number of rows, thread and call, so a
 * row's result does not depend on its company. Accumulators are named variables: arrays of
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
} Source;

/* What a is multiplied by and where the sum goes; and how far the next block of each is, for
 * a pair of tiles that read a together. */
typedef struct {
    const T *b, *init;
    T *c;
    int64_t init_row;
    int64_t b_next, init_next, c_next;
} Target;

enum { LINE = 64, FETCH = sizeof(T) }; /* FETCH lines are a quarter of a block of b */

/* Two columns of accumulators share each broadcast of a: the vectors of a block, or, where a
 * block is one vector, of two blocks side by side. The heights of sub-tiles are what fills
 * the register file then. */
#define COLUMNS (VECTORS == 1 ? 1 : 2)
#define COLUMN_GROUPS (VECTORS / COLUMNS)

/* Blocks of outputs that are computed together where there are as many. */
#define TOGETHER (VECTORS == 1 ? 2 : 1)

/* Steps of k in which a tile reads 16 KB of b: half of a first-level cache. Longer sums are
 * made in parts, so that what shares its b finds it there. */
#define CHUNK (16384 / (int64_t)(TOGETHER * BLOCK * sizeof(T)))

#define EACH_1(M) M(0)
#define EACH_2(M) EACH_1(M) M(1)
#define EACH_4(M) EACH_2(M) M(2) M(3)
#define EACH_5(M) EACH_4(M) M(4)
#define EACH_6(M) EACH_5(M) M(5)
#define EACH_8(M) EACH_6(M) M(6) M(7)
#define EACH_16(M) \
    EACH_8(M) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)

#define START(r) \
    V p##r = load(init + (r) * init_row), \
      q##r = columns > 1 ? load(init + init_next + (r) * init_row) : ZERO;
#define MULTIPLY_ADD(r) \
    { \
        const V x = splat(ELEMENT(r)); \
        p##r += b0 * x; \
        if (columns > 1) \
            q##r += b1 * x; \
    }
#define FINISH(r) \
    store(c + (r) * BLOCK, p##r); \
    if (columns > 1) \
        store(c + c_next + (r) * BLOCK, q##r);

#define ELEMENT(r) \
    (reading == ROWS         ? a[(r) * BLOCK + k] \
     : reading == FEATURES   ? a[k * BLOCK + (r)] \
     : reading == ROWS_APART ? rows[r][k] \
                             : rows[k][r])

/* A pointer to each row of a that the next BLOCK steps of k read. */
#define FIND_ROWS(count) \
    if (reading == FEATURES_APART) \
        for (int i = 0; i < (count); i++) \
            rows[i] = from->rows[done + i] + from->column + first;

#define STEP_OF_K(R, k_of_b) \
    { \
        const T *at_b = b + (k_of_b) * BLOCK; \
        const V b0 = load(at_b), b1 = columns > 1 ? load(at_b + b_next) : ZERO; \
        (void)b1; \
        EACH_##R(MULTIPLY_ADD) \
    }

/* Rows first <= r < first + R of a tile, in one or two columns. */
#define DEFINE_SUBTILE(R) \
    INLINE void subtile_##R(const enum Reading reading, const int fetch, const int columns, \
                            const Source *from, int64_t first, const T *b, int64_t b_next, \
                            int64_t K, const T *init, int64_t init_row, int64_t init_next, T *c, \
                            int64_t c_next) \
    { \
        const T *a = from->a + first * (reading == ROWS ? BLOCK : 1), *rows[BLOCK]; \
        if (reading == ROWS_APART) \
            for (int i = 0; i < R; i++) \
                rows[i] = from->rows[first + i] + from->column; \
        EACH_##R(START) \
        int64_t done = 0; \
        for (; done + BLOCK <= K; done += BLOCK, b += BLOCK * BLOCK, a += from->a_block) { \
            FIND_ROWS(BLOCK) \
            for (int i = 0; fetch && i < FETCH * columns / COLUMNS; i++) \
                __builtin_prefetch(from->ahead + done / BLOCK * from->ahead_step + \
                                   i % FETCH * LINE + i / FETCH * b_next * sizeof(T)); \
            _Pragma("GCC unroll 16") for (int k = 0; k < BLOCK; k++) \
                STEP_OF_K(R, k) \
            if (reading == ROWS_APART) \
                for (int i = 0; i < R; i++) \
                    rows[i] += BLOCK; \
        } \
        FIND_ROWS(K - done) \
        for (int64_t left = K - done, at = 0; left > 0; left--, b += BLOCK) { \
            const int64_t k = reading == ROWS || reading == FEATURES ? 0 : at++; \
            STEP_OF_K(R, 0) \
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

/* One height of the tile, as sub-tiles from a row on; of one block, or of two side by side. */
#define SUBTILE(R, row) \
    for (int g = 0; g < COLUMN_GROUPS; g++) \
        subtile_##R(reading, fetch && (row) == 0, COLUMNS, from, row, \
                    to->b + g * COLUMNS * LANES, LANES, K, \
                    to->init + (row) * to->init_row + g * COLUMNS * LANES, to->init_row, LANES, \
                    to->c + (row) * BLOCK + g * COLUMNS * LANES, LANES);
#define PAIR_SUBTILE(row) \
    subtile_8(reading, fetch && (row) == 0, 2, from, row, to->b, to->b_next, K, \
              to->init + (row) * to->init_row, to->init_row, to->init_next, \
              to->c + (row) * BLOCK, to->c_next);

#define DEFINE_TILE(name, reading_, fetch_, R, SUBTILES) \
    OUTLINE void name##_##R(const Source *from, const Target *to, int64_t K) \
    { \
        const enum Reading reading = reading_; \
        const int fetch = fetch_; \
        SUBTILES \
    }

#if LEVEL == 4 && BITS == 32
#define SUBTILES_16 SUBTILE(16, 0)
#define SUBTILES_8 SUBTILE(8, 0)
#elif LEVEL == 4
#define SUBTILES_16 SUBTILE(8, 0) SUBTILE(8, 8)
#define SUBTILES_8 SUBTILE(8, 0)
#elif LEVEL == 3
#define SUBTILES_16 SUBTILE(6, 0) SUBTILE(5, 6) SUBTILE(5, 11)
#define SUBTILES_8 SUBTILE(4, 0) SUBTILE(4, 4)
#else
#define SUBTILES_16 SUBTILE(4, 0) SUBTILE(4, 4) SUBTILE(4, 8) SUBTILE(4, 12)
#define SUBTILES_8 SUBTILE(4, 0) SUBTILE(4, 4)
#endif

#define DEFINE_TILES(name, reading) \
    DEFINE_TILE(name, reading, 0, 16, SUBTILES_16) \
    DEFINE_TILE(name, reading, 0, 8, SUBTILES_8) \
    DEFINE_TILE(name, reading, 0, 4, SUBTILE(4, 0)) \
    DEFINE_TILE(name, reading, 0, 2, SUBTILE(2, 0)) \
    DEFINE_TILE(name, reading, 0, 1, SUBTILE(1, 0))

DEFINE_TILES(rows_tile, ROWS)
DEFINE_TILES(features_tile, FEATURES)
DEFINE_TILE(rows_fetching_tile, ROWS, 1, 16, SUBTILES_16)
DEFINE_TILES(rows_apart_tile, ROWS_APART)
DEFINE_TILES(features_apart_tile, FEATURES_APART)

#if TOGETHER == 2
#define DEFINE_PAIRS(name, reading) \
    DEFINE_TILE(name##_pair, reading, 0, 16, PAIR_SUBTILE(0) PAIR_SUBTILE(8)) \
    DEFINE_TILE(name##_pair, reading, 0, 8, PAIR_SUBTILE(0))

DEFINE_PAIRS(rows_tile, ROWS)
DEFINE_PAIRS(features_tile, FEATURES)
DEFINE_TILE(rows_fetching_tile_pair, ROWS, 1, 16, PAIR_SUBTILE(0) PAIR_SUBTILE(8))
DEFINE_PAIRS(rows_apart_tile, ROWS_APART)
DEFINE_PAIRS(features_apart_tile, FEATURES_APART)
#define PAIR_BY_HEIGHT(name, height, from, to, K) \
    ((height) > 8 ? name##_pair_16(from, to, K) : name##_pair_8(from, to, K))
#else
#define rows_fetching_tile_pair_16 rows_fetching_tile_16
#define PAIR_BY_HEIGHT(name, height, from, to, K) ((void)0)
#endif

/* The lowest tile of at least this height; what lies beyond is computed and not used. */
#define ONE_BY_HEIGHT(name, height, from, to, K) \
    ((height) > 8   ? name##_16(from, to, K) \
     : (height) > 4 ? name##_8(from, to, K) \
     : (height) > 2 ? name##_4(from, to, K) \
     : (height) > 1 ? name##_2(from, to, K) \
                    : name##_1(from, to, K))

/* From step k of the sum on: the first part starts at init, the others at what c holds. */
INLINE Target target_from(const Target *to, int64_t k)
{
    Target rest = *to;
    rest.b += k * BLOCK;
    if (k > 0) {
        rest.init = to->c;
        rest.init_row = BLOCK;
        rest.init_next = to->c_next;
    }
    return rest;
}

INLINE Target next_block(const Target *to)
{
    Target next = *to;
    next.b += to->b_next;
    next.init += to->init_next;
    next.c += to->c_next;
    return next;
}

/* One or two blocks; a pair that is low is two single tiles. */
#define BY_HEIGHT(name, blocks, height, from, to, K) \
    do { \
        if ((blocks) == 2 && (height) > 4) { \
            PAIR_BY_HEIGHT(name, height, from, to, K); \
            break; \
        } \
        ONE_BY_HEIGHT(name, height, from, to, K); \
        if ((blocks) == 2) { \
            const Target next = next_block(to); \
            ONE_BY_HEIGHT(name, height, from, &next, K); \
        } \
    } while (0)

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
