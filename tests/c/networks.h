/* networks.h: checks of whole networks: training on one to four threads, evaluation,
 * gradients, prediction, stopping. */

#include <pthread.h>

#include "ledger.h"

enum { EPOCHS = 2, MOST_THREADS = 4 };

static const Case CASES[] = {
    {"one unit", 1, {1, 1}, {"identity"}, "mse", "sgd", .rows = 7, .batch = 3},
    {"narrow end", 3, {5, 33, 17, 1}, {"tanh", "gelu", "identity"}, "huber", "momentum",
     .rows = 70, .batch = 32},
    {"narrow middle", 4, {18, 3, 40, 4, 20}, {"silu", "sigmoid", "tanh", "softplus"},
     "sum_squares", "rmsprop", .rows = 50, .batch = 30, .weighted = 1},
    {"labels", 3, {64, 16, 16, 10}, {"sigmoid", "relu", "softmax"}, "cross_entropy", "nesterov",
     .rows = 150, .batch = 48, .fused = 1, .labelled = 1},
    {"slabs", 2, {20, 65, 7}, {"elu", "identity"}, "poisson", "adam",
     .rows = 5000, .batch = 2100, .l2 = 0.01},
    {"clipped", 3, {9, 47, 31, 3}, {"mish", "softsign", "identity"}, "mae", "adam",
     .rows = 100, .batch = 36, .l2 = 0.01, .clip_norm = 0.1},
    {"clipped slabs", 2, {130, 20, 2}, {"selu", "sigmoid"}, "binary_cross_entropy", "adamw",
     .rows = 2500, .batch = 2200, .fused = 1, .weighted = 1, .weight_decay = 0.1,
     .clip_norm = 0.1},
    {"dropout", 4, {17, 33, 2, 50, 5}, {"relu", "tanh", "leaky_relu", "softmax"},
     "cross_entropy_of_probabilities", "rmsprop_momentum",
     .rows = 130, .batch = 40, .labelled = 1, .dropout = 0.3},
    {"margins", 2, {8, 21, 6}, {"tanh", "identity"}, "hinge", "adagrad", .rows = 60, .batch = 25},
    {"no bias", 2, {16, 32, 16}, {"hard_swish", "hard_sigmoid"},
     "binary_cross_entropy_of_probabilities", "adagrad", .rows = 64, .batch = 16, .unbiased = 1},
    {"velocity", 2, {20, 70, 3}, {"tanh", "identity"}, "huber", "nesterov_velocity",
     .rows = 110, .batch = 44, .weighted = 1, .per_row = 1, .l2 = 2, .l2_by_weight = 1},
    {"velocity clipped", 2, {18, 34, 4}, {"relu", "identity"}, "mse", "velocity",
     .rows = 90, .batch = 60, .weight_decay = 0.1, .clip_norm = 0.1, .per_row = 1, .l2 = 2,
     .l2_by_weight = 1},
    {"epsilon hat", 3, {12, 33, 20, 3}, {"relu", "tanh", "sigmoid"}, "binary_cross_entropy",
     "adam_hat", .rows = 110, .batch = 40, .fused = 1, .weighted = 1, .per_row = 1, .l2 = 2,
     .l2_by_weight = 1},
    {"wide", 2, {600, 68, 1}, {"relu", "identity"}, "quantile", "momentum",
     .rows = 70, .batch = 33},
    {"sines", 3, {6, 50, 19, 2}, {"sine", "hard_tanh", "identity"}, "log_cosh", "nadam",
     .rows = 90, .batch = 25, .weight_decay = 0.1},
    {"lion", 2, {11, 40, 3}, {"tanh", "identity"}, "mse", "lion",
     .rows = 80, .batch = 30, .factored = 1, .weight_decay = 0.1},
    {"norms", 4, {19, 19, 50, 50, 3}, {"identity", "softplus", "identity", "identity"}, "mse",
     "adam", .kinds = "sdnd", .rows = 100, .batch = 36, .factored = 1, .weight_decay = 0.1},
    {"norms first", 4, {33, 33, 33, 20, 4}, {"identity", "identity", "tanh", "softmax"},
     "cross_entropy", "momentum", .kinds = "nsdd", .rows = 90, .batch = 35, .fused = 1,
     .labelled = 1, .weighted = 1, .dropout = 0.2, .clip_norm = 0.1, .l2 = 0.01},
    {"norms in slabs", 3, {17, 60, 60, 2}, {"relu", "identity", "identity"}, "mse", "adamw",
     .kinds = "dnd", .rows = 2600, .batch = 2300, .unbiased = 1},
};

static Network *new_network(const Case *c, const void *flat)
{
    Network *network = zeroed(sizeof *network);
    network->kernels = &kernels;
    expect(!fastnn_network_begin(network, c->depth), "layers of %s", c->name);
    EACH(l, c->depth)
    {
        Layer *layer = &network->layers[l];
        *layer = (Layer){.kind = kind_of(c, l) == 'd'   ? KIND_dense
                                 : kind_of(c, l) == 'n' ? KIND_layer_norm
                                                        : KIND_scale,
                         .in = c->width[l], .out = c->width[l + 1], .dropout = c->dropout,
                         .number = EPSILON * 1e-3,
                         .activation = index_of(engine->activations, c->activation[l])};
        EACH(t, TENSORS)
        layer->tensor[t] = (Tensor){.present = t ? second_of(c, l) > 0 : 1,
                                    .penalised = !t && kind_of(c, l) == 'd',
                                    .rate_factor = factor_of(c, l, (int)t, 0),
                                    .decay_factor = factor_of(c, l, (int)t, 1)};
    }
    expect(!fastnn_network_lay(network, engine->itemsize), "parameters of %s", c->name);
    EACH(i, 2) network->moments[i] = fastnn_allocate((uint64_t)(network->arena_size * engine->itemsize));
    engine->pack(network, flat, network->parameters);
    engine->transpose(network);
    return network;
}

static Plan *new_plan(const Case *c, Network *network, int threads)
{
    Plan *plan = zeroed(sizeof *plan);
    const Optimizer *optimizer = FIND(OPTIMIZERS, c->optimizer);
    plan->recipe = USUAL;
    plan->recipe.loss = index_of(engine->losses, c->loss);
    plan->recipe.fused = c->fused;
    plan->recipe.rule = index_of(engine->rules, c->optimizer);
    memcpy(plan->recipe.number, optimizer->number, sizeof plan->recipe.number);
    const Divisor divisor = ((const Loss *)FIND(LOSSES, c->loss))->divisor;
    plan->recipe.divisor = c->per_row && divisor == BY_ELEMENTS ? BY_ROWS : divisor;
    plan->recipe.l2_by_weight = c->l2_by_weight;
    plan->recipe.weight_decay = c->weight_decay;
    plan->recipe.l2 = c->l2;
    plan->recipe.clip_norm = c->clip_norm;
    expect(!fastnn_plan_lay(plan, network, engine, c->batch, threads), "plan of %s", c->name);
    expect(!fastnn_plan_gradient(plan, engine), "gradient of %s", c->name);
    plan->barrier.threads = threads;
    return plan;
}

/* With its network. */
static void free_plan(Plan *plan)
{
    fastnn_network_free(plan->network);
    fastnn_plan_free(plan);
}

typedef struct {
    Plan *plan;
    Job *job;
    int thread;
} Entry;

static void *enter(void *argument)
{
    const Entry *entry = argument;
    engine->run(entry->plan, entry->job, entry->thread);
    return NULL;
}

static void expect_subnormals(const char *where)
{
    volatile double least = DBL_MIN;
    expect(least / 4 > 0, "subnormal numbers are zero %s", where);
}

static void run(Plan *plan, Job *job)
{
    const int threads = plan->barrier.threads;
    pthread_t helpers[MOST_THREADS];
    Entry entries[MOST_THREADS];
    EACH(t, threads) entries[t] = (Entry){plan, job, (int)t};
    for (int t = 1; t < threads; t++)
        if (pthread_create(&helpers[t], NULL, enter, &entries[t]))
            exit(1);
    enter(&entries[0]);
    for (int t = 1; t < threads; t++)
        pthread_join(helpers[t], NULL);
    expect_subnormals("after a job");
}

/* ---- training, prediction, gradients ---- */

/* The largest error against the largest number. */
static void expect_alike(const void *have, const Real *want, int64_t n, const char *what,
                         const char *name)
{
    Real size = 0, worst = 0;
    EACH(i, n)
    {
        const Real error = fabsl(get(have, i) - want[i]);
        worst = error <= worst ? worst : error; /* or NaN */
        size = fmaxl(size, fabsl(want[i]));
    }
    expect_near(worst, 0, tolerance * size, what, name);
}

typedef struct {
    const Case *c;
    void *X, *target, *weight, *flat; /* in the dtype; flat: parameters */
    int64_t *labels;
    uint32_t *order[EPOCHS];
    double *rates;
    Data truth;
    int64_t size, steps; /* parameters; updates in an epoch */
} Set;

static Set draw_set(const Case *c)
{
    const int64_t in = c->width[0], out = c->width[c->depth];
    Set s = {.c = c, .size = start_of(c, c->depth), .steps = (c->rows + c->batch - 1) / c->batch};
    s.X = numbers(c->rows * in, -1, 1);
    s.labels = c->labelled ? draw_labels(c->rows, out) : NULL;
    s.target = draw_targets(FIND(LOSSES, c->loss), c->rows, out, s.labels);
    s.weight = numbers(c->rows, c->weighted ? 0.5L : 1, c->weighted ? 2 : 1);
    s.flat = blank(s.size);
    EACH(l, c->depth)
        for (int64_t i = start_of(c, l); i < start_of(c, l + 1); i++)
            put(s.flat, i, kind_of(c, l) == 'd' ? uniform(-1, 1) * sqrtl(3.0L / c->width[l])
                                                : uniform(0.5L, 1.5L));
    EACH(e, EPOCHS) shuffle(s.order[e] = array(c->rows * 4), c->rows, SEED, (uint64_t)e);
    s.rates = array(s.steps * (int64_t)sizeof(double));
    EACH(i, s.steps) s.rates[i] = 0.005 / (double)(i + 1);
    s.truth = (Data){truth_of(s.X, c->rows * in), truth_of(s.target, c->rows * out),
                     truth_of(s.weight, c->rows)};
    return s;
}

static Job job_of(const Set *s, JobKind kind, int64_t epoch)
{
    const Case *c = s->c;
    return (Job){.kind = kind, .X = s->X, .target = c->labelled ? NULL : s->target,
                 .labels = s->labels, .weight = c->weighted ? s->weight : NULL,
                 .order = kind == TRAIN ? s->order[epoch] : NULL, .rates = s->rates,
                 .rows = c->rows, .end = c->rows, .batch = kind == TRAIN ? c->batch : c->rows,
                 .seed = SEED,
                 .epoch = (uint64_t)epoch};
}

/* w after EPOCHS epochs; the loss of the last one, and the penalty in it. */
static Real true_training(const Set *s, const Recipe *usual, Real *w, Real *penalty)
{
    Recipe changing = *usual, *recipe = &changing;
    static Real gradient[PARAMETERS], m[PARAMETERS][2];
    static char is_weight[PARAMETERS];
    static double factors[2 * PARAMETERS];
    const Case *c = s->c;
    const Loss *loss = FIND(LOSSES, c->loss);
    const Optimizer *optimizer = FIND(OPTIMIZERS, c->optimizer);
    Real total = 0;
    memset(m, 0, sizeof m);
    memset(is_weight, 0, sizeof is_weight);
    EACH(l, c->depth)
    {
        const int64_t start = start_of(c, l), first = start + first_of(c, l);
        memset(is_weight + start, kind_of(c, l) == 'd', (size_t)first_of(c, l));
        for (int64_t i = start; i < start_of(c, l + 1); i++)
            EACH(k, 2) factors[2 * i + k] = factor_of(c, l, i >= first, (int)k);
    }
    EACH(step, EPOCHS * s->steps)
    {
        const int64_t epoch = step / s->steps, first = step % s->steps * c->batch;
        const int64_t rows = c->batch < c->rows - first ? c->batch : c->rows - first;
        const Real share = loss->divisor == BY_NOTHING ? 1 : (Real)rows / c->rows;
        total = first ? total : 0;
        *penalty = first ? *penalty : 0;
        if (usual->l2_by_weight) {
            Real mass = 0, squares = 0;
            EACH(i, rows) mass += s->truth.weight[s->order[epoch][first + i]];
            EACH(i, s->size) squares += is_weight[i] ? w[i] * w[i] : 0;
            recipe->l2 = (double)(usual->l2 / mass);
            *penalty += share * usual->l2 / mass * squares / 2;
        }
        total += share * true_gradient(c, &s->truth, w, s->order[epoch], 1, SEED, (uint64_t)epoch,
                                       first, rows, recipe->parameter, gradient);
        true_update(optimizer->rule, recipe, s->rates[step % s->steps], step + 1, s->size,
                    is_weight, factors, w, gradient, m);
    }
    return total + *penalty;
}

/* Prediction: like the truth, and each row's the same alone as in company. */
static void check_inference(const Set *s, const Network *network, const Real *w)
{
    const Case *c = s->c;
    const int64_t in = c->width[0], out = c->width[c->depth], rows = c->rows;
    const int64_t chosen[] = {out - 1, 0};
    void *Y = blank(rows * out), *alone = blank(rows * out), *slopes = blank(rows * 2 * in);
    Real *true_Y = array(rows * out * (int64_t)sizeof(Real));
    Real *true_slopes = array(rows * 2 * in * (int64_t)sizeof(Real));
    EACH(r, rows)
    {
        Pass p;
        Real d[WIDEST];
        memcpy(p.x[0], s->truth.X + r * in, (size_t)in * sizeof(Real));
        true_forward(c, w, 0, 0, -1, &p);
        memcpy(true_Y + r * out, p.x[c->depth], (size_t)out * sizeof(Real));
        EACH(k, 2)
        {
            EACH(o, out) d[o] = o == chosen[k];
            true_backward(c, w, 0, &p, d, NULL);
            memcpy(true_slopes + (2 * r + k) * in, d, (size_t)in * sizeof(Real));
        }
    }
    expect(!engine->predict(network, s->X, Y, 0, rows, NULL), "predict %s", c->name);
    EACH(r, rows) engine->predict(network, s->X, alone, r, r + 1, NULL);
    expect_alike(Y, true_Y, rows * out, "prediction of", c->name);
    expect(same(Y, alone, rows * out), "row by row %s differs", c->name);
    engine->input_gradient(network, s->X, chosen, 2, slopes, rows, NULL);
    expect_alike(slopes, true_slopes, rows * 2 * in, "input gradient of", c->name);
}

static void check_evaluation(const Set *s, Plan *plan, const Real *w, void *gradient)
{
    static Real truth[PARAMETERS];
    Job evaluate = job_of(s, EVALUATE, 0), differentiate = job_of(s, GRADIENT, 0);
    run(plan, &evaluate);
    run(plan, &differentiate);
    engine->unpack(plan->network, plan->gradient, gradient);
    expect(evaluate.loss == differentiate.loss, "two losses of %s", s->c->name);
    if (!w)
        return;
    const Real loss = true_gradient(s->c, &s->truth, w, NULL, 0, 0, 0, 0, s->c->rows,
                                    USUAL.parameter, truth);
    expect_alike(gradient, truth, s->size, "gradient of", s->c->name);
    expect_near(evaluate.loss, loss, tolerance * (1 + fabsl(loss)), "loss of", s->c->name);
}

/* Training on one to four threads, the same bits on all; on one against the truth. */
static void check_network(const Case *c)
{
    const Set s = draw_set(c);
    void *first[2] = {NULL, NULL};
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        Network *network = new_network(c, s.flat);
        Plan *plan = new_plan(c, network, threads);
        void *trained[2] = {blank(s.size), blank(s.size)};
        Job job;
        EACH(epoch, EPOCHS) job = job_of(&s, TRAIN, epoch), run(plan, &job);
        expect(plan->steps == EPOCHS * s.steps && network->step == plan->steps, "steps of %s",
               c->name);
        engine->unpack(network, network->parameters, trained[0]);
        check_evaluation(&s, plan, threads == 1 ? truth_of(trained[0], s.size) : NULL, trained[1]);
        EACH(i, 2)
            expect(!first[i] || same(trained[i], first[i], s.size), "%s on %d threads differs",
                   c->name, threads);
        if (threads > 1) {
            free_plan(plan);
            continue;
        }
        memcpy(first, trained, sizeof first);
        Real *w = truth_of(s.flat, s.size);
        Real penalty;
        const Real loss = true_training(&s, &plan->recipe, w, &penalty);
        expect_alike(trained[0], w, s.size, "training of", c->name);
        expect_near(job.loss + job.penalty, loss, tolerance * (1 + fabsl(loss)), "training loss of", c->name);
        expect_near(job.penalty, penalty, tolerance * (1 + penalty), "penalty of", c->name);
        check_inference(&s, network, truth_of(trained[0], s.size));
        free_plan(plan);
    }
    release();
}

/* ---- what else may happen to a job ---- */

/* Training that went astray leaves nothing behind once the parameters are set anew. */
static void check_recovery(const Case *c)
{
    const Set s = draw_set(c);
    const int64_t n = (int64_t)c->rows * c->width[c->depth];
    Network *network = new_network(c, s.flat);
    void *before = blank(n), *astray = blank(n), *after = blank(n);
    Job job = job_of(&s, TRAIN, 0);
    engine->predict(network, s.X, before, 0, c->rows, NULL);
    EACH(i, s.steps) s.rates[i] = (double)NAN;
    Plan *plan = new_plan(c, network, 1);
    run(plan, &job);
    engine->predict(network, s.X, astray, 0, c->rows, NULL);
    expect(isnan(get(astray, 0)), "%s without NaN at a rate of NaN", c->name);
    engine->pack(network, s.flat, network->parameters);
    engine->transpose(network);
    engine->predict(network, s.X, after, 0, c->rows, NULL);
    expect(same(before, after, n), "%s remembers NaN", c->name);
    free_plan(plan);
    release();
}

static int stop_at_once(void)
{
    expect_subnormals("while polling");
    return 1;
}

/* A job that is stopped leaves what its whole steps led to. */
static void check_stop(const Case *c, int threads)
{
    const Set s = draw_set(c);
    const int64_t steps = 1 << 16, rows = steps * c->batch; /* far more than 50 ms of them */
    void *flat[2] = {blank(s.size), blank(s.size)};
    uint32_t *order = array(rows * (int64_t)sizeof *order);
    double *rates = array(steps * (int64_t)sizeof *rates);
    Job job = job_of(&s, TRAIN, 0);
    job.order = order;
    job.rates = rates;
    job.rows = job.end = rows;
    EACH(i, rows) order[i] = (uint32_t)(i % c->rows);
    EACH(i, steps) rates[i] = 1e-4;
    EACH(again, 2)
    {
        Network *network = new_network(c, s.flat);
        Plan *plan = new_plan(c, network, threads);
        plan->poll = again ? NULL : stop_at_once;
        run(plan, &job);
        expect(plan->stop == !again, "%s stopped: %d", c->name, plan->stop);
        expect(plan->steps < steps, "%s ended before it could be stopped", c->name);
        expect(network->step == plan->steps, "steps after a stop");
        engine->unpack(network, network->parameters, flat[again]);
        job.rows = job.end = plan->steps * c->batch;
        free_plan(plan);
    }
    expect(same(flat[0], flat[1], s.size), "%s not after a whole step", c->name);
    release();
}
