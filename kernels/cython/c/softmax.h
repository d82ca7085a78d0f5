/* softmax.h: the one activation that acts on rows, in the blocked layout. */

/* y = softmax(y) for each of `rows` rows; lanes beyond the outputs become zero. */
OUTLINE void softmax_rows(T *y, int64_t stride, int64_t outputs, int64_t rows)
{
    const int64_t blocks = (outputs + BLOCK - 1) / BLOCK;
#define VALID(block, i) (lane_numbers(i) < (I)(outputs - (block) * BLOCK))
#define EACH_VECTOR \
    for (int64_t block = 0; block < blocks; block++) \
        for (int i = 0; i < BLOCK; i += LANES)
    for (int64_t r = 0; r < rows; r++, y += BLOCK) {
        V most = splat(-(T)INFINITY), sum = ZERO;
        EACH_VECTOR
        {
            const V z = choose(VALID(block, i), load(y + block * stride + i), most);
            most = larger_or_second(z, most);
        }
        const T top = largest_of(most);
        EACH_VECTOR
        {
            T *at = y + block * stride + i;
            const V e = keep(VALID(block, i), exp_negative(load(at) - top));
            sum += e;
            store(at, e);
        }
        const T total = sum_of(sum);
        EACH_VECTOR store(y + block * stride + i, load(y + block * stride + i) / total);
    }
#undef VALID
}

/* delta = y (upstream - sum(upstream y)), row by row: the Jacobian of softmax times upstream. */
OUTLINE void softmax_rows_backward(const T *upstream, int64_t upstream_stride, const T *y, T *delta,
                              int64_t stride, int64_t outputs, int64_t rows)
{
    const int64_t blocks = (outputs + BLOCK - 1) / BLOCK;
    for (int64_t r = 0; r < rows; r++, upstream += BLOCK, y += BLOCK, delta += BLOCK) {
        V sum = ZERO;
        EACH_VECTOR sum += load(upstream + block * upstream_stride + i) *
                           load(y + block * stride + i);
        const T dot = sum_of(sum);
        EACH_VECTOR store(delta + block * stride + i,
                          (load(upstream + block * upstream_stride + i) - dot) *
                              load(y + block * stride + i));
    }
#undef EACH_VECTOR
}
