/* plain.h: single kernels on row-major arrays, for those who embed them.
 *
 * Each packs a slab of rows into the blocked layout and calls the same tile as the trainer.
 * All return 0, or -1 if memory ran out (nothing is written then). */

enum { SLAB = 256 };

/* panels [columns/16][rows][16] of a row-major matrix (rows, columns), zero-padded */
static void pack_panels(const T *matrix, int64_t rows, int64_t columns, T *panels)
{
    for (int64_t r = 0; r < rows; r++)
        gather_row(matrix + r * columns, columns, panels + r * BLOCK, rows * BLOCK);
}

/* the same of its transpose: panels [rows/16][columns][16] */
static void pack_transposed(const T *matrix, int64_t rows, int64_t columns, T *panels)
{
    for (int64_t r = 0; r < rows; r += BLOCK)
        for (int64_t c = 0; c < columns; c += BLOCK)
            for (int64_t o = c; o < smaller(c + BLOCK, columns); o++)
                for (int64_t i = 0; i < BLOCK; i++)
                    panels[(r / BLOCK * columns + o) * BLOCK + i] =
                        r + i < rows ? matrix[(r + i) * columns + o] : 0;
}

/* out (rows, columns) = f(X (rows, depth) panels + bias) */
static int multiply_plain(const T *X, int64_t rows, int64_t depth, const T *panels,
                          int64_t columns, const T *bias, int activation, T *out)
{
    const int64_t stride = block_stride(smaller(rows, SLAB));
    const int64_t x_blocks = (depth + BLOCK - 1) / BLOCK, y_blocks = (columns + BLOCK - 1) / BLOCK;
    T *x = allocate((x_blocks + y_blocks) * stride);
    if (!x)
        return -1;
    T *y = x + x_blocks * stride;
    for (int64_t r0 = 0; r0 < rows; r0 += SLAB) {
        const int64_t count = smaller(SLAB, rows - r0);
        for (int64_t r = 0; r < count; r++)
            gather_row(X + (r0 + r) * depth, depth, x + r * BLOCK, stride);
        for (int64_t block = 0; block < y_blocks; block += PANELS) {
            const int64_t width = smaller(PANELS, y_blocks - block);
            _Alignas(64) T start[PANELS * BLOCK] = {0};
            if (bias)
                memcpy(start, bias + block * BLOCK,
                       (size_t)smaller(width * BLOCK, columns - block * BLOCK) * sizeof(T));
            multiply_panels(x, stride, NULL, panels + block * depth * BLOCK, width, depth, start,
                            BLOCK, y + block * stride, stride, count);
            for (int64_t j = block; activation != ACTIVATION_identity && j < block + width; j++)
                activations[activation].forward(y + j * stride, NULL, count * BLOCK);
        }
        if (activation == ACTIVATION_softmax)
            softmax_rows(y, stride, columns, count);
        for (int64_t r = 0; r < count; r++)
            scatter_row(y + r * BLOCK, stride, out + (r0 + r) * columns, columns);
    }
    free(x);
    return 0;
}

OUTLINE int plain_linear_forward(const void *X, const void *weight, const void *bias,
                                 int activation, void *out, int64_t rows, int64_t in,
                                 int64_t out_features)
{
    const unsigned environment = flush_subnormals();
    T *panels = allocate((out_features + BLOCK) * in);
    int status = -1;
    if (panels) {
        pack_panels(weight, in, out_features, panels);
        status = multiply_plain(X, rows, in, panels, out_features, bias, activation, out);
    }
    free(panels);
    restore_subnormals(environment);
    return status;
}

/* weight_gradient (in, out) = X^T delta, bias_gradient = sum over rows of delta */
static int gradient_plain(const T *X, const T *delta, T *weight_gradient, T *bias_gradient_,
                          int64_t rows, int64_t in, int64_t out)
{
    const int64_t x_blocks = (in + BLOCK - 1) / BLOCK, d_blocks = (out + BLOCK - 1) / BLOCK;
    const int64_t stride = block_stride(smaller(rows, SLAB));
    const int64_t sums = (x_blocks * BLOCK * d_blocks + d_blocks) * BLOCK;
    T *memory = allocate((x_blocks + d_blocks) * stride + sums);
    if (!memory)
        return -1;
    T *x = memory, *d = x + x_blocks * stride, *weights = d + d_blocks * stride;
    T *biases = weights + x_blocks * BLOCK * d_blocks * BLOCK;
    memset(weights, 0, (size_t)sums * sizeof(T));
    for (int64_t r0 = 0; r0 < rows; r0 += SLAB) {
        const int64_t count = smaller(SLAB, rows - r0);
        for (int64_t r = 0; r < count; r++) {
            if (weight_gradient)
                gather_row(X + (r0 + r) * in, in, x + r * BLOCK, stride);
            gather_row(delta + (r0 + r) * out, out, d + r * BLOCK, stride);
        }
        for (int64_t o = 0; o < d_blocks; o++) {
            for (int64_t i = 0; weight_gradient && i < x_blocks; i++) {
                T *tile = weights + (i * d_blocks + o) * BLOCK * BLOCK;
                const Source from = {.a = x + i * stride, .a_block = BLOCK * BLOCK};
                BY_HEIGHT(features_tile, smaller(BLOCK, in - i * BLOCK), &from, d + o * stride,
                          count, tile, BLOCK, tile);
            }
            bias_gradient(d + o * stride, count, biases + o * BLOCK, biases + o * BLOCK);
        }
    }
    for (int64_t i = 0; weight_gradient && i < in; i++)
        scatter_row(weights + (i / BLOCK * d_blocks * BLOCK + i % BLOCK) * BLOCK, BLOCK * BLOCK,
                    weight_gradient + i * out, out);
    if (bias_gradient_)
        scatter_row(biases, BLOCK, bias_gradient_, out);
    free(memory);
    return 0;
}

OUTLINE int plain_linear_backward(const void *X, const void *weight, const void *delta,
                                  void *input_delta, void *weight_gradient, void *bias_gradient_,
                                  int64_t rows, int64_t in, int64_t out_features)
{
    const unsigned environment = flush_subnormals();
    int status = 0;
    if (input_delta) {
        T *panels = allocate((in + BLOCK) * out_features);
        status = -1;
        if (panels) {
            pack_transposed(weight, in, out_features, panels);
            status = multiply_plain(delta, rows, out_features, panels, in, NULL,
                                    ACTIVATION_identity, input_delta);
        }
        free(panels);
    }
    if (!status && (weight_gradient || bias_gradient_))
        status = gradient_plain(X, delta, weight_gradient, bias_gradient_, rows, in, out_features);
    restore_subnormals(environment);
    return status;
}

/* Runs `body` on whole blocks in place, then on a padded copy of what is left over. */
OUTLINE int plain_activation_forward(const void *Z, int activation, void *out, int64_t rows,
                                     int64_t columns)
{
    const unsigned environment = flush_subnormals();
    const T *z = Z;
    T *y = out;
    int status = 0;
    if (activation == ACTIVATION_softmax) {
        const int64_t blocks = (columns + BLOCK - 1) / BLOCK;
        T *row = allocate(blocks * BLOCK);
        status = row ? 0 : -1;
        for (int64_t r = 0; row && r < rows; r++) {
            gather_row(z + r * columns, columns, row, BLOCK);
            softmax_rows(row, BLOCK, columns, 1);
            scatter_row(row, BLOCK, y + r * columns, columns);
        }
        free(row);
    } else {
        const int64_t n = rows * columns, whole = n / BLOCK * BLOCK;
        _Alignas(64) T rest[BLOCK] = {0};
        copy_lanes(rest, z + whole, n - whole);
        if (y != z)
            memmove(y, z, (size_t)whole * sizeof(T));
        activations[activation].forward(y, NULL, whole);
        activations[activation].forward(rest, NULL, BLOCK);
        copy_lanes(y + whole, rest, n - whole);
    }
    restore_subnormals(environment);
    return status;
}

OUTLINE int plain_activation_backward(const void *Z, const void *output_delta, int activation,
                                      void *out, int64_t rows, int64_t columns)
{
    const unsigned environment = flush_subnormals();
    const T *z = Z, *upstream = output_delta;
    T *delta = out;
    int status = 0;
    if (activation == ACTIVATION_softmax) {
        const int64_t blocks = (columns + BLOCK - 1) / BLOCK;
        T *y = allocate(2 * blocks * BLOCK);
        status = y ? 0 : -1;
        for (int64_t r = 0; y && r < rows; r++) {
            T *d = y + blocks * BLOCK;
            gather_row(z + r * columns, columns, y, BLOCK);
            gather_row(upstream + r * columns, columns, d, BLOCK);
            softmax_rows(y, BLOCK, columns, 1);
            softmax_rows_backward(d, BLOCK, y, d, BLOCK, columns, 1);
            scatter_row(d, BLOCK, delta + r * columns, columns);
        }
        free(y);
    } else {
        _Alignas(64) T y[BLOCK], slope[BLOCK], d[BLOCK];
        for (int64_t i = 0, n = rows * columns; i < n; i += BLOCK) {
            const int64_t lanes = smaller(BLOCK, n - i);
            for (int v = 0; v < BLOCK; v += LANES) {
                store(y + v, ZERO);
                store(d + v, ZERO);
            }
            copy_lanes(y, z + i, lanes);
            copy_lanes(d, upstream + i, lanes);
            activations[activation].forward(y, slope, BLOCK);
            multiply_slope(d, slope, d, BLOCK);
            copy_lanes(delta + i, d, lanes);
        }
    }
    restore_subnormals(environment);
    return status;
}

OUTLINE int plain_loss(const void *output, const void *target, const int64_t *labels,
                       const void *weight, int loss, double parameter, void *delta, double *value,
                       int64_t rows, int64_t columns)
{
    const unsigned environment = flush_subnormals();
    const int64_t blocks = (columns + BLOCK - 1) / BLOCK;
    T *buffer = allocate(blocks * BLOCK * BLOCK);
    if (!buffer) {
        restore_subnormals(environment);
        return -1;
    }
    double total = weight ? 0 : (double)rows, sum = 0;
    for (int64_t r = 0; weight && r < rows; r++)
        total += (double)((const T *)weight)[r];
    const double inverse = inverse_of(loss, 0, total, columns);
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        Group group = {.output = buffer, .delta = buffer, .stride = BLOCK * BLOCK,
                       .outputs = columns, .rows = smaller(BLOCK, rows - r0),
                       .parameter = (T)parameter};
        for (int64_t r = 0; r < group.rows; r++) {
            gather_row((const T *)output + (r0 + r) * columns, columns, buffer + r * BLOCK,
                       BLOCK * BLOCK);
            group.target[r] = target ? (const T *)target + (r0 + r) * columns : NULL;
            group.label[r] = labels ? labels[r0 + r] : 0;
            group.weight[r] = weight ? ((const T *)weight)[r0 + r] : 1;
            group.scale[r] = (T)((double)group.weight[r] * inverse);
        }
        if (inverse == 0)
            clear_delta(&group);
        else
            sum += group_loss(loss, &group);
        for (int64_t r = 0; r < group.rows; r++)
            scatter_row(buffer + r * BLOCK, BLOCK * BLOCK, (T *)delta + (r0 + r) * columns,
                        columns);
    }
    *value = sum * inverse;
    free(buffer);
    restore_subnormals(environment);
    return 0;
}

OUTLINE int plain_update(void *parameters, const void *gradient, void *moment_0, void *moment_1,
                         int64_t count, const Recipe *recipe, double rate, int64_t step)
{
    const unsigned environment = flush_subnormals();
    T *arrays[4] = {parameters, moment_0, moment_1, (T *)gradient};
    const int64_t whole = count / BLOCK * BLOCK, left = count - whole;
    _Alignas(64) T rest[4][BLOCK] = {{0}};
    for (int i = 0; i < 4; i++)
        if (arrays[i])
            copy_lanes(rest[i], arrays[i] + whole, left);
    Scalars s = step_scalars(recipe, rate, step);
    if (recipe->clip_norm > 0) {
        /* the norm of gradient + l2 w, then of nothing else */
        double norm = 0;
        for (int64_t i = 0; i < count; i++) {
            const double g = (double)arrays[3][i] + recipe->l2 * (double)arrays[0][i];
            norm += g * g;
        }
        const double clip = recipe->clip_norm / (sqrt(norm) + 1e-6);
        s.clip = (T)((clip < 1 ? clip : 1) * s.gain);
    }
    s.decay += (T)(recipe->l2 * (double)s.clip);
    const Optimizer *optimizer = &optimizers[recipe->optimizer];
    optimizer->update(arrays[0], arrays[1], arrays[2], arrays[3], whole, &s);
    optimizer->update(rest[0], rest[1], rest[2], rest[3], BLOCK, &s);
    for (int i = 0; i < 3; i++)
        if (arrays[i])
            copy_lanes(arrays[i] + whole, rest[i], left);
    restore_subnormals(environment);
    return 0;
}

/* A number is finite unless all bits of its exponent are set. */
OUTLINE int plain_all_finite(const void *values, int64_t count, int64_t stride)
{
    const T *x = values;
    const I exponent = (((I)1 << (BITS - 1 - EXPONENT_BITS)) - 1) << EXPONENT_BITS;
    const VI mask = (VI){0} + exponent;
    VI bad[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    if (stride == 1)
        for (; i + 4 * LANES <= count; i += 4 * LANES)
            for (int j = 0; j < 4; j++)
                bad[j] |= ((VI)load(x + i + j * LANES) & mask) == mask;
    I found = 0;
    for (int lane = 0; lane < LANES; lane++)
        found |= (bad[0] | bad[1] | bad[2] | bad[3])[lane];
    for (; i < count; i++) {
        I bits;
        memcpy(&bits, x + i * stride, sizeof bits);
        found |= (bits & exponent) == exponent;
    }
    return !found;
}
