/* kinds.h: what a kind of layer is. To add one: a file in kinds/ with the functions below, its
 * name in KINDS (fastnn.h), its facts in network.h and in kernels/contract.py.
 *
 *   NAME_forward    activation[l + 1] = what the layer makes of activation[l], before its
 *                   activation function, for rows first ... first + rows of the workspace
 *   NAME_backward   d loss / d activation[l] from delta[l + 1], block by block through
 *                   `descend`, which makes the delta of the layer before of it
 *   NAME_runs       how many runs of consecutive numbers a tile's parameters are
 *   NAME_run        where the i-th of them lies
 *   NAME_gradient   their gradient over `rows` rows, run by run to c; it starts from c if
 *                   `continued`, else from zero
 *
 * No function sums over rows that another thread may have, except NAME_gradient, which sums
 * over all of them in one order. */

/* Consecutive parameters of a tile: in the arenas, and in the tile's own memory. */
typedef struct {
    const Tensor *tensor;
    int64_t at, count;
    int64_t from;
} Run;

INLINE ActivationForward *forward_of(const Network *network, int row)
{
    return (ActivationForward *)network->kernels->forward[row];
}

INLINE ActivationBackward *backward_of(const Network *network, int row)
{
    return (ActivationBackward *)network->kernels->backward[row];
}

/* The activation that layer `l` applies: none if the loss takes its logits. */
INLINE int activation_of(const Network *network, int64_t l, int fused)
{
    return fused && l == network->depth - 1 ? ACTIVATION_identity : network->layers[l].activation;
}

/* Whether the forward pass leaves f'(z) of layer l among the slopes. */
INLINE int keeps_slope(const Network *network, int64_t l, int fused, int training)
{
    return !backward_of(network, activation_of(network, l, fused)) ||
           (training && l + 1 < network->depth && network->layers[l + 1].dropout > 0);
}

/* delta of layer l's z from d loss / d (its output), n numbers; in place or from elsewhere */
INLINE void through_activation(const Network *network, int64_t l, int training,
                               const T *upstream, const T *y, const T *slope, T *delta, int64_t n)
{
    if (keeps_slope(network, l, 0, training))
        multiply_slope(upstream, slope, delta, n);
    else
        backward_of(network, network->layers[l].activation)(upstream, y, delta, n);
}

/* Blocks block ... block + count of d loss / d activation[l], `apart` numbers from each other,
 * become delta[l]; for the input they are that themselves. */
INLINE void descend(const Network *network, const Workspace *space, int training, int64_t l,
                    int64_t block, int64_t count, const T *upstream, int64_t apart,
                    int64_t first, int64_t rows)
{
    for (int64_t j = 0; j < count; j++, upstream += apart) {
        const int64_t at = (block + j) * space->stride;
        T *delta = rows_of(space->delta, l, first) + at;
        if (l == 0)
            memcpy(delta, upstream, (size_t)(rows * BLOCK) * sizeof(T));
        else
            through_activation(network, l - 1, training, upstream,
                               rows_of(space->activation, l, first) + at,
                               rows_of(space->slope, l, first) + at, delta, rows * BLOCK);
    }
}

/* Of kinds whose tensors are all vectors: the tile's blocks of each, one after another. */
INLINE int vector_runs(const Layer *layer, const Tile *tile)
{
    return tile->width * (layer->tensor[0].present + layer->tensor[1].present);
}

INLINE Run vector_run(const Layer *layer, const Tile *tile, int i)
{
    const int both = layer->tensor[0].present && layer->tensor[1].present;
    const Tensor *tensor = &layer->tensor[both ? i % 2 : layer->tensor[1].present];
    const int32_t block = tile->out_block + (both ? i / 2 : i);
    return (Run){tensor, tensor->at + block * BLOCK, BLOCK, i * BLOCK};
}

#include "kinds/dense.h"
#include "kinds/layer_norm.h"
#include "kinds/scale.h"

#define CASE_FORWARD(name) \
    case KIND_##name: \
        name##_forward(network, l, space, first, rows); \
        break;
#define CASE_BACKWARD(name) \
    case KIND_##name: \
        name##_backward(network, l, space, training, first, rows, scratch); \
        break;
#define CASE_RUNS(name) \
    case KIND_##name: \
        return name##_runs(layer, tile);
#define CASE_RUN(name) \
    case KIND_##name: \
        return name##_run(layer, tile, i);
#define CASE_GRADIENT(name) \
    case KIND_##name: \
        name##_gradient(network, space, tile, rows, continued, c); \
        break;

INLINE void layer_forward(const Network *network, int64_t l, const Workspace *space,
                          int64_t first, int64_t rows)
{
    switch (network->layers[l].kind) {
        KINDS(CASE_FORWARD)
    }
}

INLINE void layer_backward(const Network *network, int64_t l, const Workspace *space, int training,
                           int64_t first, int64_t rows, T *scratch)
{
    switch (network->layers[l].kind) {
        KINDS(CASE_BACKWARD)
    }
}

INLINE int tile_runs(const Layer *layer, const Tile *tile)
{
    switch (layer->kind) {
        KINDS(CASE_RUNS)
    }
    return 0;
}

INLINE Run tile_run(const Layer *layer, const Tile *tile, int i)
{
    switch (layer->kind) {
        KINDS(CASE_RUN)
    }
    return (Run){0};
}

INLINE void tile_gradient(const Network *network, const Workspace *space, const Tile *tile,
                          int64_t rows, int continued, T *c)
{
    switch (network->layers[tile->layer].kind) {
        KINDS(CASE_GRADIENT)
    }
}

/* What else follows from a tile's parameters, after they changed: a transposed copy. */
INLINE void tile_renew(const Layer *layer, const Tile *tile, const T *parameters)
{
    if (layer->transposed)
        dense_transpose(layer, tile, parameters);
}
