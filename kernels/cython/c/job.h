/* job.h: the steps of an epoch, one after another, by every thread of the job together.
 *
 *   phase 1   each thread takes rows
 *   barrier
 *   phase 2   each thread takes tiles of the parameters
 *   barrier
 *
 * No sum crosses threads, so results are bitwise equal for every number of them. What
 * needs the whole gradient first (clipping, more rows than the workspace holds) keeps it in
 * an arena and updates in a third phase.
 *
 * A stop is honoured in phase 1, where nothing has changed yet; a phase 2 that began ends. */

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

/* What the rule carries from step to step: the product of its factors over steps 1 ... step. */
static double carried_product(const Network *network, const Recipe *recipe, int64_t step)
{
    if (carried_factor(recipe->rule, recipe->number, 1) == 1)
        return 1;
    const int known = network->product_step > 0 && network->product_step <= step;
    double product = known ? network->product : 1;
    for (int64_t s = known ? network->product_step + 1 : 1; s <= step; s++)
        product *= carried_factor(recipe->rule, recipe->number, (double)s);
    return product;
}

/* The scalars of every kind of treatment, for the update of this number. */
static void set_scalars(const Network *network, const Recipe *recipe, double rate, int64_t step,
                        double product, Scalars *scalars)
{
    for (int64_t i = 0; i < network->factor_count; i++) {
        const Factors *own = &network->factors[i], *common = &network->factors[0];
        if (i > 0 && own->rate == common->rate && own->decay == common->decay)
            scalars[i] = scalars[0];
        else
            scalars[i] = step_scalars(recipe->rule, recipe->number, rate * own->rate,
                                      recipe->weight_decay * own->decay, (double)step, product);
    }
}

OUTLINE void run(Plan *plan, Job *job, int thread)
{
    const unsigned environment = flush_subnormals();
    Network *network = plan->network;
    const Recipe *recipe = &plan->recipe;
    T *scratch = plan->scratch[thread];
    Scalars *scalars = scalars_in(network, scratch);
    const int64_t threads = plan->barrier.threads, first_step = job->begin / job->batch;
    const int64_t updates = network->step - first_step; /* made before this epoch */
    const int64_t tile_begin = plan->tile_count * thread / threads;
    const int64_t tile_end = plan->tile_count * (thread + 1) / threads;
    const int64_t outputs = network->layers[network->depth - 1].out;
    const Workspace space = with_input(plan, job);
    const int carries =
        job->kind == TRAIN && carried_factor(recipe->rule, recipe->number, 1) != 1;
    double product = carries ? carried_product(network, recipe, network->step) : 1;
    double epoch_loss = job->loss, penalty = job->penalty; /* of thread 0 alone */
    if (thread == 0)
        plan->next_poll = clock_now() + POLL_INTERVAL;

    for (int64_t step = first_step; step * job->batch < job->end; step++) {
        const int64_t position = step * job->batch;
        const int64_t batch = smaller(job->batch, job->rows - position);
        const double weight_total = weight_sum(job, position, batch);
        const double inverse = inverse_of(recipe->divisor, weight_total, outputs);
        const int fused = job->kind == TRAIN && recipe->clip_norm <= 0 && batch <= plan->slab;
        const double l2 = !recipe->l2_by_weight ? recipe->l2
                          : weight_total > 0    ? recipe->l2 / weight_total
                                                : 0;
        if (job->kind == TRAIN) {
            const int64_t number = updates + step + 1;
            if (carries)
                product *= carried_factor(recipe->rule, recipe->number, (double)number);
            set_scalars(network, recipe, job->rates[step], number, product, scalars);
            for (int64_t i = 0; fused && i < network->factor_count; i++)
                if (network->factors[i].penalised)
                    scalars[i].decay += (T)(l2 * scalars[i].gain);
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
                    fused_tile(plan, &space, &plan->tiles[i], rows, scalars, scratch);
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
                for (int64_t i = 0; i < network->factor_count; i++)
                    scalars[i].clip = (T)((clip < 1 ? clip : 1) * scalars[i].gain);
            }
            for (int64_t i = tile_begin; i < tile_end; i++)
                apply_tile(plan, &plan->tiles[i], scalars);
            barrier_wait(&plan->barrier);
        }
        if (thread == 0) {
            const double share = recipe->divisor == BY_NOTHING ? 1 : (double)batch / (double)job->rows;
            epoch_loss += sum * inverse * share;
            if (job->kind == TRAIN) {
                double squares = 0;
                for (int64_t i = 0; recipe->l2_by_weight && i < plan->tile_count; i++)
                    squares += plan->tile_squares[i];
                penalty += 0.5 * l2 * squares * share;
                network->step = updates + step + 1;
                network->product = product;
                network->product_step = carries ? network->step : 0;
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
