/* step.h: the optimizer step, and the job that repeats it over the rows of an epoch.
 *
 *   phase 1   each thread takes rows: gather, forward, loss, deltas backward
 *   barrier
 *   phase 2   each thread takes tiles of the weights: gradient over all rows, update
 *   barrier
 *
 * No sum crosses threads, so results are bitwise equal for every number of them. What
 * needs the whole gradient first (clipping, more rows than the workspace holds) keeps it in
 * an arena and updates in a third phase.
 *
 * A stop is honoured in phase 1, where nothing has changed yet; a phase 2 that began ends. */

enum { ROW_TILE = 128 }; /* rows that go through all layers together */

/* ---- floating-point environment: subnormals are zero inside, as before outside ---- */

#if defined(__x86_64__)
#define FLUSHING 0x8040u /* FTZ and DAZ of MXCSR */
OUTLINE unsigned flush_subnormals(void)
{
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | FLUSHING);
    return before;
}
OUTLINE void restore_subnormals(unsigned before) { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
#define FLUSHING (1u << 24) /* FZ of FPCR */
OUTLINE unsigned flush_subnormals(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | FLUSHING));
    return (unsigned)before;
}
OUTLINE void restore_subnormals(unsigned before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)before));
}
#else
#define FLUSHING 0u
OUTLINE unsigned flush_subnormals(void) { return 0; }
OUTLINE void restore_subnormals(unsigned before) { (void)before; }
#endif

/* ---- the clock that a long job looks at ---- */

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif
#define POLL_INTERVAL 50000000 /* ns */

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether the caller wants to stop; asks at most every POLL_INTERVAL. */
static int should_stop(int (*poll)(void), int64_t *next)
{
    const int64_t now = clock_now();
    if (!poll || now < *next)
        return 0;
    const unsigned inside = flush_subnormals();
    restore_subnormals(inside & ~FLUSHING);
    const int stop = poll();
    restore_subnormals(inside);
    *next = clock_now() + POLL_INTERVAL;
    return stop;
}

/* ---- passes through the layers, rows [first, first + rows) of a workspace ---- */

INLINE T *rows_of(void *const *buffers, int64_t layer, int64_t first)
{
    return (T *)buffers[layer] + first * BLOCK;
}

typedef struct {
    int training; /* apply dropout */
    uint64_t seed, epoch;
    int64_t position; /* of the workspace's row 0 within the epoch */
} Masks;

/* y, slope *= mask / (1 - rate); the mask as kernels/random.py has it */
OUTLINE void apply_dropout(const Masks *masks, int64_t layer, double rate, T *y, T *slope,
                           int64_t stride, int64_t blocks, int64_t first, int64_t rows)
{
    const uint64_t key =
        stream_key(masks->seed, STREAM_DROPOUT, (masks->epoch << 16) + (uint64_t)layer);
    const uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    const T scale = (T)(1 / (1 - rate));
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t r = 0; r < rows; r++) {
            const uint64_t start =
                (uint64_t)((masks->position + first + r) * blocks + block) * (BLOCK / 2);
            const int64_t at = block * stride + r * BLOCK;
            for (int k = 0; k < BLOCK / 2; k++) {
                const uint64_t word = stream_word(key, start + (uint64_t)k);
                const int keep[2] = {(uint32_t)word >= threshold,
                                     (uint32_t)(word >> 32) >= threshold};
                for (int i = 0; i < 2; i++) {
                    y[at + 2 * k + i] = keep[i] ? y[at + 2 * k + i] * scale : 0;
                    if (slope)
                        slope[at + 2 * k + i] = keep[i] ? slope[at + 2 * k + i] * scale : 0;
                }
            }
        }
}

/* The activation that layer `l` applies: none if the loss takes its logits. */
INLINE int activation_of(const Network *network, int64_t l, int fused)
{
    return fused && l == network->depth - 1 ? ACTIVATION_identity : network->layers[l].activation;
}

/* Whether the forward pass leaves f'(z) of layer l in the delta's buffer. */
INLINE int keeps_slope(const Network *network, int64_t l, int fused, int training)
{
    return !activations[activation_of(network, l, fused)].backward ||
           (training && l + 1 < network->depth && network->layers[l + 1].dropout > 0);
}

/* y = f(y) for one block of a layer's outputs; slope, if not NULL, receives f'. What a
 * user's function makes of the zeros in padded lanes may be NaN: they are cleared. */
INLINE void activate(const Layer *layer, int activation, int64_t block, T *y, T *slope,
                     int64_t rows)
{
    if (activation != ACTIVATION_custom) {
        activations[activation].forward(y, slope, rows * BLOCK);
        return;
    }
    ((ActivationForward *)layer->custom)(y, slope, rows * BLOCK);
    const int64_t used = smaller(layer->out - block * BLOCK, BLOCK);
    if (used < BLOCK)
        for (int64_t r = 0; r < rows; r++) {
            memset(y + r * BLOCK + used, 0, (size_t)(BLOCK - used) * sizeof(T));
            if (slope)
                memset(slope + r * BLOCK + used, 0, (size_t)(BLOCK - used) * sizeof(T));
        }
}

OUTLINE void forward_pass(const Network *network, const Workspace *space, int fused,
                          int with_slopes, const Masks *masks, int64_t first, int64_t rows)
{
    const int64_t stride = space->stride;
    if (masks->training && network->layers[0].dropout > 0)
        apply_dropout(masks, 0, network->layers[0].dropout, rows_of(space->activation, 0, first),
                      NULL, stride, network->layers[0].in_blocks, first, rows);
    for (int64_t l = 0; l < network->depth; l++) {
        const Layer *layer = &network->layers[l];
        const int activation = activation_of(network, l, fused);
        const int last = l == network->depth - 1;
        const double dropout = last ? 0 : network->layers[l + 1].dropout;
        T *y = rows_of(space->activation, l + 1, first);
        T *slope = with_slopes && keeps_slope(network, l, fused, masks->training)
                       ? rows_of(space->delta, l + 1, first)
                       : NULL;
        T *x = rows_of(space->activation, l, first);
        const T *const *x_rows =
            l == 0 && space->rows ? (const T *const *)space->rows + first : NULL;
        forward_linear(layer, network->parameters, x, stride, x_rows, space->in_place ? NULL : x, y,
                       stride, rows);
        if (activation == ACTIVATION_softmax)
            softmax_rows(y, stride, layer->out, rows);
        else if (activation != ACTIVATION_identity || slope)
            for (int64_t block = 0; block < layer->out_blocks; block++)
                activate(layer, activation, block, y + block * stride,
                         slope ? slope + block * stride : NULL, rows);
        if (!last)
            clear_padding(&network->layers[l + 1], y, stride, rows);
        if (masks->training && dropout > 0)
            apply_dropout(masks, l + 1, dropout, y, slope, stride, layer->out_blocks, first, rows);
    }
}

/* delta of layer l's z from d loss / d (its output): one block, in place or from scratch */
INLINE void through_activation(int activation, int slope_kept, const T *upstream, const T *y,
                               const T *slope, T *delta, int64_t n)
{
    if (slope_kept)
        multiply_slope(upstream, slope, delta, n);
    else
        activations[activation].backward(upstream, y, delta, n);
}

/* delta[l] for l = depth - 1 ... 1, from delta[depth] */
OUTLINE void backward_pass(const Network *network, const Workspace *space, int training,
                           int64_t first, int64_t rows, T *scratch)
{
    for (int64_t l = network->depth - 1; l > 0; l--) {
        const Layer *layer = &network->layers[l];
        const int activation = network->layers[l - 1].activation;
        const int slope_kept = keeps_slope(network, l - 1, 0, training);
        const T *transposed = transposed_weight(layer, network->parameters);
        const T *y = rows_of(space->activation, l, first);
        T *delta = rows_of(space->delta, l, first);
        for (int64_t block = 0; block < layer->in_blocks; block += PANELS) {
            const int64_t count = smaller(PANELS, layer->in_blocks - block);
            multiply_panels(rows_of(space->delta, l + 1, first), space->stride, NULL,
                            transposed + block * layer->out * BLOCK, count, layer->out, zeros, 0,
                            scratch, ROW_TILE * BLOCK, rows);
            for (int64_t j = 0; j < count; j++) {
                const int64_t at = (block + j) * space->stride;
                through_activation(activation, slope_kept, scratch + j * ROW_TILE * BLOCK, y + at,
                                   delta + at, delta + at, rows * BLOCK);
            }
        }
    }
}

/* ---- phase 1 ---- */

INLINE int64_t row_at(const Job *job, int64_t position)
{
    return job->order ? (int64_t)job->order[position] : position;
}

enum {
    NEAR = 512 * 1024, /* bytes of a slab's input that stay in the second-level cache */
    FEW_BLOCKS = 4,    /* outputs, in blocks: how often each number of the input is read */
};

/* How the input comes in. Where a copy is needed beforehand, for dropout and for dot products
 * over lanes, it is made row by row (rows is NULL). Else the first layer finds the rows where
 * they lie, and the first of its tiles copy what they read: a copy's columns are contiguous.
 * That pays where each number is read often, or where rows come from further than the
 * second-level cache; otherwise the input stays in place. */
static Workspace with_input(const Plan *plan, const Job *job)
{
    const Layer *first = &plan->network->layers[0];
    Workspace space = plan->space;
    if (first->narrow || (job->kind == TRAIN && first->dropout > 0))
        space.rows = NULL;
    space.in_place = space.rows && first->out_blocks <= FEW_BLOCKS &&
                     smaller(job->batch, plan->slab) * first->in * (int64_t)sizeof(T) <= NEAR;
    return space;
}

/* Rows [first, first + rows) of the workspace: where they lie, or a blocked copy. */
static void take_rows(const Job *job, const Workspace *space, int64_t position, int64_t first,
                      int64_t rows, int64_t in)
{
    const T *X = job->X;
    T *x = rows_of(space->activation, 0, first);
    if (space->rows)
        for (int64_t r = 0; r < (rows + BLOCK - 1) / BLOCK * BLOCK; r++)
            space->rows[first + r] =
                X + row_at(job, position + first + (r < rows ? r : rows - 1)) * in;
    else
        for (int64_t r = 0; r < rows; r++)
            gather_row(X + row_at(job, position + first + r) * in, in, x + r * BLOCK,
                       space->stride);
}

/* Loss and delta of up to BLOCK rows from workspace row `first` on; returns sum of w l. */
OUTLINE double output_loss(const Plan *plan, const Job *job, int64_t position, double inverse,
                           int64_t first, int64_t rows, T *scratch)
{
    const Network *network = plan->network;
    const Recipe *recipe = &plan->recipe;
    const int64_t depth = network->depth, stride = plan->space.stride;
    const Layer *last = &network->layers[depth - 1];
    const int activation = activation_of(network, depth - 1, recipe->fused);
    const int direct = activation == ACTIVATION_identity;
    const T *y = rows_of(plan->space.activation, depth, first);
    T *delta = rows_of(plan->space.delta, depth, first);
    Group group = {.output = y, .delta = delta, .stride = stride, .outputs = last->out,
                   .rows = rows, .parameter = (T)recipe->parameter};
    if (inverse == 0) {
        if (job->kind != EVALUATE)
            clear_delta(&group);
        return 0;
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = row_at(job, position + first + r);
        const T weight = job->weight ? ((const T *)job->weight)[row] : 1;
        group.target[r] = job->target ? (const T *)job->target + row * last->out : NULL;
        group.label[r] = job->labels ? job->labels[row] : 0;
        group.weight[r] = weight;
        group.scale[r] = (T)((double)weight * inverse);
    }
    for (int64_t r = rows; r < BLOCK; r++)
        group.weight[r] = 0;
    group.custom = recipe->custom;
    if (job->kind == EVALUATE)
        group.delta = NULL;
    if (direct || !group.delta)
        return group_loss(recipe->loss, &group);
    /* d loss / d output in scratch, as blocks of exactly BLOCK rows */
    T *upstream = scratch + ROW_TILE * BLOCK;
    for (int64_t block = 0; block < last->out_blocks; block++)
        for (int64_t i = 0; i < rows * BLOCK; i += LANES)
            store(upstream + block * BLOCK * BLOCK + i, load(y + block * stride + i));
    group.output = group.delta = upstream;
    group.stride = BLOCK * BLOCK;
    const double value = group_loss(recipe->loss, &group);
    if (activation == ACTIVATION_softmax)
        softmax_rows_backward(upstream, BLOCK * BLOCK, y, delta, stride, last->out, rows);
    else
        for (int64_t block = 0; block < last->out_blocks; block++)
            through_activation(activation, keeps_slope(network, depth - 1, 0, 0),
                               upstream + block * BLOCK * BLOCK, y + block * stride,
                               delta + block * stride, delta + block * stride, rows * BLOCK);
    return value;
}

/* Rows of the slab that starts at `position`, this thread's share of them. */
static void phase_rows(Plan *plan, const Job *job, const Workspace *space, int64_t position,
                       int64_t rows, double inverse, int thread)
{
    const Network *network = plan->network;
    T *scratch = plan->scratch[thread];
    const int64_t groups = (rows + BLOCK - 1) / BLOCK, in = network->layers[0].in;
    const int64_t begin = groups * thread / plan->barrier.threads * BLOCK;
    const int64_t end =
        smaller(rows, groups * (thread + 1) / plan->barrier.threads * BLOCK);
    const Masks masks = {job->kind == TRAIN, job->seed, job->epoch, position};

    for (int64_t first = begin;; first += ROW_TILE) {
        if (thread == 0 && should_stop(plan->poll, &plan->next_poll))
            atomic_store(&plan->stop, 1);
        if (first >= end || atomic_load_explicit(&plan->stop, memory_order_relaxed))
            return;
        const int64_t count = smaller(ROW_TILE, end - first);
        take_rows(job, space, position, first, count, in);
        forward_pass(network, space, plan->recipe.fused, job->kind != EVALUATE, &masks, first,
                     count);
        for (int64_t g = first; g < first + count; g += BLOCK)
            plan->row_loss[g / BLOCK] = output_loss(plan, job, position, inverse, g,
                                                    smaller(BLOCK, first + count - g), scratch);
        if (job->kind != EVALUATE)
            backward_pass(network, space, masks.training, first, count, scratch);
    }
}

/* ---- phase 2 ---- */

enum {
    AHEAD = 512 * 1024, /* bytes of the next batch's rows that are fetched early */
    HEAD = 512,         /* bytes of each: the processor's own prefetching goes on from there */
};

/* The next rows that this thread will take: fetched while phase 2 computes. */
typedef struct {
    int64_t position, end; /* rows */
    int64_t row_bytes;
    int64_t share; /* rows to fetch with each tile */
} Ahead;

static Ahead rows_ahead(const Plan *plan, const Job *job, int64_t position, int64_t tiles,
                        int thread)
{
    const int64_t rows = smaller(smaller(job->batch, job->rows - position), plan->slab);
    const int64_t groups = (rows + BLOCK - 1) / BLOCK, threads = plan->barrier.threads;
    const int64_t begin = groups * thread / threads * BLOCK;
    const int64_t end = smaller(rows, groups * (thread + 1) / threads * BLOCK);
    const int64_t row_bytes = plan->network->layers[0].in * (int64_t)sizeof(T);
    Ahead ahead = {position + begin, position + end, row_bytes, 0};
    if (end > begin && tiles > 0 && row_bytes >= HEAD && (end - begin) * HEAD <= AHEAD)
        ahead.share = (end - begin) / tiles + 1;
    return ahead;
}

INLINE void fetch_ahead(const Job *job, Ahead *ahead)
{
    const int64_t stop = smaller(ahead->end, ahead->position + ahead->share);
    for (; ahead->position < stop; ahead->position++) {
        const char *row = (const char *)job->X + row_at(job, ahead->position) * ahead->row_bytes;
        for (int line = 0; line < HEAD; line += LINE)
            __builtin_prefetch(row + line, 0, 2);
    }
}

INLINE void update_at(const Plan *plan, int64_t at, const T *gradient, int64_t n, const Scalars *s)
{
    const Network *network = plan->network;
    T *m0 = network->moments[0], *m1 = network->moments[1];
    optimizers[plan->recipe.optimizer].update((T *)network->parameters + at, m0 ? m0 + at : NULL,
                                              m1 ? m1 + at : NULL, gradient, n, s);
}

INLINE void space_gradient(const Workspace *space, const Layer *layer, const Tile *tile,
                           int64_t rows, const T *init, int64_t init_row, T *c)
{
    gradient_tile(layer, tile, space->activation[tile->layer],
                  tile->layer == 0 && space->in_place ? (const T *const *)space->rows : NULL,
                  space->delta[tile->layer + 1], space->stride, rows, init, init_row, c);
}

/* What l2_by_weight adds to the loss needs the weights as they are before the update. */
INLINE void note_squares(const Plan *plan, const Tile *tile)
{
    if (!plan->recipe.l2_by_weight)
        return;
    const Layer *layer = &plan->network->layers[tile->layer];
    V sum = ZERO;
    for (int32_t block = 0; block < tile->width; block++) {
        const Tile part = block_of(tile, block);
        const T *weight = (const T *)plan->network->parameters + tile_at(layer, &part);
        for (int64_t i = 0, n = tile_height(layer, tile) * BLOCK; i < n; i += LANES)
            sum += load(weight + i) * load(weight + i);
    }
    plan->tile_squares[tile->number] = (double)sum_of(sum);
}

/* Gradient of the tile's weights, and of the biases if it is the first of its block columns:
 * straight into the update. */
INLINE void fused_tile(const Plan *plan, const Workspace *space, const Tile *tile, int64_t rows,
                       const Scalars *weight, const Scalars *bias, T *scratch)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    note_squares(plan, tile);
    space_gradient(space, layer, tile, rows, zeros, 0, scratch);
    for (int32_t block = 0; block < tile->width; block++) {
        const Tile part = block_of(tile, block);
        const int64_t at = tile_at(layer, &part);
        T *gradient = scratch + block * BLOCK * BLOCK;
        update_at(plan, at, gradient, tile_height(layer, tile) * BLOCK, weight);
        transpose_weight(layer, &part, (T *)network->parameters + at);
        if (tile->in_block == 0 && layer->uses_bias) {
            const T *dy = space->delta[tile->layer + 1];
            bias_gradient(dy + part.out_block * space->stride, rows, zeros, gradient);
            update_at(plan, layer->bias_at + part.out_block * BLOCK, gradient, BLOCK, bias);
        }
    }
}

/* in double, since the square of a float overflows from 1.8e19 on; n is a multiple of BLOCK */
INLINE double squared_norm(const T *x, int64_t n)
{
    double part[8] = {0};
    for (int64_t i = 0; i < n; i += 8)
        for (int j = 0; j < 8; j++)
            part[j] += (double)x[i + j] * (double)x[i + j];
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

/* The same into the gradient's arena; after the last slab l2 joins it and its norm is taken. */
INLINE void accumulate_tile(Plan *plan, const Workspace *space, const Tile *tile, int64_t rows,
                            int first_slab, int last_slab, double l2, T *scratch)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    const int64_t n = tile_height(layer, tile) * BLOCK;
    const T factor = last_slab ? (T)l2 : 0;
    note_squares(plan, tile);
    /* a low tile reads its start as if it were higher: never in another thread's gradient */
    for (int32_t block = 0; !first_slab && block < tile->width; block++) {
        const Tile part = block_of(tile, block);
        memcpy(scratch + block * BLOCK * BLOCK, (T *)plan->gradient + tile_at(layer, &part),
               (size_t)n * sizeof(T));
    }
    space_gradient(space, layer, tile, rows, first_slab ? zeros : scratch, first_slab ? 0 : BLOCK,
                   scratch);
    double norm = 0;
    for (int32_t block = 0; block < tile->width; block++) {
        const Tile part = block_of(tile, block);
        const int64_t at = tile_at(layer, &part);
        T *gradient = (T *)plan->gradient + at;
        const T *weight = (const T *)network->parameters + at;
        for (int64_t i = 0; i < n; i += LANES)
            store(gradient + i,
                  load(scratch + block * BLOCK * BLOCK + i) + load(weight + i) * factor);
        norm += squared_norm(gradient, n);
        if (tile->in_block == 0 && layer->uses_bias) {
            const T *dy = space->delta[tile->layer + 1];
            T *bias = (T *)plan->gradient + layer->bias_at + part.out_block * BLOCK;
            bias_gradient(dy + part.out_block * space->stride, rows, first_slab ? zeros : bias,
                          bias);
            norm += squared_norm(bias, BLOCK);
        }
    }
    plan->tile_norm[tile->number] = norm;
}

/* ---- phase 3 ---- */

INLINE void apply_tile(const Plan *plan, const Tile *tile, const Scalars *s)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    const T *gradient = plan->gradient;
    for (int32_t block = 0; block < tile->width; block++) {
        const Tile part = block_of(tile, block);
        const int64_t at = tile_at(layer, &part);
        update_at(plan, at, gradient + at, tile_height(layer, tile) * BLOCK, s);
        transpose_weight(layer, &part, (T *)network->parameters + at);
        if (tile->in_block == 0 && layer->uses_bias) {
            const int64_t bias = layer->bias_at + part.out_block * BLOCK;
            update_at(plan, bias, gradient + bias, BLOCK, s);
        }
    }
}

/* ---- the job ---- */

/* The sum of the weights of rows [position, position + rows). */
static double weight_sum(const Job *job, int64_t position, int64_t rows)
{
    if (!job->weight)
        return (double)rows;
    double sum = 0;
    for (int64_t i = 0; i < rows; i++)
        sum += (double)((const T *)job->weight)[row_at(job, position + i)];
    return sum;
}

/* 1 / what the loss over rows of this weight is divided by; 0 for weight 0 */
static double inverse_normaliser(const Plan *plan, double weight)
{
    const Network *network = plan->network;
    return inverse_of(plan->recipe.loss, plan->recipe.per_row, weight,
                      network->layers[network->depth - 1].out);
}

OUTLINE void run(Plan *plan, Job *job, int thread)
{
    const unsigned environment = flush_subnormals();
    Network *network = plan->network;
    const Recipe *recipe = &plan->recipe;
    T *scratch = plan->scratch[thread];
    const int64_t threads = plan->barrier.threads, first_step = job->begin / job->batch;
    const int64_t updates = network->step - first_step; /* made before this epoch */
    const int64_t tile_begin = plan->tile_count * thread / threads;
    const int64_t tile_end = plan->tile_count * (thread + 1) / threads;
    const int summed = losses[recipe->loss].normaliser == NOTHING;
    const Workspace space = with_input(plan, job);
    double epoch_loss = job->loss, penalty = job->penalty; /* of thread 0 alone */
    if (thread == 0)
        plan->next_poll = clock_now() + POLL_INTERVAL;

    for (int64_t position = job->begin, step = first_step; position < job->end;
         position += job->batch, step++) {
        const int64_t batch = smaller(job->batch, job->rows - position);
        const double mass = weight_sum(job, position, batch);
        const double inverse = inverse_normaliser(plan, mass);
        const double l2 = !recipe->l2_by_weight ? recipe->l2 : mass > 0 ? recipe->l2 / mass : 0;
        const int fused = job->kind == TRAIN && batch <= plan->slab && recipe->clip_norm == 0;
        Scalars bias = {0}, weight = {0};
        if (job->kind == TRAIN) {
            bias = step_scalars(recipe, job->rates[step], updates + step + 1);
            weight = bias;
            if (fused)
                weight.decay += (T)(l2 * weight.gain);
        }

        double sum = 0;
        for (int64_t at = 0; at < batch; at += plan->slab) {
            const int64_t rows = smaller(plan->slab, batch - at);
            phase_rows(plan, job, &space, position + at, rows, inverse, thread);
            barrier_wait(&plan->barrier);
            if (atomic_load_explicit(&plan->stop, memory_order_relaxed))
                goto stopped;
            if (thread == 0)
                for (int64_t g = 0; g * BLOCK < rows; g++)
                    sum += plan->row_loss[g];
            if (fused) {
                Ahead ahead =
                    rows_ahead(plan, job, position + batch, tile_end - tile_begin, thread);
                for (int64_t i = tile_begin; i < tile_end; i++) {
                    fetch_ahead(job, &ahead);
                    fused_tile(plan, &space, &plan->tiles[i], rows, &weight, &bias, scratch);
                }
            } else if (job->kind != EVALUATE)
                for (int64_t i = tile_begin; i < tile_end; i++)
                    accumulate_tile(plan, &space, &plan->tiles[i], rows, at == 0, at + rows == batch,
                                    job->kind == TRAIN ? l2 : 0, scratch);
            barrier_wait(&plan->barrier);
        }

        if (job->kind == TRAIN && !fused) {
            if (recipe->clip_norm > 0) {
                double norm = 0;
                for (int64_t i = 0; i < plan->tile_count; i++)
                    norm += plan->tile_norm[i];
                const double clip = recipe->clip_norm / (sqrt(norm) + 1e-6);
                bias.clip = (T)((clip < 1 ? clip : 1) * bias.gain);
            }
            for (int64_t i = tile_begin; i < tile_end; i++)
                apply_tile(plan, &plan->tiles[i], &bias);
            barrier_wait(&plan->barrier);
        }
        if (thread == 0) {
            const double share = summed ? 1 : (double)batch / (double)job->rows;
            epoch_loss += sum * inverse * share;
            if (job->kind == TRAIN) {
                double squares = 0;
                for (int64_t i = 0; recipe->l2_by_weight && i < plan->tile_count; i++)
                    squares += plan->tile_squares[i];
                penalty += 0.5 * l2 * squares * share;
                network->step = updates + step + 1;
                plan->steps++;
            }
        }
    }
    if (thread == 0) {
        job->loss = epoch_loss;
        job->penalty = penalty;
    }
stopped:
    restore_subnormals(environment);
}
