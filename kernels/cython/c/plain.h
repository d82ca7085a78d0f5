/* plain.h: single kernels on row-major arrays, for those who embed them.
 *
 * A product is a network of one layer that lives for the call, so its loops are the trainer's.
 * All return 0, or -1 if memory ran out (nothing is written then). Sums over nothing are zero. */

enum { SLAB = 256 };

/* One dense layer with these weights (in, out) and, unless it is NULL, this bias. */
static int one_layer(Network *network, const KernelTable *kernels, int64_t in, int64_t out,
                     const T *weight, const T *bias, int activation)
{
    *network = (Network){.kernels = kernels};
    if (fastnn_network_begin(network, 1))
        return -1;
    Layer *layer = network->layers;
    layer->kind = KIND_dense;
    layer->in = in;
    layer->out = out;
    layer->activation = activation;
    layer->tensor[DENSE_WEIGHT].present = 1;
    if (fastnn_network_lay(network, sizeof(T)))
        return -1;
    if (weight)
        pack(network, weight, network->parameters);
    if (bias)
        memcpy((T *)network->parameters + layer->tensor[DENSE_BIAS].at, bias,
               (size_t)out * sizeof(T));
    return 0;
}

/* out (rows, out_features) = f(X W + b) */
static int plain_linear_forward(const KernelTable *kernels, const void *X, const void *weight,
                                const void *bias, int activation, void *out, int64_t rows,
                                int64_t in, int64_t out_features)
{
    Network network;
    int status = one_layer(&network, kernels, in, out_features, weight, bias, activation);
    if (!status)
        status = predict(&network, X, out, 0, rows, NULL);
    fastnn_network_free(&network);
    return status;
}

/* weight_gradient (in, out) = X^T delta, bias_gradient = sum over rows of delta */
static int gradient_plain(const KernelTable *kernels, const T *X, const T *delta,
                          T *weight_gradient, T *bias_gradient, int64_t rows, int64_t in,
                          int64_t out)
{
    Network network; /* whose parameters are the gradient */
    if (one_layer(&network, kernels, in, out, NULL, NULL, ACTIVATION_identity)) {
        fastnn_network_free(&network);
        return -1;
    }
    Layer *layer = network.layers;
    const int64_t stride = block_stride(smaller(rows, SLAB));
    const int64_t work = PANELS * (BLOCK * BLOCK + BLOCK);
    T *memory = allocate((layer->in_blocks + layer->out_blocks) * stride + work);
    if (memory) {
        void *activation[2] = {memory, NULL};
        void *deltas[2] = {NULL, memory + layer->in_blocks * stride};
        T *scratch = memory + (layer->in_blocks + layer->out_blocks) * stride;
        const Workspace space = {.activation = activation, .delta = deltas, .stride = stride};
        layer->tensor[DENSE_BIAS].present = 1;
        for (int64_t r0 = 0; r0 < rows; r0 += SLAB) {
            const int64_t count = smaller(SLAB, rows - r0);
            for (int64_t r = 0; r < count; r++) {
                gather_row(X + (r0 + r) * in, in, rows_of(activation, 0, r), stride);
                gather_row(delta + (r0 + r) * out, out, rows_of(deltas, 1, r), stride);
            }
            for (int64_t o = 0; o < layer->out_blocks; o += PANELS)
                for (int64_t i = 0; i == 0 || i < layer->in_blocks; i++) { /* once for biases */
                    const Tile tile = {0, (int32_t)o, (int32_t)i,
                                       (int32_t)smaller(PANELS, layer->out_blocks - o), 0};
                    accumulate_runs(&network, &space, &tile, count, r0 == 0, network.parameters,
                                    scratch);
                }
        }
        layer->tensor[DENSE_BIAS].present = 0;
        if (weight_gradient)
            unpack(&network, network.parameters, weight_gradient);
        if (bias_gradient)
            memcpy(bias_gradient, (T *)network.parameters + layer->tensor[DENSE_BIAS].at,
                   (size_t)out * sizeof(T));
    }
    const int status = memory ? 0 : -1;
    fastnn_release(memory);
    fastnn_network_free(&network);
    return status;
}

OUTLINE int plain_linear_backward(const KernelTable *kernels, const void *X, const void *weight,
                                  const void *delta, void *input_delta, void *weight_gradient,
                                  void *bias_gradient, int64_t rows, int64_t in,
                                  int64_t out_features)
{
    const unsigned environment = flush_subnormals();
    int status = 0;
    if (input_delta) {
        T *transposed = allocate(in * out_features);
        for (int64_t i = 0; transposed && i < in; i++)
            for (int64_t o = 0; o < out_features; o++)
                transposed[o * in + i] = ((const T *)weight)[i * out_features + o];
        status = transposed ? plain_linear_forward(kernels, delta, transposed, NULL,
                                                   ACTIVATION_identity, input_delta, rows,
                                                   out_features, in)
                            : -1;
        fastnn_release(transposed);
    }
    if (!status && (weight_gradient || bias_gradient))
        status = gradient_plain(kernels, X, delta, weight_gradient, bias_gradient, rows, in,
                                out_features);
    restore_subnormals(environment);
    return status;
}

/* Whole blocks in place, then a padded copy of what is left over. */
OUTLINE int plain_activation_forward(const KernelTable *kernels, const void *Z, int activation, void *out, int64_t rows,
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
        fastnn_release(row);
    } else {
        ActivationForward *forward = (ActivationForward *)kernels->forward[activation];
        const int64_t n = rows * columns, whole = n / BLOCK * BLOCK;
        _Alignas(64) T rest[BLOCK] = {0};
        copy_lanes(rest, z + whole, n - whole);
        if (y != z)
            memmove(y, z, (size_t)whole * sizeof(T));
        forward(y, NULL, whole);
        forward(rest, NULL, BLOCK);
        copy_lanes(y + whole, rest, n - whole);
    }
    restore_subnormals(environment);
    return status;
}

OUTLINE int plain_activation_backward(const KernelTable *kernels, const void *Z, const void *output_delta, int activation,
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
        fastnn_release(y);
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
            ((ActivationForward *)kernels->forward[activation])(y, slope, BLOCK);
            multiply_slope(d, slope, d, BLOCK);
            copy_lanes(delta + i, d, lanes);
        }
    }
    restore_subnormals(environment);
    return status;
}

OUTLINE int plain_loss(const KernelTable *kernels, const void *output, const void *target, const int64_t *labels,
                       const void *weight, int loss, Divisor divisor, double parameter, void *delta,
                       double *value, int64_t rows, int64_t columns)
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
    const double inverse = inverse_of(divisor, total, columns);
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
            sum += group_loss((LossElements *)kernels->elements[loss], &group);
        for (int64_t r = 0; r < group.rows; r++)
            scatter_row(buffer + r * BLOCK, BLOCK * BLOCK, (T *)delta + (r0 + r) * columns,
                        columns);
    }
    *value = sum * inverse;
    fastnn_release(buffer);
    restore_subnormals(environment);
    return 0;
}

OUTLINE int plain_update(const KernelTable *kernels, void *parameters, const void *gradient,
                         void *const *moments, int moment_count, int64_t count,
                         const Recipe *recipe, double rate, int64_t step)
{
    const unsigned environment = flush_subnormals();
    Update *update = (Update *)kernels->update[recipe->rule];
    const T *g = gradient, *w = parameters;
    const int64_t whole = count / BLOCK * BLOCK, left = count - whole;
    _Alignas(64) T rest[2 + MOMENTS][BLOCK] = {{0}};
    T *rest_moments[MOMENTS];
    copy_lanes(rest[0], w + whole, left);
    copy_lanes(rest[1], g + whole, left);
    for (int i = 0; i < moment_count; i++) {
        rest_moments[i] = rest[2 + i];
        copy_lanes(rest_moments[i], (T *)moments[i] + whole, left);
    }
    const Network alone = {.step = step};
    Scalars s = step_scalars(recipe->rule, recipe->number, rate, recipe->weight_decay,
                             (double)step, carried_product(&alone, recipe, step));
    if (recipe->clip_norm > 0) {
        /* the norm of gradient + l2 w, then of nothing else */
        double norm = 0;
        for (int64_t i = 0; i < count; i++) {
            const double part = (double)g[i] + recipe->l2 * (double)w[i];
            norm += part * part;
        }
        const double clip = recipe->clip_norm / (sqrt(norm) + 1e-6);
        s.clip = (T)((clip < 1 ? clip : 1) * s.gain);
    }
    s.decay += (T)(recipe->l2 * (double)s.clip);
    update(parameters, (T *const *)moments, 0, g, whole, &s);
    update(rest[0], rest_moments, 0, rest[1], BLOCK, &s);
    copy_lanes((T *)parameters + whole, rest[0], left);
    for (int i = 0; i < moment_count; i++)
        copy_lanes((T *)moments[i] + whole, rest_moments[i], left);
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
