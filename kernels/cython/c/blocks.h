/* blocks.h: rows of features in and out of the blocked layout. */

enum { ROW_TILE = 128 }; /* rows that go through all layers together */

static const T zeros[BLOCK] = {0};

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t block_stride(int64_t rows)
{
    /* one line more than a multiple of 1 KB, so that blocks do not share cache sets */
    return (rows + BLOCK - 1) / BLOCK * BLOCK * BLOCK + BLOCK;
}

/* Fewer than 16 features of a row as a block, zero beyond. */
INLINE void copy_part(T *block, const T *row, int64_t features)
{
    for (int i = 0; i < BLOCK; i += LANES)
        store(block + i, ZERO);
    copy_lanes(block, row, features);
}

INLINE void gather_row(const T *row, int64_t features, T *block, int64_t stride)
{
    for (; features >= BLOCK; features -= BLOCK, row += BLOCK, block += stride)
        copy_lanes(block, row, BLOCK);
    if (features > 0)
        copy_part(block, row, features);
}

INLINE void scatter_row(const T *block, int64_t stride, T *row, int64_t features)
{
    for (; features > 0; features -= BLOCK, row += BLOCK, block += stride)
        copy_lanes(row, block, smaller(features, BLOCK));
}

/* Lanes of block `block` of `features` that are features. */
INLINE VI valid_lanes(int64_t features, int64_t block, int vector)
{
    return lane_numbers((I)vector) < (I)(features - block * BLOCK);
}

/* Pointers that products over so many rows apart may read: tiles take 16, a single row is none. */
INLINE int64_t pointers_for(int64_t rows) { return rows == 1 ? 1 : (rows + BLOCK - 1) / BLOCK * BLOCK; }

INLINE T *rows_of(void *const *buffers, int64_t boundary, int64_t first)
{
    return (T *)buffers[boundary] + first * BLOCK;
}
