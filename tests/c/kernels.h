/* kernels.h: checks of the single kernels on plain arrays, for sizes around the vectors'. */

#include "ledger.h"

static const int SIZES[] = {1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 33, 65};

/* ---- products ---- */

/* c (m, n) against a (m, k) b (k, n) + d (n), within (k + 2) u of the sum of |a b| and |d|.
 * Strides for the rows and columns of a and b; a may be NULL for ones, d for zero. */
static void check_product(const char *what, const void *c, int64_t m, int64_t n, int64_t k,
                          const void *a, int64_t a_row, int64_t a_column, const void *b,
                          int64_t b_row, int64_t b_column, const void *d)
{
    EACH(i, m) EACH(j, n)
    {
        Real sum = d ? get(d, j) : 0, size = fabsl(sum);
        EACH(l, k)
        {
            const Real x = a ? get(a, i * a_row + l * a_column) : 1;
            const Real term = x * get(b, l * b_row + j * b_column);
            sum += term;
            size += fabsl(term);
        }
        expect_near(get(c, i * n + j), sum, (Real)(k + 2) * u * size, "product", what);
    }
}

static void check_linear(int64_t rows, int64_t in, int64_t out, int biased)
{
    void *X = numbers(rows * in, -2, 2), *W = numbers(in * out, -2, 2);
    void *bias = biased ? numbers(out, -2, 2) : NULL, *Y = blank(rows * out);
    void *dY = numbers(rows * out, -2, 2), *dX = blank(rows * in), *dW = blank(in * out);
    void *db = blank(out);
    const int identity = index_of(engine->activations, "identity");
    engine->linear_forward(&kernels, X, W, bias, identity, Y, rows, in, out);
    engine->linear_backward(&kernels, X, W, dY, dX, dW, db, rows, in, out);
    check_product("forward", Y, rows, out, in, X, in, 1, W, out, 1, bias);
    check_product("input delta", dX, rows, in, out, dY, out, 1, W, 1, out, NULL);
    check_product("weight gradient", dW, in, out, rows, X, 1, in, dY, out, 1, NULL);
    check_product("bias gradient", db, 1, out, rows, NULL, 0, 0, dY, out, 1, NULL);
    release();
}

static void check_products(void)
{
    EACH(i, COUNT(SIZES)) EACH(o, COUNT(SIZES)) EACH(r, 3)
        check_linear(SIZES[(i + 3 * o + 5 * r) % COUNT(SIZES)], SIZES[i], SIZES[o], r != 1);
    check_linear(300, 17, 5, 1);   /* more rows than are packed at once */
    check_linear(20, 1100, 17, 1); /* more terms than a tile takes at once */
    EACH(i, COUNT(SIZES)) EACH(r, 3) /* more outputs than a wide tile has, and rows around it */
        check_linear((const int64_t[]){7, 24, 33}[r], SIZES[i], 49 + 16 * r, 1);
    check_linear(3, 0, 5, 1);      /* the bias alone */
    check_linear(3, 5, 0, 0);
}

/* ---- activations ---- */

/* Small, usual and huge arguments in turn, and those whose exponent is drawn. */
static Real argument(int64_t i)
{
    const Real ends[] = {1, 10, engine->itemsize == 4 ? 80 : 700, 1};
    const Real z = uniform(-ends[i % 4], ends[i % 4]);
    return i % 4 < 3 ? z : copysignl(powl(10, uniform(-30, 30)), z);
}

static void check_function(int row, int64_t rows, int64_t columns)
{
    const Activation *a = FIND(ACTIVATIONS, engine->activations[row]);
    const int64_t n = rows * columns;
    void *Z = blank(n), *up = numbers(n, -1, 1), *Y = blank(n), *delta = blank(n);
    const Real most = strcmp(a->name, "sine") ? INFINITY : 1e6L; /* it promises no more */
    EACH(i, n) put(Z, i, isinf(most) ? argument(i) : fmodl(argument(i), most));
    engine->activation_forward(&kernels, Z, row, Y, rows, columns);
    engine->activation_backward(&kernels, Z, up, row, delta, rows, columns);
    EACH(i, n)
    {
        const Real z = get(Z, i), y = a->f(z), slope = a->slope(z), by = get(up, i);
        const Real flushed = smallest * (1 + fabsl(z)); /* subnormal factors count as zero */
        const Real size = a->slope_bound * (1 + a->is_product * fminl(fabsl(z), 20));
        expect_near(get(Y, i), y, a->bound * u * fabsl(y) + flushed, "value of", a->name);
        expect_near(get(delta, i), by * slope, fabsl(by) * u * (size + fabsl(slope)) + flushed,
                    "slope of", a->name);
    }
    put(Z, n - 1, NAN); /* goes through, and no further */
    engine->activation_forward(&kernels, Z, row, delta, rows, columns);
    expect(isnan(get(delta, n - 1)), "%s of NaN", a->name);
    expect(same(delta, Y, n - 1), "%s beside NaN", a->name);
    release();
}

/* Logits differ by at most 10: y errs by 10 u from them, 6 u from exp, n u from the sum. */
static void check_softmax(int row, int64_t rows, int64_t n)
{
    void *Z = numbers(rows * n, -5, 5), *up = numbers(rows * n, -1, 1);
    void *Y = blank(rows * n), *delta = blank(rows * n);
    const Real *z = truth_of(Z, rows * n), *dy = truth_of(up, rows * n);
    engine->activation_forward(&kernels, Z, row, Y, rows, n);
    engine->activation_backward(&kernels, Z, up, row, delta, rows, n);
    EACH(r, rows)
    {
        Real y[WIDEST], dz[WIDEST];
        true_softmax(n, z + r * n, dy + r * n, y, dz);
        EACH(j, n)
        {
            const Real bound = (Real)(20 + n) * u * y[j];
            expect_near(get(Y, r * n + j), y[j], bound, "value of", "softmax");
            expect_near(get(delta, r * n + j), dz[j], 4 * bound, "slope of", "softmax");
        }
    }
    release();
}

static void check_activations(void)
{
    for (int row = 0; engine->activations[row]; row++)
        EACH(i, COUNT(SIZES))
            if (strcmp(engine->activations[row], "softmax"))
                check_function(row, 9, SIZES[i]);
            else
                check_softmax(row, SIZES[(i + 7) % COUNT(SIZES)], SIZES[i]);
}

/* ---- losses ---- */

/* Targets (rows, n) that suit the loss, one-hot for labels. */
static void *draw_targets(const Loss *loss, int64_t rows, int64_t n, const int64_t *labels)
{
    const int share = loss->divisor == BY_ROWS || strstr(loss->name, "binary");
    void *target = numbers(rows * n, share ? 0 : -3, share ? 1 : 3);
    EACH(i, labels ? rows * n : 0) put(target, i, labels[i / n] == i % n);
    return target;
}

static int64_t *draw_labels(int64_t rows, int64_t n)
{
    int64_t *labels = array(rows * (int64_t)sizeof *labels);
    EACH(r, rows) labels[r] = (int64_t)uniform(0, (Real)n);
    return labels;
}

/* A delta is measured against its terms, the value against the sum of all terms, which is
 * taken in the dtype over up to 16 rows. */
static void check_loss(int row, int64_t rows, int64_t n, int weighted, int labelled)
{
    const Loss *loss = FIND(LOSSES, engine->losses[row]);
    const double p = USUAL.parameter;
    const int64_t *labels = labelled ? draw_labels(rows, n) : NULL;
    void *output = numbers(rows * n, loss->low, loss->high), *weight = numbers(rows, 0.5L, 2);
    void *target = draw_targets(loss, rows, n, labels), *delta = blank(rows * n);
    const void *targets = labelled ? NULL : target;
    const Real *o = truth_of(output, rows * n), *t = truth_of(target, rows * n);
    double value = NAN;
    Real weights = 0, sum = 0, size = 0;
    engine->loss(&kernels, output, targets, labels, weighted ? weight : NULL, row, loss->divisor, p,
                 delta, &value, rows, n);
    EACH(r, rows) weights += weighted ? get(weight, r) : 1;
    const Real divisor = divisor_of(loss, weights, n);
    for (int64_t r = 0; r < rows; r++, o += n, t += n) {
        const Real w = (weighted ? get(weight, r) : 1) / divisor;
        Real d[WIDEST];
        const Real l = row_loss(loss, n, o, t, p, d);
        sum += w * l;
        size += w * fabsl(l);
        EACH(j, n)
        {
            const Real terms = 4 + fabsl(o[j]) * (2 + fabsl(t[j])) + fabsl(d[j]);
            size += w * terms;
            expect_near(get(delta, r * n + j), w * d[j], 8 * u * w * terms, "delta of", loss->name);
        }
    }
    expect_near(value, sum, (Real)(8 + n) * u * size, "value of", loss->name);

    EACH(r, rows) put(weight, r, 0);
    engine->loss(&kernels, output, targets, labels, weight, row, loss->divisor, p, delta, &value,
                 rows, n);
    expect(value == 0, "%s of rows without weight", loss->name);
    EACH(i, rows * n) expect(get(delta, i) == 0, "delta of %s without weight", loss->name);
    release();
}

static void check_losses(void)
{
    for (int row = 0; engine->losses[row]; row++) {
        const int takes_labels = !strncmp(engine->losses[row], "cross_entropy", 13);
        EACH(i, COUNT(SIZES)) EACH(form, takes_labels ? 4 : 2)
            check_loss(row, SIZES[(5 * i + 3 * form) % COUNT(SIZES)], SIZES[i], form % 2, form / 2);
    }
}

/* ---- optimizers and all_finite ---- */

/* Three updates of n numbers up to 2, gradients too; each may round some ten times. */
static void check_optimizer(const Recipe *recipe, int64_t n)
{
    const Optimizer *optimizer = FIND(OPTIMIZERS, engine->rules[recipe->rule]);
    void *w = numbers(n, -2, 2), *moments[] = {numbers(n, 0, 0), numbers(n, 0, 0)};
    Real *truth = truth_of(w, n), m[WIDEST][2] = {{0}};
    EACH(step, 3)
    {
        void *gradient = numbers(n, -2, 2);
        engine->update(&kernels, w, gradient, moments, optimizer->moments, n, recipe, 0.05,
                       step + 1);
        true_update(optimizer->rule, recipe, 0.05, step + 1, n, NULL, NULL, truth,
                    truth_of(gradient, n), m);
        const Real bound = 32 * (Real)(step + 1) * u;
        EACH(i, n) expect_near(get(w, i), truth[i], bound, "update by", optimizer->name);
    }
    EACH(k, optimizer->moments) EACH(i, n)
        expect_near(get(moments[k], i), m[i][k], 48 * u * fmaxl(1, fabsl(m[i][k])), "moment of",
                    optimizer->name);
    release();
}

static void check_optimizers(void)
{
    for (int row = 0; engine->rules[row]; row++)
        EACH(i, COUNT(SIZES)) EACH(option, 4)
        {
            Recipe recipe = USUAL;
            const Optimizer *optimizer = FIND(OPTIMIZERS, engine->rules[row]);
            memcpy(recipe.number, optimizer->number, sizeof recipe.number);
            recipe.rule = row;
            recipe.weight_decay = option == 1 ? 0.1 : 0;
            recipe.l2 = option >= 2 ? 0.1 : 0;
            recipe.clip_norm = option == 3 ? 0.5 : 0;
            check_optimizer(&recipe, SIZES[i]);
        }
}

static void check_all_finite(void)
{
    const Real largest = engine->itemsize == 4 ? FLT_MAX : DBL_MAX;
    const Real culprits[] = {NAN, INFINITY, -INFINITY};
    EACH(n, 140)
    {
        void *x = numbers(n, -largest, largest);
        expect(engine->all_finite(x, n, 1), "%d finite numbers", (int)n);
        EACH(i, n)
        {
            const Real before = get(x, i);
            const char *from_end = (char *)x + (n - 1) * engine->itemsize;
            put(x, i, culprits[i % 3]);
            expect(!engine->all_finite(x, n, 1), "number %d of %d not finite", (int)i, (int)n);
            expect(engine->all_finite(x, (n + 1) / 2, 2) == i % 2, "every other of %d", (int)n);
            expect(engine->all_finite(from_end, n - 1, -1) == (i == 0), "%d backwards", (int)n);
            put(x, i, before);
        }
        release();
    }
}
