/* inference.h: prediction and input gradients.
 *
 * Buffers are allocated for each call, so any number of threads may call at once. */

static T *allocate(int64_t elements)
{
    return fastnn_allocate_block((uint64_t)elements * sizeof(T));
}

static int64_t widest(const Network *network)
{
    int64_t blocks = network->layers[0].in_blocks;
    for (int64_t l = 0; l < network->depth; l++)
        if (network->layers[l].out_blocks > blocks)
            blocks = network->layers[l].out_blocks;
    return blocks;
}

static const Masks no_masks = {0};

OUTLINE int predict(const Network *network, const void *X, void *out, int64_t first, int64_t last,
                    int (*poll)(void))
{
    enum { ON_STACK = 4096, FEW_LAYERS = 16 };
    _Alignas(64) T small[ON_STACK];
    void *few[FEW_LAYERS];
    const int64_t depth = network->depth, in = network->layers[0].in;
    const int64_t outputs = network->layers[depth - 1].out;
    const int64_t tile = smaller(last - first, ROW_TILE);
    const int64_t stride = tile == 1 ? BLOCK : block_stride(tile);
    const int64_t size = widest(network) * stride;
    const int apart = reads_apart(network);
    T *buffer = 2 * size <= ON_STACK ? small : allocate(2 * size);
    void **boundaries = depth < FEW_LAYERS ? few : malloc((size_t)(depth + 1) * sizeof(void *));
    const T *places[ROW_TILE + BLOCK];
    /* copied from twice as many blocks on as in training: rows in order share what is fetched
     * with them */
    const Workspace space = {.activation = boundaries,
                             .stride = stride,
                             .rows = apart ? (const void **)places : NULL,
                             .in_place = network->layers[0].out_blocks <= 2 * FEW_BLOCKS};
    const unsigned environment = flush_subnormals();
    int64_t next_poll = 0;
    int status = buffer && boundaries ? 0 : -1;
    if (last - first > ROW_TILE)
        next_poll = clock_now() + POLL_INTERVAL;
    for (int64_t l = 0; !status && l <= depth; l++)
        boundaries[l] = buffer + l % 2 * size;
    for (int64_t r0 = first; !status && r0 < last; r0 += tile) {
        const int64_t rows = smaller(tile, last - r0);
        if (r0 > first && should_stop(poll, &next_poll)) {
            status = 1;
            break;
        }
        for (int64_t r = 0; apart && r < pointers_for(rows); r++)
            places[r] = (const T *)X + (r0 + smaller(r, rows - 1)) * in;
        for (int64_t r = 0; !apart && r < rows; r++)
            gather_row((const T *)X + (r0 + r) * in, in, buffer + r * BLOCK, stride);
        forward_pass(network, &space, 0, 0, &no_masks, 0, rows);
        for (int64_t r = 0; r < rows; r++)
            scatter_row((T *)boundaries[depth] + r * BLOCK, stride, (T *)out + (r0 + r) * outputs,
                        outputs);
    }
    restore_subnormals(environment);
    if (buffer != small)
        fastnn_release(buffer);
    if (boundaries != few)
        free(boundaries);
    return status;
}

/* out (rows, count, in): for each listed output o, d output o / d input, by one backward pass
 * that starts from the o-th unit vector. The slopes are kept apart from the deltas, since
 * every output needs them. */
OUTLINE int input_gradient(const Network *network, const void *X, const int64_t *outputs,
                           int64_t count, void *out, int64_t rows, int (*poll)(void))
{
    const int64_t depth = network->depth, stride = block_stride(BLOCK);
    const int64_t size = widest(network) * stride;
    const Layer *first = &network->layers[0];
    const int transposes = first->kind == KIND_dense && !first->narrow;
    Network local = *network; /* whose first layer has a transposed copy too */
    /* activations, slopes; two deltas; scratch; what layers keep; W0 transposed */
    T *memory = allocate((2 * (depth + 1) + 2) * size + PANELS * ROW_TILE * BLOCK +
                         2 * depth * BLOCK + (transposes ? first->in_blocks * first->out * BLOCK : 0));
    void **buffers = malloc((size_t)(4 * (depth + 1)) * sizeof(void *));
    local.layers = malloc((size_t)depth * sizeof(Layer));
    int status = memory && buffers && local.layers ? 0 : -1;
    const unsigned environment = flush_subnormals();
    T *scratch = NULL;
    if (!status) {
        void **const part[] = {buffers, buffers + depth + 1, buffers + 2 * (depth + 1),
                               buffers + 3 * (depth + 1)};
        T *deltas = memory + 2 * (depth + 1) * size;
        scratch = deltas + 2 * size;
        for (int64_t l = 0; l <= depth; l++) {
            part[0][l] = memory + l * size;
            part[1][l] = memory + (depth + 1 + l) * size;
            part[2][l] = deltas + l % 2 * size;
            part[3][l] = scratch + PANELS * ROW_TILE * BLOCK + 2 * l * BLOCK;
        }
        memcpy(local.layers, network->layers, (size_t)depth * sizeof(Layer));
        if (transposes) {
            local.layers[0].transposed = part[3][depth];
            transpose_layer(&local.layers[0], network->parameters);
        }
    }
    const Workspace space = {.activation = buffers, .slope = buffers + depth + 1,
                             .delta = buffers + 2 * (depth + 1), .kept = buffers + 3 * (depth + 1),
                             .stride = stride};
    int64_t next_poll = clock_now() + POLL_INTERVAL;
    for (int64_t r0 = 0; r0 < rows && !status; r0 += BLOCK) {
        const int64_t height = smaller(BLOCK, rows - r0);
        for (int64_t r = 0; r < height; r++)
            gather_row((const T *)X + (r0 + r) * first->in, first->in,
                       (T *)buffers[0] + r * BLOCK, stride);
        forward_pass(&local, &space, 0, 1, &no_masks, 0, height);
        for (int64_t c = 0; c < count && !status; c++) {
            const int64_t o = outputs[c];
            T *delta = space.delta[depth];
            memset(delta, 0, (size_t)size * sizeof(T));
            for (int64_t r = 0; r < height; r++)
                delta[o / BLOCK * stride + r * BLOCK + o % BLOCK] = 1;
            backward_through_output(&local, &space, delta, stride, 0, height);
            backward_pass(&local, &space, 0, 0, 0, height, scratch);
            for (int64_t r = 0; r < height; r++)
                scatter_row((T *)space.delta[0] + r * BLOCK, stride,
                            (T *)out + ((r0 + r) * count + c) * first->in, first->in);
            status = should_stop(poll, &next_poll);
        }
    }
    restore_subnormals(environment);
    free(local.layers);
    free(buffers);
    fastnn_release(memory);
    return status;
}
