/* losses.h: a loss over rows: its value, and its derivative with respect to the output.
 *
 * Losses of single elements are kernels of rows.h. The cross-entropy from logits looks at whole
 * rows and stands on its own below. All work on groups of up to BLOCK rows, given as blocks of
 * 16 outputs. */

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
} Group;

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
        const V value = load(mass + v) * log_positive(load(total + v)) + load(rest + v);
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
static double inverse_of(Divisor divisor, double weight_sum, int64_t outputs)
{
    return weight_sum <= 0         ? 0
           : divisor == BY_NOTHING ? 1
           : divisor == BY_ROWS    ? 1 / weight_sum
                                   : 1 / (weight_sum * (double)outputs);
}

/* By the function of single elements, or as a cross-entropy of logits if there is none. */
INLINE double group_loss(LossElements *elements, const Group *group)
{
    return elements ? elements_loss(elements, group) : cross_entropy_loss(group);
}
