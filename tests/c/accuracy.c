/* accuracy.c: how far the vector maths and the activations are from the truth, in ulp.
 *
 *   cc FLAGS -I kernels/cython/c -I build/include -DINSTANCE='"v4_f64.c"' tests/c/accuracy.c \
 *       -lquadmath -lm
 *   ./a.out POINTS
 *
 * Prints one line a function: its name, the largest error and where. Half of the points are
 * spread over the numbers around zero, where networks work, half over all the magnitudes that
 * there are; the special values come on top. The truth is computed with 113 bits (float32: 64).
 * A truth below the smallest normal number counts as zero, which is what the engine makes of
 * it; where a function is a product of others, one below a thousand times that number does,
 * since a factor may have become zero. Includes the instance itself, since formulas are not in
 * its table. */
#include INSTANCE

#include <stdio.h>
#include <stdlib.h>

#if BITS == 64
#include <quadmath.h>
typedef __float128 Q;
#define Q_(name) name##q
#else
typedef long double Q;
#define Q_(name) name##l
#endif

/* ---- the truth ---- */

static Q q_exp(Q x) { return Q_(exp)(x); }
static Q q_log(Q x) { return Q_(log)(x); }
static Q q_elu(Q x) { return x > 0 ? x : Q_(expm1)(x); }
static Q q_selu(Q x)
{
    return (Q)1.0507009873554804934193349852946L *
           (x > 0 ? x : (Q)1.6732632423543772848170429916717L * Q_(expm1)(x));
}
static Q q_gelu(Q x) { return x * Q_(erfc)(-x / Q_(sqrt)((Q)2)) / 2; }
static Q q_sigmoid(Q x) { return x > 0 ? 1 / (1 + Q_(exp)(-x)) : Q_(exp)(x) / (1 + Q_(exp)(x)); }
static Q q_silu(Q x) { return x * q_sigmoid(x); }
static Q q_softplus(Q x) { return (x > 0 ? x : 0) + Q_(log1p)(Q_(exp)(-Q_(fabs)(x))); }
static Q q_mish(Q x)
{
    const Q e = Q_(exp)(x < 200 ? x : 200), n = e * (e + 2);
    return x * (n / (n + 2));
}
static Q q_tanh(Q x) { return Q_(tanh)(x); }
#define q_log_cosh_slope q_tanh
static Q q_softsign(Q x) { return x / (1 + Q_(fabs)(x)); }
static Q q_sine(Q x) { return Q_(sin)(x); }
static Q q_cosine(Q x) { return Q_(cos)(x); }
static Q q_log_cosh(Q x)
{
    const Q sinh = Q_(sinh)(x), size = Q_(fabs)(x);
    return size < 1 ? Q_(log1p)(sinh * sinh) / 2 : size + Q_(log1p)(Q_(exp)(-2 * size)) - Q_(log)(2);
}

/* ---- what is examined; bounds in ulp ---- */

static void exp_forward(T *y, T *slope, int64_t n) { (void)slope, (void)n, store(y, vexp(load(y))); }
static void log_forward(T *y, T *slope, int64_t n)
{
    (void)slope, (void)n, store(y, log_positive(load(y)));
}
static void cosine_forward(T *y, T *slope, int64_t n)
{
    T z[LANES];
    memcpy(z, y, sizeof z);
    sine_forward(z, slope ? slope : y, n);
}
static void log_cosh_forward(T *y, T *slope, int64_t n)
{
    T target[LANES] = {0}, derivative[LANES];
    log_cosh_elements(y, target, y, slope ? slope : derivative, n, 0);
}
static void log_cosh_slope_forward(T *y, T *slope, int64_t n)
{
    T target[LANES] = {0}, value[LANES];
    log_cosh_elements(y, target, value, slope ? slope : y, n, 0);
}

typedef struct {
    const char *name;
    ActivationForward *forward;
    Q (*truth)(Q);
    double bound;
    double zero;    /* a truth below this times the smallest normal number is zero */
    int positive;   /* domain */
    double largest; /* beyond, it may be wrong */
} Row;

#define ROW(name, ...) {#name, name##_forward, q_##name, __VA_ARGS__}
static const Row rows[] = {
    ROW(exp, 3, 1, 0, INFINITY),
    ROW(log, 3, 1, 1, INFINITY),
    ROW(tanh, 3, 1, 0, INFINITY),
    ROW(sigmoid, 3, 1, 0, INFINITY),
    ROW(gelu, 4, 1024, 0, INFINITY),
    ROW(elu, 3, 1, 0, INFINITY),
    ROW(selu, 3, 1, 0, INFINITY),
    ROW(silu, 4, 1024, 0, INFINITY),
    ROW(mish, 5, 1024, 0, INFINITY),
    ROW(softplus, 4, 1024, 0, INFINITY),
    ROW(softsign, 3, 1, 0, INFINITY),
    ROW(sine, 4, 1, 0, 1e6),
    ROW(cosine, 4, 1, 0, 1e6),
    ROW(log_cosh, 8, 1024, 0, INFINITY),
    ROW(log_cosh_slope, 6, 1, 0, INFINITY),
};

/* ---- points ---- */

static uint64_t state = 1;
static uint64_t word(void) /* SplitMix64 */
{
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static T from_bits(uint64_t bits)
{
    T x;
    memcpy(&x, &bits, sizeof x); /* little-endian: the low half for float32 */
    return x;
}

static T point(int64_t i)
{
    const double unit = (double)(word() >> 11) / 9007199254740992.0;
    if (i % 2)
        return (T)((unit - 0.5) * (i % 4 == 1 ? 40 : 4));
    for (;;) {
        const T x = from_bits(word());
        if (isfinite(x) && fabs((double)x) >= (double)SMALLEST_NORMAL)
            return x;
    }
}

/* |y - truth| in units of the last place of the truth */
static double error(T y, Q truth, double zero)
{
    const Q size = truth < 0 ? -truth : truth;
    const double least = zero * (double)SMALLEST_NORMAL;
    if (size < (Q)least)
        return fabs((double)y) <= 2 * least ? 0 : INFINITY;
    const T rounded = (T)truth;
    if (isinf(rounded) || y != y)
        return y == rounded ? 0 : INFINITY;
    int exponent;
    frexp((double)rounded, &exponent);
    const Q difference = (Q)y - truth;
    return (double)(difference < 0 ? -difference : difference) /
           ldexp(1, exponent - EXPONENT_BITS - 1);
}

int main(int argc, char **argv)
{
    const int64_t points = argc > 1 ? atoll(argv[1]) : 100000;
    const T special[] = {0, (T)-0.0, INFINITY, -INFINITY, NAN, SMALLEST_NORMAL, -SMALLEST_NORMAL,
                         1, -1, (T)EXP_LOWEST, (T)EXP_HIGHEST, 10, -10, 100, -100, 1000, -1000};
    const int specials = sizeof special / sizeof *special;
    int failures = 0;
    const unsigned environment = flush_subnormals();
    for (size_t f = 0; f < sizeof rows / sizeof *rows; f++) {
        double worst = 0;
        T worst_at = 0;
        for (int64_t i = 0; i < points + specials; i += LANES) {
            _Alignas(64) T x[LANES], y[LANES];
            for (int j = 0; j < LANES; j++) {
                x[j] = i + j < specials ? special[i + j] : point(i + j);
                if (rows[f].positive && !(x[j] >= SMALLEST_NORMAL))
                    x[j] = x[j] <= -SMALLEST_NORMAL ? -x[j] : 1;
                while (isfinite(x[j]) && fabs((double)x[j]) > rows[f].largest)
                    x[j] /= 1000;
            }
            memcpy(y, x, sizeof y);
            rows[f].forward(y, NULL, LANES);
            restore_subnormals(environment);
            for (int j = 0; j < LANES; j++) {
                if (x[j] != x[j]) {
                    if (y[j] == y[j])
                        worst = INFINITY;
                    continue;
                }
                const Q truth = rows[f].truth((Q)x[j]);
                if (truth != truth && y[j] != y[j])
                    continue; /* 0 * inf: NaN here and there */
                const double e = error(y[j], truth, rows[f].zero);
                if (!(e <= worst)) {
                    worst = e;
                    worst_at = x[j];
                }
            }
            flush_subnormals();
        }
        const int fine = worst <= rows[f].bound;
        failures += !fine;
        printf("%-9s float%d %-14s %6.2f ulp at %.17g%s\n", STRING(LEVEL_NAME), BITS, rows[f].name,
               worst, (double)worst_at, fine ? "" : "  TOO FAR");
    }
    restore_subnormals(environment);
    return failures != 0;
}
