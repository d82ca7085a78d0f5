/* losses.h: one row per loss: its value and its derivative with respect to the output.
 *
 * A loss of single elements is l_name(o, t, parameter, &derivative), a table row, and no
 * more. The cross-entropy from logits looks at whole rows and stands on its own below.
 * All work on groups of up to BLOCK rows, given as blocks of 16 outputs. */

INLINE V l_mse(V o, V t, T parameter, V *derivative)
{
    (void)parameter;
    *derivative = 2 * (o - t);
    return (o - t) * (o - t);
}
#define l_sum_squares l_mse

INLINE V l_mae(V o, V t, T parameter, V *derivative)
{
    (void)parameter;
    const V e = o - t;
    *derivative = choose(e > ZERO, ONE, choose(e < ZERO, -ONE, e));
    return absolute(e);
}

INLINE V l_huber(V o, V t, T delta, V *derivative)
{
    const V e = o - t, size = absolute(e);
    *derivative = choose(size > splat(delta), copy_sign(splat(delta), e), e);
    return choose(size > splat(delta), delta * (size - delta * (T)0.5), e * e * (T)0.5);
}

INLINE V l_quantile(V o, V t, T q, V *derivative)
{
    const V e = t - o;
    *derivative = choose(e > ZERO, splat(-q), choose(e < ZERO, splat(1 - q), e));
    return e * choose(e > ZERO, splat(q), splat(q - 1));
}

INLINE V l_poisson(V o, V t, T parameter, V *derivative)
{
    (void)parameter;
    const V e = vexp(o);
    *derivative = e - t;
    return e - t * o;
}

INLINE V l_binary_cross_entropy(V z, V t, T bound, V *derivative)
{
    const V e = exp_negative(-absolute(z)), most = splat(bound > 0 ? bound : (T)INFINITY);
    *derivative = choose(z < ZERO, e, ONE) / (e + (T)1) - t;
    const V value = at_least(z, 0) - z * t + log1p_unit(e);
    return choose(value > most, most, value);
}

/* log p for 0 <= p <= 1, not below -100 (PyTorch's BCELoss) */
INLINE V clamped_log(V p)
{
    return choose(p < splat(SMALLEST_NORMAL), splat(-100), at_least(vlog(p), -100));
}

INLINE V l_binary_cross_entropy_of_probabilities(V p, V t, T parameter, V *derivative)
{
    (void)parameter;
    *derivative = (p - t) / at_least(p * (1 - p), (T)1e-12);
    return -t * clamped_log(p) - (1 - t) * clamped_log(1 - p);
}

INLINE V l_cross_entropy_of_probabilities(V p, V t, T parameter, V *derivative)
{
    (void)parameter;
    *derivative = -t / at_least(p, (T)1e-12);
    return -t * clamped_log(p);
}

/* What the sum over rows and outputs is divided by. */
enum Normaliser { WEIGHT_TIMES_OUTPUTS, WEIGHT, NOTHING };

/* In the order of the contract (fastnn/engines.py). */
#define LOSSES(ELEMENTS, ROWS) \
    ELEMENTS(mse, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(mae, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(huber, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(quantile, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(poisson, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(sum_squares, NOTHING) \
    ROWS(cross_entropy, WEIGHT) \
    ELEMENTS(binary_cross_entropy, WEIGHT_TIMES_OUTPUTS) \
    ELEMENTS(cross_entropy_of_probabilities, WEIGHT) \
    ELEMENTS(binary_cross_entropy_of_probabilities, WEIGHT_TIMES_OUTPUTS)

/* A group of rows: row r's outputs are output[block * stride + r * BLOCK + lane]. */
typedef struct {
    const T *output;
    T *delta; /* same shape, or NULL; may be the output */
    int64_t stride, outputs, rows;
    const T *target[BLOCK]; /* one row each, NULL if there are labels */
    int64_t label[BLOCK];
    T weight[BLOCK];
    T scale[BLOCK]; /* of the delta: weight / normaliser */
    T parameter;
    void *custom; /* LossElements of the user's, or NULL */
} Group;

/* value and derivative of n elements */
typedef void LossElements(const T *output, const T *target, T *value, T *derivative, int64_t n,
                          T parameter);

#define DEFINE_ELEMENTS(name, normaliser) \
    OUTLINE void name##_elements(const T *output, const T *target, T *value, T *derivative, \
                                 int64_t n, T parameter) \
    { \
        V d; \
        for (int64_t i = 0; i < n; i += LANES) { \
            store(value + i, l_##name(load(output + i), load(target + i), parameter, &d)); \
            store(derivative + i, d); \
        } \
    }
#define SKIP(name, normaliser)
LOSSES(DEFINE_ELEMENTS, SKIP)

typedef struct {
    LossElements *elements; /* NULL: cross_entropy */
    enum Normaliser normaliser;
} Loss;

#define ELEMENTS_ENTRY(name, normaliser) {name##_elements, normaliser},
#define ROWS_ENTRY(name, normaliser) {NULL, normaliser},
#define NAME(name, normaliser) #name,
/* The row after the last is the user's own: its function stands in the recipe. */
static const Loss losses[] = {LOSSES(ELEMENTS_ENTRY, ROWS_ENTRY){NULL, WEIGHT_TIMES_OUTPUTS}};
static const char *const loss_names[] = {LOSSES(NAME, NAME) NULL};
#undef NAME

/* The targets of one block as (row, lane), zero beyond the outputs; labels become one-hot. */
INLINE void gather_target(const Group *group, int64_t block, T *target)
{
    const int64_t first = block * BLOCK, left = group->outputs - first;
    const int64_t lanes = left < BLOCK ? left : BLOCK;
    for (int64_t r = 0; r < group->rows; r++, target += BLOCK) {
        const T *row = group->target[r] ? group->target[r] + first : NULL;
        if (row && lanes > NARROW) {
            for (int i = 0; i < BLOCK; i += LANES)
                store(target + i, ZERO);
            copy_lanes(target, row, lanes);
            continue;
        }
        /* whole vectors, since a load soon after a narrower store would wait for it */
        for (int i = 0; i < BLOCK; i += LANES) {
            V t = ZERO;
            if (row)
                for (int64_t lane = 0; lane < lanes; lane++)
                    t += keep(lane_numbers((I)i) == (I)lane, splat(row[lane]));
            else
                t = keep(lane_numbers((I)i) == (I)(group->label[r] - first), ONE);
            store(target + i, t);
        }
    }
}

/* Sum over the group of weight * value; sets delta. */
OUTLINE double elements_loss(LossElements *elements, const Group *group)
{
    _Alignas(64) T target[BLOCK * BLOCK], value[BLOCK * BLOCK], derivative[BLOCK * BLOCK];
    V sum = ZERO;
    for (int64_t block = 0; block * BLOCK < group->outputs; block++) {
        const T *output = group->output + block * group->stride;
        T *delta = group->delta ? group->delta + block * group->stride : NULL;
        gather_target(group, block, target);
        elements(output, target, value, derivative, group->rows * BLOCK, group->parameter);
        for (int i = 0; i < BLOCK; i += LANES) {
            const VI valid = lane_numbers((I)i) < (I)(group->outputs - block * BLOCK);
            for (int64_t r = 0, at = i; r < group->rows; r++, at += BLOCK) {
                sum += keep(valid, load(value + at)) * group->weight[r];
                if (delta)
                    store(delta + at, keep(valid, load(derivative + at)) * group->scale[r]);
            }
        }
    }
    return (double)sum_of(sum);
}

/* Cross-entropy of logits z with targets t, by log-sum-exp:
 *   l = (sum t) log(sum exp z) - sum t z,   dl/dz = (sum t) softmax(z) - t
 * with l no larger than the parameter, if there is one.
 * All rows of the group at once: a transposed tile has the rows in its lanes. */
OUTLINE double cross_entropy_loss(const Group *group)
{
    _Alignas(64) T tile[BLOCK * BLOCK], top[BLOCK], total[BLOCK], rest[BLOCK], mass[BLOCK];
    _Alignas(64) T factor[BLOCK];
    const int64_t outputs = group->outputs, blocks = (outputs + BLOCK - 1) / BLOCK;
    const int64_t stride = group->stride;
#define EACH_VECTOR for (int v = 0; v < BLOCK; v += LANES)
#define EACH_OUTPUT(block) \
    for (int64_t o = 0; o < BLOCK && o < outputs - (block) * BLOCK; o++)

    EACH_VECTOR store(top + v, splat(-(T)INFINITY));
    for (int64_t block = 0; block < blocks; block++) {
        transpose_tile(group->output + block * stride, BLOCK, tile, BLOCK);
        EACH_VECTOR
        {
            V most = load(top + v);
            EACH_OUTPUT(block) most = larger_or_second(load(tile + o * BLOCK + v), most);
            store(top + v, most);
        }
    }

    /* l = mass log(total) + rest, with z counted from the top */
    for (int64_t r = 0; r < group->rows; r++) {
        const T *z = group->output + r * BLOCK;
        if (!group->target[r]) {
            mass[r] = 1;
            rest[r] = top[r] - z[group->label[r] / BLOCK * stride + group->label[r] % BLOCK];
            continue;
        }
        mass[r] = rest[r] = 0;
        for (int64_t o = 0; o < outputs; o++) {
            const T t = group->target[r][o];
            mass[r] += t;
            if (t != 0)
                rest[r] -= t * (z[o / BLOCK * stride + o % BLOCK] - top[r]);
        }
    }

    EACH_VECTOR store(total + v, ZERO);
    for (int64_t block = 0; block < blocks; block++) {
        if (blocks > 1) /* a single block is there from above */
            transpose_tile(group->output + block * stride, BLOCK, tile, BLOCK);
        EACH_VECTOR
        {
            const V most = load(top + v);
            V sum = load(total + v);
            for (int64_t o = outputs - block * BLOCK; o < BLOCK; o++)
                store(tile + o * BLOCK + v, ZERO);
            EACH_OUTPUT(block)
            {
                const V e = exp_negative(load(tile + o * BLOCK + v) - most);
                store(tile + o * BLOCK + v, e);
                sum += e;
            }
            store(total + v, sum);
        }
        if (group->delta)
            transpose_tile(tile, BLOCK, group->delta + block * stride, BLOCK);
    }

    /* dl/dz = factor e^z - scale t */
    EACH_VECTOR
        store(factor + v, load(group->scale + v) * load(mass + v) / load(total + v));
    for (int64_t block = 0; group->delta && block < blocks; block++) {
        gather_target(group, block, tile);
        for (int64_t r = 0; r < group->rows; r++)
            EACH_VECTOR
            {
                T *delta = group->delta + block * stride + r * BLOCK + v;
                store(delta, load(delta) * factor[r] -
                                 load(tile + r * BLOCK + v) * group->scale[r]);
            }
    }

    V sum = ZERO;
    EACH_VECTOR
    {
        const V value = load(mass + v) * vlog(load(total + v)) + load(rest + v);
        const V bounded =
            group->parameter > 0 ? smaller_or_second(splat(group->parameter), value) : value;
        sum += keep(lane_numbers((I)v) < (I)group->rows, bounded * load(group->weight + v));
    }
#undef EACH_OUTPUT
#undef EACH_VECTOR
    return (double)sum_of(sum);
}

/* What all rows without weight give, even where the loss would overflow. */
OUTLINE void clear_delta(const Group *group)
{
    for (int64_t block = 0; block * BLOCK < group->outputs; block++)
        memset(group->delta + block * group->stride, 0,
               (size_t)(group->rows * BLOCK) * sizeof(T));
}

/* 1 / what the loss is divided by; 0 where the weights sum to zero. */
static double inverse_of(int loss, int per_row, double weight_sum, int64_t outputs)
{
    enum Normaliser normaliser = losses[loss].normaliser;
    if (per_row && normaliser == WEIGHT_TIMES_OUTPUTS)
        normaliser = WEIGHT;
    return weight_sum <= 0               ? 0
           : normaliser == NOTHING       ? 1
           : normaliser == WEIGHT        ? 1 / weight_sum
                                         : 1 / (weight_sum * (double)outputs);
}

INLINE double group_loss(int loss, const Group *group)
{
    LossElements *elements = group->custom ? (LossElements *)group->custom : losses[loss].elements;
    return elements ? elements_loss(elements, group) : cross_entropy_loss(group);
}
