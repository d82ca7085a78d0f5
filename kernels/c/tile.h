/* tile.h: the micro-tile, where the time is spent.
 *
 *   c (16 x 16) = init (16 x 16) + a (16 x K) b (K x 16)
 *
 * b streams as rows of 16; every number of a is broadcast and multiplied into a row of
 * accumulators, one fused multiply-add for each of their vectors. Two ways to read a:
 *
 *   ROWS       a is [K/16][row][16]: 16 rows of activations against a weight panel
 *   FEATURES   a is [K][16]:         16 features against deltas, K runs over rows
 *
 * init_row = 16 continues from a tile, 0 starts every row from one vector (the bias).
 *
 * The order of the sum over k is the same for every number of rows, thread and call, so a
 * row's result does not depend on its company. Accumulators are named variables: arrays of
 * vectors spill. */

enum Reading { ROWS, FEATURES };

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
#define LOAD_B const V b0 = load(b + k * BLOCK);
#define START(r) V p##r = load(init + r * init_row);
#define MULTIPLY_ADD(r) p##r += b0 * splat(a[r * row + k * step]);
#define FINISH(r) store(c + r * BLOCK, p##r);
#else
#define LOAD_B const V b0 = load(b + k * BLOCK), b1 = load(b + k * BLOCK + LANES);
#define START(r) V p##r = load(init + r * init_row), q##r = load(init + r * init_row + LANES);
#define MULTIPLY_ADD(r) \
    { \
        const V x = splat(a[r * row + k * step]); \
        p##r += b0 * x; \
        q##r += b1 * x; \
    }
#define FINISH(r) \
    store(c + r * BLOCK, p##r); \
    store(c + r * BLOCK + LANES, q##r);
#endif

#define DEFINE_SUBTILE(R) \
    INLINE void subtile_##R(const enum Reading reading, const T *a, int64_t a_block, const T *b, \
                            int64_t K, const T *init, int64_t init_row, T *c) \
    { \
        const int64_t row = reading == ROWS ? BLOCK : 1, step = reading == ROWS ? 1 : BLOCK; \
        EACH_##R(START) \
        for (; K >= BLOCK; K -= BLOCK, a += a_block, b += BLOCK * BLOCK) \
            _Pragma("GCC unroll 4") for (int64_t k = 0; k < BLOCK; k++) \
            { \
                LOAD_B \
                EACH_##R(MULTIPLY_ADD) \
            } \
        for (int64_t k = 0; k < K; k++) { \
            LOAD_B \
            EACH_##R(MULTIPLY_ADD) \
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

/* One height of the tile, as sub-tiles of `first`, then `second`, then `third` rows. */
#define SUBTILE(R, from) \
    subtile_##R(reading, a_k + (from) * row, a_block, b_k + g * COLUMNS * LANES, depth, \
                start + (from) * start_row + g * COLUMNS * LANES, start_row, \
                c + (from) * BLOCK + g * COLUMNS * LANES);

#define DEFINE_TILE(name, reading_, R, SUBTILES) \
    OUTLINE void name##_##R(const T *a, int64_t a_block, const T *b, int64_t K, const T *init, \
                            int64_t init_row, T *c) \
    { \
        const enum Reading reading = reading_; \
        const int64_t row = reading == ROWS ? BLOCK : 1; \
        const T *start = init; \
        int64_t start_row = init_row; \
        for (int64_t k = 0; k < K; k += CHUNK) { \
            const int64_t depth = K - k < CHUNK ? K - k : CHUNK; \
            const T *a_k = a + k / BLOCK * a_block, *b_k = b + k * BLOCK; \
            for (int g = 0; g < COLUMN_GROUPS; g++) { \
                SUBTILES \
            } \
            start = c; \
            start_row = BLOCK; \
            if (CHUNK == INT64_MAX) \
                break; \
        } \
        (void)row; \
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
    DEFINE_TILE(name, reading, 16, SUBTILES_16) \
    DEFINE_TILE(name, reading, 8, SUBTILES_8) \
    DEFINE_TILE(name, reading, 4, SUBTILE(4, 0)) \
    DEFINE_TILE(name, reading, 2, SUBTILE(2, 0)) \
    DEFINE_TILE(name, reading, 1, SUBTILE(1, 0))

DEFINE_TILES(rows_tile, ROWS)
DEFINE_TILES(features_tile, FEATURES)

#define BY_HEIGHT(name, height, ...) \
    ((height) > 8   ? name##_16(__VA_ARGS__) \
     : (height) > 4 ? name##_8(__VA_ARGS__) \
     : (height) > 2 ? name##_4(__VA_ARGS__) \
     : (height) > 1 ? name##_2(__VA_ARGS__) \
                    : name##_1(__VA_ARGS__))

/* to (16 x 16) = from transposed, from's rows at `from_row`, `height` of them, the rest zero */
INLINE void transpose_tile(const T *from, int64_t from_row, int64_t height, T *to, int64_t width)
{
    for (int64_t o = 0; o < width; o++)
        for (int64_t i = 0; i < BLOCK; i++)
            to[o * BLOCK + i] = i < height ? from[i * from_row + o] : 0;
}
