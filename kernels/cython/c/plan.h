/* plan.h: all memory that a trainer needs, laid out once; for every instance. */
#ifndef FASTNN_PLAN_H
#define FASTNN_PLAN_H

#include "network.h"

enum { FASTNN_MOST_ROWS = 2048 }; /* of a workspace; larger batches accumulate their gradient */

static inline int64_t fastnn_tiles_across(const Layer *layer, int panels)
{
    return (layer->out_blocks + panels - 1) / panels;
}

/* The line of so many that is nearest to a tile's place. */
static inline int64_t fastnn_line(int64_t tiles, int64_t lines, int64_t length)
{
    const int64_t line = tiles < 0 ? 0 : (2 * tiles + length) / (2 * length);
    return line < lines ? line : lines;
}

/* Tiles of `layer` between these lines, 4 x 4 neighbours together, which share panels in the
 * cache; `number` is that of the layer's first. Returns how many. */
static inline int64_t fastnn_lay_part(Tile *tiles, const Layer *layer, int32_t l, int panels,
                                      int64_t number, int64_t top, int64_t bottom, int64_t left,
                                      int64_t right)
{
    int64_t count = 0;
    for (int64_t o0 = left; o0 < right; o0 += 4)
        for (int64_t i0 = top; i0 < bottom; i0 += 4)
            for (int64_t o = o0; o < o0 + 4 && o < right; o++)
                for (int64_t i = i0; i < i0 + 4 && i < bottom; i++) {
                    const int64_t left_over = layer->out_blocks - o * panels;
                    tiles[count++] = (Tile){l, (int32_t)(o * panels), (int32_t)i,
                                            (int32_t)(left_over < panels ? left_over : panels),
                                            (int32_t)(number + o * layer->tile_rows + i)};
                }
    return count;
}

/* Every tile of every layer. Each thread's share is a few layers, cut across their longer
 * side, so that it reads least of what the others wrote. */
static inline int fastnn_lay_tiles(Plan *plan, int panels)
{
    const Network *network = plan->network;
    const int64_t threads = plan->threads;
    int64_t total = 0, count = 0;
    for (int64_t l = 0; l < network->depth; l++)
        total += network->layers[l].tile_rows * fastnn_tiles_across(&network->layers[l], panels);
    plan->tiles = fastnn_allocate((uint64_t)total * sizeof(Tile));
    plan->tile_norm = fastnn_allocate((uint64_t)total * sizeof(double));
    plan->tile_squares = fastnn_allocate((uint64_t)total * sizeof(double));
    plan->tile_count = total;
    if (!plan->tiles || !plan->tile_norm || !plan->tile_squares)
        return -1;
    for (int64_t thread = 0; thread < threads; thread++) {
        const int64_t begin = total * thread / threads, end = total * (thread + 1) / threads;
        int64_t number = 0;
        for (int64_t l = 0; l < network->depth; l++) {
            const Layer *layer = &network->layers[l];
            const int64_t rows = layer->tile_rows, columns = fastnn_tiles_across(layer, panels);
            const int by_rows = rows > columns;
            const int64_t lines = by_rows ? rows : columns, length = by_rows ? columns : rows;
            const int64_t from = fastnn_line(begin - number, lines, length);
            const int64_t to = fastnn_line(end - number, lines, length);
            count += fastnn_lay_part(plan->tiles + count, layer, (int32_t)l, panels, number,
                                     by_rows ? from : 0, by_rows ? to : rows, by_rows ? 0 : from,
                                     by_rows ? columns : to);
            number += rows * columns;
        }
    }
    return 0;
}

/* The plan of a trainer for this network, recipe apart; the plan was zero. 0, or -1 if memory
 * ran out: what was allocated is freed by fastnn_plan_free. */
static inline int fastnn_plan_lay(Plan *plan, Network *network, const Instance *instance,
                                  int64_t batch, int threads)
{
    const int64_t rows = fastnn_blocks(batch) * BLOCK, depth = network->depth;
    const int64_t slab = rows < 64 ? 64 : rows < FASTNN_MOST_ROWS ? rows : FASTNN_MOST_ROWS;
    const int64_t stride = instance->block_stride(slab);
    const uint64_t item = (uint64_t)instance->itemsize;
    plan->network = network;
    plan->threads = threads;
    plan->slab = slab;
    plan->space.stride = stride;
    int64_t blocks = network->layers[0].in_blocks, kept = 0;
    for (int64_t l = 0; l < depth; l++) {
        blocks += 2 * network->layers[l].out_blocks;
        kept += network->layers[l].kept * slab;
    }
    plan->space.activation = calloc((size_t)(3 * depth + 2), sizeof(void *));
    plan->scratch = calloc((size_t)threads, sizeof(void *));
    plan->space.rows = fastnn_allocate((uint64_t)(slab + BLOCK) * sizeof(void *));
    plan->row_loss = fastnn_allocate((uint64_t)(slab / BLOCK) * sizeof(double));
    char *at = fastnn_allocate((uint64_t)(blocks * stride + kept) * item);
    if (plan->space.activation)
        plan->space.activation[0] = at;
    else
        fastnn_release(at);
    if (!at || !plan->space.activation || !plan->scratch || !plan->space.rows || !plan->row_loss)
        return -1;
    void **activation = plan->space.activation, **delta = activation + depth + 1;
    plan->space.delta = plan->space.slope = delta;
    plan->space.kept = delta + depth + 1;
    at += (uint64_t)(network->layers[0].in_blocks * stride) * item;
    for (int64_t l = 0; l < depth; l++) {
        const Layer *layer = &network->layers[l];
        activation[l + 1] = at;
        at += (uint64_t)(layer->out_blocks * stride) * item;
    }
    for (int64_t l = 0; l < depth; l++) {
        delta[l + 1] = at;
        at += (uint64_t)(network->layers[l].out_blocks * stride) * item;
    }
    for (int64_t l = 0; l < depth; l++) {
        plan->space.kept[l] = at;
        at += (uint64_t)(network->layers[l].kept * slab) * item;
    }
    for (int t = 0; t < threads; t++) {
        plan->scratch[t] = fastnn_allocate((uint64_t)instance->scratch_size(network) * item);
        if (!plan->scratch[t])
            return -1;
    }
    return fastnn_lay_tiles(plan, instance->panels);
}

/* The arena that steps which cannot be fused keep their gradient in. */
static inline int fastnn_plan_gradient(Plan *plan, const Instance *instance)
{
    if (!plan->gradient)
        plan->gradient = fastnn_allocate((uint64_t)plan->network->arena_size *
                                         (uint64_t)instance->itemsize);
    return plan->gradient ? 0 : -1;
}

static inline void fastnn_plan_free(Plan *plan)
{
    if (plan->space.activation)
        fastnn_release(plan->space.activation[0]);
    free(plan->space.activation);
    for (int t = 0; plan->scratch && t < plan->threads; t++)
        fastnn_release(plan->scratch[t]);
    free(plan->scratch);
    fastnn_release(plan->space.rows);
    fastnn_release(plan->row_loss);
    fastnn_release(plan->tiles);
    fastnn_release(plan->tile_norm);
    fastnn_release(plan->tile_squares);
    fastnn_release(plan->gradient);
}

#endif
