/* optimizers.h: one row per optimizer: how n parameters follow their gradient.
 *
 * o_name(w, g, &m0, &m1, s) returns the new w. Rules and the place of epsilon as in
 * PyTorch's documentation; what depends on the step number alone is in Scalars, computed
 * in double once a step. */

typedef struct {
    T rate;         /* of this step, Adam's bias corrections included */
    T momentum;     /* SGD, RMSprop */
    T beta_1, beta_2, rest_1, rest_2; /* rest = 1 - beta */
    T epsilon;
    T shrink;       /* AdamW: w is multiplied by this first */
    T clip;         /* the gradient is multiplied by this first */
    T decay;        /* then decay * w is added to it */
    double gain;    /* a factor in clip and decay: the rate, if the velocity holds it */
    int nesterov;
} Scalars;

INLINE V o_sgd(V w, V g, V *m0, V *m1, const Scalars *s)
{
    (void)m0, (void)m1;
    return w - g * s->rate;
}

INLINE V o_momentum(V w, V g, V *m0, V *m1, const Scalars *s)
{
    (void)m1;
    *m0 = *m0 * s->momentum + g;
    return w - (s->nesterov ? *m0 * s->momentum + g : *m0) * s->rate;
}

INLINE V o_rmsprop(V w, V g, V *m0, V *m1, const Scalars *s)
{
    (void)m1;
    *m0 = *m0 * s->beta_2 + g * g * s->rest_2;
    return w - g * s->rate * inverse_root(*m0, s->epsilon);
}

INLINE V o_rmsprop_momentum(V w, V g, V *m0, V *m1, const Scalars *s)
{
    *m0 = *m0 * s->beta_2 + g * g * s->rest_2;
    *m1 = *m1 * s->momentum + g * inverse_root(*m0, s->epsilon);
    return w - *m1 * s->rate;
}

INLINE V o_adagrad(V w, V g, V *m0, V *m1, const Scalars *s)
{
    (void)m1;
    *m0 = *m0 + g * g;
    return w - g * s->rate * inverse_root(*m0, s->epsilon);
}

INLINE V o_adam(V w, V g, V *m0, V *m1, const Scalars *s)
{
    *m0 = *m0 * s->beta_1 + g * s->rest_1;
    *m1 = *m1 * s->beta_2 + g * g * s->rest_2;
    return w * s->shrink - *m0 * s->rate * inverse_root(*m1, s->epsilon);
}

/* name in the contract, function, number of moments */
#define OPTIMIZERS(ROW) \
    ROW(sgd, sgd, 0) \
    ROW(sgd, momentum, 1) \
    ROW(rmsprop, rmsprop, 1) \
    ROW(rmsprop, rmsprop_momentum, 2) \
    ROW(adagrad, adagrad, 1) \
    ROW(adam, adam, 2) \
    ROW(adamw, adam, 2)

/* n is a multiple of LANES; a moment that the row does not have may be NULL. */
typedef void Update(T *w, T *m0, T *m1, const T *g, int64_t n, const Scalars *s);

#define DEFINE(function, moments) \
    OUTLINE void update_##function(T *restrict w, T *restrict m0, T *restrict m1, \
                                   const T *restrict g, int64_t n, const Scalars *scalars) \
    { \
        const Scalars s = *scalars; \
        for (int64_t i = 0; i < n; i += LANES) { \
            const V at = load(w + i); \
            V a = moments > 0 ? load(m0 + i) : ZERO, b = moments > 1 ? load(m1 + i) : ZERO; \
            store(w + i, o_##function(at, load(g + i) * s.clip + at * s.decay, &a, &b, &s)); \
            if (moments > 0) \
                store(m0 + i, a); \
            if (moments > 1) \
                store(m1 + i, b); \
        } \
    }
DEFINE(sgd, 0)
DEFINE(momentum, 1)
DEFINE(rmsprop, 1)
DEFINE(rmsprop_momentum, 2)
DEFINE(adagrad, 1)
DEFINE(adam, 2)
#undef DEFINE

typedef struct {
    Update *update;
    int moments;
} Optimizer;

#define ENTRY(name, function, moments) {update_##function, moments},
#define NAME(name, function, moments) #name "/" #moments,
#define INDEX(name, function, moments) OPTIMIZER_##name##_##moments,
static const Optimizer optimizers[] = {OPTIMIZERS(ENTRY)};
static const char *const optimizer_names[] = {OPTIMIZERS(NAME) NULL};
enum { OPTIMIZERS(INDEX) OPTIMIZER_COUNT };
#undef ENTRY
#undef NAME
#undef INDEX

static Scalars step_scalars(const Recipe *recipe, double rate, int64_t step)
{
    const double gain = recipe->rate_in_velocity ? rate : 1;
    Scalars s = {
        .rate = recipe->rate_in_velocity ? 1 : (T)rate,
        .momentum = (T)recipe->momentum,
        .beta_1 = (T)recipe->beta_1,
        .beta_2 = (T)recipe->beta_2,
        .rest_1 = (T)(1 - recipe->beta_1),
        .rest_2 = (T)(1 - recipe->beta_2),
        .epsilon = (T)recipe->epsilon,
        .shrink = 1,
        .clip = (T)gain,
        .decay = (T)(recipe->weight_decay * gain),
        .gain = gain,
        .nesterov = recipe->nesterov,
    };
    const int row = recipe->optimizer;
    if (row == OPTIMIZER_adam_2 || row == OPTIMIZER_adamw_2) {
        /* m^ / (sqrt(v^) + epsilon) with both bias corrections moved out of the loop */
        const double correction = sqrt(1 - pow(recipe->beta_2, (double)step));
        s.rate = (T)(rate * correction / (1 - pow(recipe->beta_1, (double)step)));
        if (!recipe->epsilon_hat)
            s.epsilon = (T)(recipe->epsilon * correction);
    }
    if (row == OPTIMIZER_adamw_2) {
        s.shrink = (T)(1 - rate * recipe->weight_decay);
        s.decay = 0;
    }
    return s;
}
