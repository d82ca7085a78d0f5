/* truth.h: what the engine should compute, from the textbook, for check.c.
 *
 * Plain loops over long doubles, one row of a table for each activation, loss and update rule,
 * and a network that goes forward and backward one row at a time. Of the engine it uses the
 * fields of a Recipe and the specified random words, and no formula. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastnn.h"
#include "random.h"

_Static_assert(LDBL_MANT_DIG > DBL_MANT_DIG, "truth needs more bits than a double has");
typedef long double Real;

enum { DEPTH = 4, WIDEST = 600, PARAMETERS = 1 << 16 }; /* at most, of the networks */

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))
#define EACH(i, n) for (int64_t i = 0; i < (n); i++)
#define FIND(table, name) find(table, COUNT(table), sizeof(table)[0], name)

/* The row of a table whose first member is `name`. */
static const void *find(const void *table, int count, size_t size, const char *name)
{
    for (const char *row = table; count > 0; row += size, count--)
        if (!strcmp(*(const char *const *)row, name))
            return row;
    fprintf(stderr, "truth.h has no %s: add it\n", name);
    exit(1);
}

/* ---- activations ---- */

static Real sigmoid(Real z) { return 1 / (1 + expl(-z)); }
static Real normal(Real z) { return erfcl(-z / sqrtl(2)) / 2; }
static Real softplus(Real z) { return log1pl(expl(-fabsl(z))) + (z > 0 ? z : 0); }
static Real clip(Real x, Real low, Real high) { return x < low ? low : x > high ? high : x; }
#define SELU_SCALE 1.0507009873554804934193349852946L
#define SELU_ALPHA 1.6732632423543772848170429916717L

/* Name, f(z), f'(z), and bounds of their errors in u: of f relative to f, six for each exp,
 * tanh or the like that it holds (3 ulp) and one or two for an operation; of f' relative to 1,
 * about the largest f'. Last, whether f' is a product with z: then the error of the other
 * factor is magnified by z until that factor is gone (|z| near 20). */
#define EACH_ACTIVATION(ROW) \
    ROW(identity, z, 1 + 0 * z, 0, 0, 0) \
    ROW(relu, z > 0 ? z : 0, z > 0, 0, 0, 0) \
    ROW(leaky_relu, z > 0 ? z : z / 100, z > 0 ? 1 : 0.01L, 2, 1, 0) \
    ROW(elu, z > 0 ? z : expm1l(z), z > 0 ? 1 : expl(z), 6, 6, 0) \
    ROW(selu, SELU_SCALE * (z > 0 ? z : SELU_ALPHA * expm1l(z)), \
        SELU_SCALE * (z > 0 ? 1 : SELU_ALPHA * expl(z)), 8, 8, 0) \
    ROW(gelu, z * normal(z), normal(z) + z * expl(-z * z / 2) / sqrtl(2 * acosl(-1)), 8, 6, 1) \
    ROW(silu, z * sigmoid(z), sigmoid(z) + z * sigmoid(z) * sigmoid(-z), 8, 6, 1) \
    ROW(mish, z * tanhl(softplus(z)), \
        tanhl(softplus(z)) + z * sigmoid(z) * powl(coshl(softplus(z)), -2), 12, 6, 1) \
    ROW(softplus, softplus(z), sigmoid(z), 8, 6, 0) \
    ROW(sigmoid, sigmoid(z), sigmoid(z) * sigmoid(-z), 6, 6, 0) \
    ROW(tanh, tanhl(z), powl(coshl(z), -2), 6, 14, 0) \
    ROW(softsign, z / (1 + fabsl(z)), powl(1 + fabsl(z), -2), 4, 6, 0) \
    ROW(hard_sigmoid, clip(z + 3, 0, 6) / 6, fabsl(z) < 3 ? 1 / 6.0L : 0, 4, 2, 0) \
    ROW(hard_swish, z * clip(z + 3, 0, 6) / 6, z <= -3 ? 0 : z >= 3 ? 1 : z / 3 + 0.5L, 6, 4, 1) \
    ROW(hard_tanh, clip(z, -1, 1), fabsl(z) < 1, 0, 0, 0) \
    ROW(sine, sinl(z), cosl(z), 8, 8, 0)

typedef struct {
    const char *name;
    Real (*f)(Real), (*slope)(Real);
    int bound, slope_bound, is_product;
} Activation;
#define DEFINE(name, f, slope, ...) \
    static Real f_##name(Real z) { return f; } \
    static Real slope_##name(Real z) { return slope; }
#define ENTRY(name, f, slope, ...) {#name, f_##name, slope_##name, __VA_ARGS__},
EACH_ACTIVATION(DEFINE)
static const Activation ACTIVATIONS[] = {EACH_ACTIVATION(ENTRY)};
#undef DEFINE
#undef ENTRY

/* y = softmax(z); dz = y (dy - sum(y dy)) unless dz is NULL */
static void true_softmax(int64_t n, const Real *z, const Real *dy, Real *y, Real *dz)
{
    Real top = z[0], total = 0, dot = 0;
    EACH(j, n) top = fmaxl(top, z[j]);
    EACH(j, n) total += y[j] = expl(z[j] - top);
    EACH(j, n) y[j] /= total;
    EACH(j, dz ? n : 0) dot += y[j] * dy[j];
    EACH(j, dz ? n : 0) dz[j] = y[j] * (dy[j] - dot);
}

/* ---- losses ---- */

/* Name, l(o, t, p) and dl/do of an output o and a target t, what their sum is divided by,
 * where o may lie. p is the loss's parameter; for cross_entropy, which is of whole rows, it
 * is the sum of the row's targets, and o is log softmax of the logits: row_loss has the bound. */
#define EACH_LOSS(ROW) \
    ROW(mse, (o - t) * (o - t), 2 * (o - t), BY_ELEMENTS, -4, 4) \
    ROW(mae, fabsl(o - t), o > t ? 1 : o < t ? -1 : 0, BY_ELEMENTS, -4, 4) \
    ROW(huber, fabsl(o - t) <= p ? (o - t) * (o - t) / 2 : p * (fabsl(o - t) - p / 2), \
        clip(o - t, -p, p), BY_ELEMENTS, -4, 4) \
    ROW(quantile, fmaxl(p * (t - o), (p - 1) * (t - o)), o > t ? 1 - p : o < t ? -p : 0, \
        BY_ELEMENTS, -4, 4) \
    ROW(log_cosh, logl(coshl(o - t)), tanhl(o - t), BY_ELEMENTS, -4, 4) \
    ROW(poisson, expl(o) - t * o, expl(o) - t, BY_ELEMENTS, -4, 4) \
    ROW(hinge, fmaxl(0, 1 - (t > 0 ? o : -o)), (t > 0 ? o : -o) < 1 ? (t > 0 ? -1 : 1) : 0, \
        BY_ELEMENTS, -4, 4) \
    ROW(sum_squares, (o - t) * (o - t), 2 * (o - t), BY_NOTHING, -4, 4) \
    ROW(cross_entropy, -t * o, p * expl(o) - t, BY_ROWS, -4, 4) \
    ROW(binary_cross_entropy, fminl(p, -t * logl(sigmoid(o)) - (1 - t) * logl(sigmoid(-o))), \
        sigmoid(o) - t, BY_ELEMENTS, -4, 4) \
    ROW(cross_entropy_of_probabilities, -t * logl(o), -t / o, BY_ROWS, 0.02L, 0.98L) \
    ROW(binary_cross_entropy_of_probabilities, -t * logl(o) - (1 - t) * logl(1 - o), \
        (o - t) / (o * (1 - o)), BY_ELEMENTS, 0.02L, 0.98L)

typedef struct {
    const char *name;
    Real (*value)(Real, Real, Real), (*derivative)(Real, Real, Real);
    Divisor divisor;
    Real low, high;
} Loss;
#define DEFINE(name, l, derivative, ...) \
    static Real l_##name(Real o, Real t, Real p) { return (void)p, l; } \
    static Real dl_##name(Real o, Real t, Real p) { return (void)p, (void)t, derivative; }
#define ENTRY(name, l, derivative, ...) {#name, l_##name, dl_##name, __VA_ARGS__},
EACH_LOSS(DEFINE)
static const Loss LOSSES[] = {EACH_LOSS(ENTRY)};
#undef DEFINE
#undef ENTRY

/* The loss of one row of n outputs and its derivative, neither divided by anything. */
static Real row_loss(const Loss *loss, int64_t n, const Real *o, const Real *t, Real p, Real *delta)
{
    Real top = o[0], total = 0, mass = 0, shift = 0, sum = 0, bound = INFINITY;
    EACH(j, n) top = fmaxl(top, o[j]), mass += t[j];
    EACH(j, n) total += expl(o[j] - top);
    if (loss->value == l_cross_entropy)
        shift = top + logl(total), bound = p, p = mass;
    EACH(j, n) sum += loss->value(o[j] - shift, t[j], p);
    EACH(j, n) delta[j] = loss->derivative(o[j] - shift, t[j], p);
    return fminl(sum, bound);
}

static Real divisor_of(const Loss *loss, Real weights, int64_t outputs)
{
    const Real divisors[] = {weights * (Real)outputs, weights, 1};
    return divisors[loss->divisor];
}

/* ---- update rules: PyTorch's documented ones, and as kernels/contract.py says ---- */

/* The new value of one parameter w with gradient g; its moments m change. The numbers of a rule
 * stand in the recipe, in the order of the contract. */
typedef Real Rule(Real w, Real g, Real *m, const Recipe *r, Real rate, int64_t step);
#define RULE(name) \
    static Real name(Real w, Real g, Real *m, const Recipe *r, Real rate, int64_t step)
#define NUMBER(i) ((Real)r->number[i])

static Real moving(Real *m, Real beta, Real g) { return *m = beta * *m + (1 - beta) * g; }

RULE(sgd) { return (void)m, (void)step, w - rate * (g + r->weight_decay * w); }
RULE(momentum)
{
    (void)step;
    m[0] = NUMBER(0) * m[0] + g + r->weight_decay * w;
    return w - rate * m[0];
}
RULE(nesterov)
{
    const Real to = momentum(w, g, m, r, rate, step);
    return (void)to, w - rate * (g + r->weight_decay * w + NUMBER(0) * m[0]);
}
RULE(velocity)
{
    (void)step;
    m[0] = NUMBER(0) * m[0] + rate * (g + r->weight_decay * w);
    return w - m[0];
}
RULE(nesterov_velocity)
{
    const Real to = velocity(w, g, m, r, rate, step);
    return (void)to, w - rate * (g + r->weight_decay * w) - NUMBER(0) * m[0];
}
RULE(rmsprop)
{
    (void)step;
    g += r->weight_decay * w;
    return w - rate * g / (sqrtl(moving(m, NUMBER(0), g * g)) + NUMBER(1));
}
RULE(rmsprop_momentum)
{
    (void)step;
    g += r->weight_decay * w;
    m[1] = NUMBER(2) * m[1] + g / (sqrtl(moving(m, NUMBER(0), g * g)) + NUMBER(1));
    return w - rate * m[1];
}
RULE(adagrad)
{
    (void)step;
    g += r->weight_decay * w;
    m[0] += g * g;
    return w - rate * g / (sqrtl(m[0]) + NUMBER(0));
}
/* Without decay; epsilon is added to the root of v times `scale`. */
static Real undecayed(Real w, Real g, Real *m, const Recipe *r, Real rate, int64_t step, int is_hat)
{
    const Real m_hat = moving(m, NUMBER(0), g) / (1 - powl(NUMBER(0), (Real)step));
    const Real correction = sqrtl(1 - powl(NUMBER(1), (Real)step));
    const Real root = sqrtl(moving(m + 1, NUMBER(1), g * g));
    return w - rate * m_hat / (is_hat ? (root + NUMBER(2)) / correction
                                      : root / correction + NUMBER(2));
}
RULE(adam) { return undecayed(w, g + r->weight_decay * w, m, r, rate, step, 0); }
RULE(adamw) { return undecayed(w * (1 - rate * r->weight_decay), g, m, r, rate, step, 0); }
RULE(adam_hat) { return undecayed(w, g + r->weight_decay * w, m, r, rate, step, 1); }
RULE(nadam)
{
    Real product = 1, mu[2] = {0};
    for (int64_t s = 1; s <= step + 1; s++) {
        mu[0] = mu[1];
        mu[1] = NUMBER(0) * (1 - powl(0.96L, (Real)s * NUMBER(3)) / 2);
        product *= s <= step ? mu[1] : 1;
    }
    g += r->weight_decay * w;
    const Real m_hat = mu[1] * moving(m, NUMBER(0), g) / (1 - product * mu[1]) +
                       (1 - mu[0]) * g / (1 - product);
    const Real v_hat = moving(m + 1, NUMBER(1), g * g) / (1 - powl(NUMBER(1), (Real)step));
    return w - rate * m_hat / (sqrtl(v_hat) + NUMBER(2));
}
RULE(lion)
{
    (void)step;
    const Real c = NUMBER(0) * m[0] + (1 - NUMBER(0)) * g;
    moving(m, NUMBER(1), g);
    return w * (1 - rate * r->weight_decay) - rate * (c > 0 ? 1 : c < 0 ? -1 : 0);
}

typedef struct {
    const char *name;
    int moments;
    double number[NUMBERS];
    Rule *rule;
} Optimizer;
static const Optimizer OPTIMIZERS[] = {
    {"sgd", 0, {0}, sgd},
    {"momentum", 1, {0.9}, momentum},
    {"nesterov", 1, {0.9}, nesterov},
    {"velocity", 1, {0.9}, velocity},
    {"nesterov_velocity", 1, {0.9}, nesterov_velocity},
    {"rmsprop", 1, {0.99, 1e-3}, rmsprop},
    {"rmsprop_momentum", 2, {0.99, 1e-3, 0.9}, rmsprop_momentum},
    {"adagrad", 1, {1e-3}, adagrad},
    {"adam", 2, {0.9, 0.99, 1e-3}, adam},
    {"adamw", 2, {0.9, 0.99, 1e-3}, adamw},
    {"adam_hat", 2, {0.9, 0.99, 1e-3}, adam_hat},
    {"nadam", 2, {0.9, 0.99, 1e-3, 4e-3}, nadam},
    {"lion", 1, {0.9, 0.99}, lion},
};

/* n parameters: l2 acts on those that are weights (NULL: all), then the gradient is clipped; rate
 * and decay are multiplied by their factors (NULL: 1). */
static void true_update(Rule *rule, const Recipe *usual, Real rate, int64_t step, int64_t n,
                        const char *is_weight, const double *factors, Real *w,
                        const Real *gradient, Real (*m)[2])
{
    static Real g[PARAMETERS];
    Real norm = 0, scale = 1;
    EACH(i, n) g[i] = gradient[i] + (!is_weight || is_weight[i] ? usual->l2 * w[i] : 0);
    EACH(i, n) norm += g[i] * g[i];
    if (usual->clip_norm > 0)
        scale = fminl(1, usual->clip_norm / (sqrtl(norm) + 1e-6L));
    EACH(i, n)
    {
        Recipe own = *usual;
        own.weight_decay *= factors ? factors[2 * i + 1] : 1;
        w[i] = rule(w[i], g[i] * scale, m[i], &own, rate * (factors ? factors[2 * i] : 1), step);
    }
}

/* ---- networks ---- */

typedef struct {
    const char *name;
    int depth, width[DEPTH + 1];
    const char *activation[DEPTH], *loss, *optimizer;
    int rows, batch;
    const char *kinds;                       /* a letter a layer: dense, norm, scale; NULL: dense */
    int fused, labelled, weighted, unbiased; /* fused: the loss takes the last z */
    int factored;                            /* tensors have factors of their own */
    int l2_by_weight, per_row;
    double dropout, weight_decay, l2, clip_norm;
} Case;

static char kind_of(const Case *c, int64_t l) { return c->kinds ? c->kinds[l] : 'd'; }

/* Numbers of the first tensor of layer l, and of its second. */
static int64_t first_of(const Case *c, int64_t l)
{
    return (int64_t)c->width[l + 1] * (kind_of(c, l) == 'd' ? c->width[l] : 1);
}
static int64_t second_of(const Case *c, int64_t l)
{
    return c->unbiased || kind_of(c, l) == 's' ? 0 : c->width[l + 1];
}

/* Factors of the learning rate and the weight decay of tensor t of layer l. */
static double factor_of(const Case *c, int64_t l, int t, int which)
{
    return c->factored ? 0.5 + 0.25 * (double)((3 * l + 2 * t + which) % 5) : 1;
}

/* Where layer l begins in the flat parameters; l = depth: how many there are. */
static int64_t start_of(const Case *c, int64_t l)
{
    int64_t at = 0;
    EACH(i, l) at += first_of(c, i) + second_of(c, i);
    return at;
}

enum { EPSILON = 3 }; /* layer_norm's, in thousandths */

/* The mean of n numbers, and 1 / their deviation. */
static void moments_of(const Real *x, int64_t n, Real *mean, Real *factor)
{
    Real variance = 0;
    *mean = 0;
    EACH(i, n) *mean += x[i] / n;
    EACH(i, n) variance += (x[i] - *mean) * (x[i] - *mean) / n;
    *factor = 1 / sqrtl(variance + EPSILON * 1e-3L);
}

/* z of layer l from x; parameters begin at W. */
static void true_layer(const Case *c, int64_t l, const Real *W, const Real *x, Real *z)
{
    const int64_t in = c->width[l], out = c->width[l + 1];
    const Real *b = W + first_of(c, l);
    Real mean, factor;
    moments_of(x, in, &mean, &factor);
    EACH(o, out) z[o] = second_of(c, l) ? b[o] : 0;
    if (kind_of(c, l) == 'd')
        EACH(i, in) EACH(o, out) z[o] += x[i] * W[i * out + o];
    else
        EACH(o, out) z[o] += W[o] * (kind_of(c, l) == 'n' ? (x[o] - mean) * factor : x[o]);
}

/* dx from dz; the parameters' derivatives are added to gradient unless that is NULL. */
static void true_layer_backward(const Case *c, int64_t l, const Real *W, const Real *x,
                                const Real *dz, Real *dx, Real *gradient)
{
    const int64_t in = c->width[l], out = c->width[l + 1];
    const int is_norm = kind_of(c, l) == 'n';
    Real mean, factor, sum = 0, dot = 0;
    moments_of(x, in, &mean, &factor);
    EACH(o, gradient && second_of(c, l) ? out : 0) gradient[first_of(c, l) + o] += dz[o];
    if (kind_of(c, l) == 'd') {
        EACH(k, gradient ? in * out : 0) gradient[k] += x[k / out] * dz[k % out];
        EACH(k, in * out) dx[k / out] += dz[k % out] * W[k];
        return;
    }
    EACH(i, in)
    {
        const Real n = is_norm ? (x[i] - mean) * factor : x[i];
        if (gradient)
            gradient[i] += dz[i] * n;
        sum += dz[i] * W[i] / in;
        dot += dz[i] * W[i] * n / in;
    }
    EACH(i, in)
    dx[i] = is_norm ? (dz[i] * W[i] - sum - (x[i] - mean) * factor * dot) * factor : dz[i] * W[i];
}

/* One row on its way: x[l] enters layer l after dropout, x[depth] leaves the network. */
typedef struct {
    Real x[DEPTH + 1][WIDEST], z[DEPTH][WIDEST], keep[DEPTH][WIDEST];
} Pass;

/* Dropout's factor of input i of layer l, as kernels/random.py specifies it. */
static Real kept(const Case *c, int64_t l, uint64_t seed, uint64_t epoch, int64_t position,
                 int64_t i)
{
    const int64_t block = position * ((c->width[l] + 15) / 16) + i / 16;
    const uint64_t key = stream_key(seed, STREAM_DROPOUT, (epoch << 16) + (uint64_t)l);
    const uint64_t word = stream_word(key, (uint64_t)(8 * block + i % 16 / 2));
    const uint32_t half = (uint32_t)(i % 2 ? word >> 32 : word);
    return half >= (uint32_t)(c->dropout * 0x1p32) ? 1 / (1 - (Real)c->dropout) : 0;
}

/* From p->x[0] on; position < 0: without dropout. */
static void true_forward(const Case *c, const Real *w, uint64_t seed, uint64_t epoch,
                         int64_t position, Pass *p)
{
    EACH(l, c->depth)
    {
        const int64_t in = c->width[l], out = c->width[l + 1];
        const int drops = position >= 0 && c->dropout > 0;
        EACH(i, in) p->keep[l][i] = drops ? kept(c, l, seed, epoch, position, i) : 1;
        EACH(i, in) p->x[l][i] *= p->keep[l][i];
        true_layer(c, l, w + start_of(c, l), p->x[l], p->z[l]);
        if (!strcmp(c->activation[l], "softmax")) {
            true_softmax(out, p->z[l], NULL, p->x[l + 1], NULL);
            continue;
        }
        const Activation *a = FIND(ACTIVATIONS, c->activation[l]);
        EACH(o, out) p->x[l + 1][o] = a->f(p->z[l][o]);
    }
}

/* d, the derivative by the output (fused: by the last z), becomes that by the input; the
 * parameters' is added to gradient unless that is NULL. */
static void true_backward(const Case *c, const Real *w, int fused, const Pass *p, Real *d,
                          Real *gradient)
{
    for (int64_t l = c->depth - 1; l >= 0; l--) {
        const int64_t in = c->width[l], out = c->width[l + 1], at = start_of(c, l);
        Real dz[WIDEST], y[WIDEST];
        if (fused && l == c->depth - 1)
            memcpy(dz, d, (size_t)out * sizeof(Real));
        else if (!strcmp(c->activation[l], "softmax"))
            true_softmax(out, p->z[l], d, y, dz);
        else {
            const Activation *a = FIND(ACTIVATIONS, c->activation[l]);
            EACH(o, out) dz[o] = d[o] * a->slope(p->z[l][o]);
        }
        memset(d, 0, (size_t)in * sizeof(Real));
        true_layer_backward(c, l, w + at, p->x[l], dz, d, gradient ? gradient + at : NULL);
        EACH(i, in) d[i] *= p->keep[l][i];
    }
}

/* X (rows, in), target (rows, out) also where there are labels, weight (rows,) */
typedef struct {
    Real *X, *target, *weight;
} Data;

/* The loss of `rows` rows from position `first` of an order on (NULL: 0, 1, 2 ...), and its
 * gradient; with dropout while training. */
static Real true_gradient(const Case *c, const Data *data, const Real *w, const uint32_t *order,
                          int training, uint64_t seed, uint64_t epoch, int64_t first, int64_t rows,
                          Real parameter, Real *gradient)
{
    const Loss *loss = FIND(LOSSES, c->loss);
    const int64_t in = c->width[0], out = c->width[c->depth];
    Pass p;
    Real sum = 0, weights = 0, d[WIDEST];
    memset(gradient, 0, (size_t)start_of(c, c->depth) * sizeof(Real));
    EACH(i, rows) weights += data->weight[order ? order[first + i] : first + i];
    EACH(i, rows)
    {
        const int64_t r = order ? order[first + i] : first + i;
        const Real share = data->weight[r] / divisor_of(loss, weights, c->per_row ? 1 : out);
        memcpy(p.x[0], data->X + r * in, (size_t)in * sizeof(Real));
        true_forward(c, w, seed, epoch, training ? first + i : -1, &p);
        sum += share * row_loss(loss, out, c->fused ? p.z[c->depth - 1] : p.x[c->depth],
                                data->target + r * out, parameter, d);
        EACH(j, out) d[j] *= share;
        true_backward(c, w, c->fused, &p, d, gradient);
    }
    return sum;
}
