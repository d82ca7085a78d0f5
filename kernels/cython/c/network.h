/* network.h: where the parameters of a network lie, laid out once; for every instance. */
#ifndef FASTNN_NETWORK_H
#define FASTNN_NETWORK_H

#include "platform.h"

/* Facts about the kinds: whether the first tensor is a matrix, how many tensors there are, and
 * what a row keeps for the way back. */
static const struct {
    const char *name;
    int is_matrix, tensors, kept;
} fastnn_kinds[KIND_COUNT + 1] = {
    [KIND_dense] = {"dense", 1, 2, 0},
    [KIND_layer_norm] = {"layer_norm", 0, 2, 2},
    [KIND_scale] = {"scale", 0, 1, 0},
};
static inline const char *fastnn_kind_name(int kind) { return fastnn_kinds[kind].name; }

static inline int64_t fastnn_blocks(int64_t features) { return (features + BLOCK - 1) / BLOCK; }

/* The number of these factors, added to the list if they are new. */
static inline int fastnn_factors(Network *network, const Tensor *tensor)
{
    int64_t i = 0;
    for (; i < network->factor_count; i++)
        if (network->factors[i].rate == tensor->rate_factor &&
            network->factors[i].decay == tensor->decay_factor &&
            network->factors[i].penalised == tensor->penalised)
            return (int)i;
    network->factors[network->factor_count++] =
        (Factors){tensor->rate_factor, tensor->decay_factor, tensor->penalised};
    return (int)i;
}

/* Room for a network of so many layers, whose kinds, sizes, activations, dropout, numbers and
 * tensors (present, factors) the caller fills in. 0, or -1 if memory ran out. */
static inline int fastnn_network_begin(Network *network, int64_t depth)
{
    network->depth = depth;
    network->layers = calloc((size_t)depth, sizeof(Layer));
    network->factors = calloc((size_t)depth * TENSORS, sizeof(Factors));
    return network->layers && network->factors ? 0 : -1;
}

/* Lay out what was filled in, and allocate the parameters, all zero. */
static inline int fastnn_network_lay(Network *network, int itemsize)
{
    const double most = (double)((uint64_t)1 << 62);
    int64_t end = 0;
    for (int64_t l = 0; l < network->depth; l++) {
        Layer *layer = &network->layers[l];
        const int is_matrix = fastnn_kinds[layer->kind].is_matrix;
        layer->in_blocks = fastnn_blocks(layer->in);
        layer->out_blocks = fastnn_blocks(layer->out);
        layer->narrow = is_matrix && layer->out <= NARROW;
        layer->tile_rows = is_matrix ? layer->in_blocks : 1;
        layer->kept = fastnn_kinds[layer->kind].kept;
        for (int t = 0; t < fastnn_kinds[layer->kind].tensors; t++) {
            Tensor *tensor = &layer->tensor[t];
            tensor->rows = is_matrix && t == 0 ? layer->in : 1;
            tensor->columns = layer->out;
            tensor->layout = tensor->rows == 1 && !(is_matrix && t == 0) ? VECTOR
                             : layer->narrow                             ? PANELS_OF_INPUTS
                                                                         : PANELS_OF_OUTPUTS;
            const double size = (double)BLOCK *
                                (tensor->layout == PANELS_OF_INPUTS
                                     ? (double)layer->in_blocks * (double)layer->out
                                     : (double)layer->out_blocks * (double)tensor->rows);
            if (((double)end + size) * itemsize >= most)
                return -1;
            tensor->at = end;
            tensor->size = (int64_t)size;
            tensor->factors = fastnn_factors(network, tensor);
            end += tensor->size;
        }
        if (l > 0 && is_matrix && !layer->narrow) {
            layer->transposed = fastnn_allocate((uint64_t)layer->in_blocks * (uint64_t)layer->out *
                                                BLOCK * (uint64_t)itemsize);
            if (!layer->transposed)
                return -1;
        }
    }
    network->arena_size = end + BLOCK * BLOCK; /* a tile may be read past its last row */
    network->parameters =
        fastnn_allocate((uint64_t)network->arena_size * (uint64_t)itemsize);
    return network->parameters ? 0 : -1;
}

static inline void fastnn_network_free(Network *network)
{
    for (int64_t l = 0; network->layers && l < network->depth; l++)
        fastnn_release(network->layers[l].transposed);
    for (int i = 0; i < MOMENTS; i++)
        fastnn_release(network->moments[i]);
    fastnn_release(network->parameters);
    free(network->factors);
    free(network->layers);
}

#endif
