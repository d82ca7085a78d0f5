/* phases.h: the phases of an optimizer step.
 *
 *   phase 1   rows: gather, forward, loss, deltas backward
 *   phase 2   tiles of the parameters: gradient over all rows, and the update at once
 *   phase 3   the update where the whole gradient is needed first */

/* ---- phase 1 ---- */

INLINE int64_t row_at(const Job *job, int64_t position)
{
    return job->order ? (int64_t)job->order[position] : position;
}

enum {
    NEAR = 512 * 1024, /* bytes of a slab's input that stay in the second-level cache */
    FEW_BLOCKS = 4,    /* outputs, in blocks: how often each number of the input is read */
};

/* Whether a first layer can take its rows where they lie, unless dropout changes them. */
INLINE int reads_apart(const Network *network)
{
    const Layer *first = &network->layers[0];
    return first->kind == KIND_dense && !first->narrow;
}

/* How the input comes in. Where a copy is needed beforehand, for dropout and for dot products
 * over lanes, it is made row by row (rows is NULL). Else the first layer finds the rows where
 * they lie, and the first of its tiles copy what they read: a copy's columns are contiguous.
 * That pays where each number is read often, or where rows come from further than the
 * second-level cache; otherwise the input stays in place. */
static Workspace with_input(const Plan *plan, const Job *job)
{
    const Layer *first = &plan->network->layers[0];
    Workspace space = plan->space;
    if (!reads_apart(plan->network) || (job->kind == TRAIN && first->dropout > 0))
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
        for (int64_t r = 0; r < pointers_for(rows); r++)
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
    const int direct = activation_of(network, depth - 1, recipe->fused) == ACTIVATION_identity;
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
    LossElements *elements = recipe->custom ? (LossElements *)recipe->custom
                                            : (LossElements *)network->kernels->elements[recipe->loss];
    if (job->kind == EVALUATE)
        group.delta = NULL;
    if (direct || !group.delta)
        return group_loss(elements, &group);
    /* d loss / d output in scratch, as blocks of exactly BLOCK rows */
    T *upstream = scratch + PANELS * ROW_TILE * BLOCK;
    for (int64_t block = 0; block < last->out_blocks; block++)
        for (int64_t i = 0; i < rows * BLOCK; i += LANES)
            store(upstream + block * BLOCK * BLOCK + i, load(y + block * stride + i));
    group.output = group.delta = upstream;
    group.stride = BLOCK * BLOCK;
    const double value = group_loss(elements, &group);
    backward_through_output(network, &plan->space, upstream, BLOCK * BLOCK, first, rows);
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
            backward_pass(network, space, masks.training, 1, first, count, scratch);
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

INLINE void update_run(const Plan *plan, const Run *run, const T *gradient, const Scalars *scalars)
{
    const Network *network = plan->network;
    ((Update *)network->kernels->update[plan->recipe.rule])(
        network->parameters, (T *const *)network->moments, run->at, gradient, run->count,
        &scalars[run->tensor->factors]);
}

/* What l2_by_weight adds to the loss needs the weights as they are before the update. */
INLINE void note_squares(const Plan *plan, const Layer *layer, const Tile *tile, int count)
{
    if (!plan->recipe.l2_by_weight)
        return;
    V sum = ZERO;
    for (int i = 0; i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        const T *weight = (const T *)plan->network->parameters + run.at;
        for (int64_t k = 0; run.tensor->penalised && k < run.count; k += LANES)
            sum += load(weight + k) * load(weight + k);
    }
    plan->tile_squares[tile->number] = (double)sum_of(sum);
}

/* The gradient of a tile's parameters, straight into their update. */
INLINE void fused_tile(const Plan *plan, const Workspace *space, const Tile *tile, int64_t rows,
                       const Scalars *scalars, T *scratch)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    const int count = tile_runs(layer, tile);
    note_squares(plan, layer, tile, count);
    tile_gradient(network, space, tile, rows, 0, scratch);
    for (int i = 0; i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        update_run(plan, &run, scratch + run.from, scalars);
    }
    tile_renew(layer, tile, network->parameters);
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

/* A tile's gradient over these rows in an arena, added to what is there unless it is the first.
 * It is taken in scratch, since a low tile reads and writes as if it were higher. */
INLINE void accumulate_runs(const Network *network, const Workspace *space, const Tile *tile,
                            int64_t rows, int is_first, T *arena, T *scratch)
{
    const Layer *layer = &network->layers[tile->layer];
    const int count = tile_runs(layer, tile);
    for (int i = 0; !is_first && i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        memcpy(scratch + run.from, arena + run.at, (size_t)run.count * sizeof(T));
    }
    tile_gradient(network, space, tile, rows, !is_first, scratch);
    for (int i = 0; i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        memcpy(arena + run.at, scratch + run.from, (size_t)run.count * sizeof(T));
    }
}

/* The same in the plan's arena; after the last slab l2 joins it and its norm is taken. */
INLINE void accumulate_tile(Plan *plan, const Workspace *space, const Tile *tile, int64_t rows,
                            int first_slab, int last_slab, double l2, T *scratch)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    const int count = tile_runs(layer, tile);
    note_squares(plan, layer, tile, count);
    accumulate_runs(network, space, tile, rows, first_slab, plan->gradient, scratch);
    double norm = 0;
    for (int i = 0; last_slab && i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        T *gradient = (T *)plan->gradient + run.at;
        const T *weight = (const T *)network->parameters + run.at;
        for (int64_t k = 0; l2 != 0 && run.tensor->penalised && k < run.count; k += LANES)
            store(gradient + k, load(gradient + k) + load(weight + k) * (T)l2);
        if (plan->recipe.clip_norm > 0)
            norm += squared_norm(gradient, run.count);
    }
    plan->tile_norm[tile->number] = norm;
}

/* ---- phase 3 ---- */

INLINE void apply_tile(const Plan *plan, const Tile *tile, const Scalars *scalars)
{
    const Network *network = plan->network;
    const Layer *layer = &network->layers[tile->layer];
    for (int i = 0, count = tile_runs(layer, tile); i < count; i++) {
        const Run run = tile_run(layer, tile, i);
        update_run(plan, &run, (const T *)plan->gradient + run.at, scalars);
    }
    tile_renew(layer, tile, network->parameters);
}
