/* pack.h: parameters between the arenas and the flat vector of the contract. */

/* Calls visit(arena offset, flat offset, count) for every run of consecutive parameters. */
#define EACH_RUN(network, visit) \
    do { \
        int64_t flat_at = 0; \
        for (int64_t l = 0; l < (network)->depth; l++) \
            for (int t = 0; t < TENSORS; t++) { \
                const Tensor *tensor = &(network)->layers[l].tensor[t]; \
                const int64_t width = tensor->layout == PANELS_OF_INPUTS    ? 1 \
                                      : tensor->layout == PANELS_OF_OUTPUTS ? BLOCK \
                                                                            : tensor->columns; \
                for (int64_t i = 0; tensor->present && i < tensor->rows; i++) \
                    for (int64_t o = 0; o < tensor->columns; o += width) { \
                        const int64_t at = \
                            tensor->at + (tensor->layout == VECTOR ? 0 \
                                          : tensor->layout == PANELS_OF_INPUTS \
                                              ? (i / BLOCK * tensor->columns + o) * BLOCK + i % BLOCK \
                                              : (o / BLOCK * tensor->rows + i) * BLOCK); \
                        const int64_t count = smaller(width, tensor->columns - o); \
                        visit(at, flat_at, count); \
                        flat_at += count; \
                    } \
            } \
    } while (0)

static void pack(const Network *network, const void *flat, void *arena)
{
#define VISIT(at, flat_at, count) \
    memcpy((T *)arena + (at), (const T *)flat + (flat_at), (size_t)(count) * sizeof(T))
    /* padding too: a network that diverged may have left NaN there */
    memset(arena, 0, (size_t)network->arena_size * sizeof(T));
    EACH_RUN(network, VISIT);
#undef VISIT
}

static void unpack(const Network *network, const void *arena, void *flat)
{
#define VISIT(at, flat_at, count) \
    memcpy((T *)flat + (flat_at), (const T *)arena + (at), (size_t)(count) * sizeof(T))
    EACH_RUN(network, VISIT);
#undef VISIT
}

static void transpose_layer(const Layer *layer, const T *parameters)
{
    for (int32_t o = 0; o < layer->out_blocks; o++)
        for (int32_t i = 0; i < layer->in_blocks; i++) {
            const Tile tile = {.out_block = o, .in_block = i, .width = 1};
            dense_transpose(layer, &tile, parameters);
        }
}

static void transpose_all(Network *network)
{
    for (int64_t l = 0; l < network->depth; l++)
        if (network->layers[l].transposed)
            transpose_layer(&network->layers[l], network->parameters);
}
