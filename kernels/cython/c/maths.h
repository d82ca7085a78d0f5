/* maths.h: exp, expm1, log, log1p, tanh, sigmoid and the normal distribution on vectors.
 *
 * Argument reduction as in Cody & Waite (1980), polynomials from coefficients.py. At most
 * 3 ulp each over their whole range, NaN and inf as in C; results below the smallest normal
 * number are zero, which is how the engine treats them anyway. */

static const T EXPM1[] = PASTE(EXPM1_, BITS);
static const T LOG[] = PASTE(LOG_, BITS);
static const T LOG1P[] = PASTE(LOG1P_, BITS);
static const T NORMAL_TAIL[] = PASTE(NORMAL_TAIL_, BITS);

#if BITS == 32
#define LN2_HIGH 0.693359375f /* 9 bits: n * LN2_HIGH is exact */
#define LN2_LOW -2.12194440054690583e-4f
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it leaves the nearest integer below */
#define EXP_LOWEST -87.3365447f
#define EXP_HIGHEST 88.7228394f
#define SMALLEST_NORMAL 1.17549435e-38f
#else
#define LN2_HIGH 0.69314718036912381649 /* 33 bits */
#define LN2_LOW 1.9082149292705877e-10
#define ROUNDER 6755399441055744.0
#define EXP_LOWEST -708.39641853226408
#define EXP_HIGHEST 709.78271289338399
#define SMALLEST_NORMAL 2.2250738585072014e-308
#endif

/* 1 / (sqrt(v) + epsilon) for v >= 0, to 3 ulp. A square root and a division wait for the same
 * unit, some thirty cycles for 16 floats; estimates of 14 bits, refined once each, take ten. */
#if LEVEL == 4 && BITS == 32
INLINE V inverse_root(V v, T epsilon)
{
    const V estimate = _mm512_rsqrt14_ps(at_least(v, SMALLEST_NORMAL));
    const V near = v * estimate, half = estimate * (T)0.5;
    const V sum = (near * ((T)0.5 - near * half) + near) + epsilon;
    const V inverse = _mm512_rcp14_ps(sum);
    return choose(v == splat((T)INFINITY), splat(0), inverse * (1 - sum * inverse) + inverse);
}
#else
INLINE V inverse_root(V v, T epsilon) { return 1 / (square_root(v) + epsilon); }
#endif

#define POLYNOMIAL(x, c) horner(x, c, sizeof(c) / sizeof(T))

INLINE V horner(V x, const T *c, const int terms)
{
    V r = splat(c[terms - 1]);
#pragma GCC unroll 32
    for (int i = terms - 2; i >= 0; i--)
        r = r * x + splat(c[i]);
    return r;
}

/* The same for a long polynomial: the even and the odd powers of its high terms, whose rounding
 * the low ones diminish, in two chains at once. */
INLINE V two_chains(V x, const T *c, const int terms)
{
    const int low = 7;
    const V square = x * x;
    V one = splat(c[terms - 1]), other = splat(c[terms - 2]);
    int i = terms - 3;
#pragma GCC unroll 16
    for (; i > low; i -= 2) {
        one = one * square + splat(c[i]);
        other = other * square + splat(c[i - 1]);
    }
    V r = one * x + other;
#pragma GCC unroll 16
    for (; i >= 0; i--)
        r = r * x + splat(c[i]);
    return r;
}

/* 2^n for the integer-valued n that nearest() left in the low bits of `rounded` */
INLINE V power_of_two(VI n) { return (V)((n + EXPONENT_BIAS) << EXPONENT_BITS); }

/* expm1(r) of x = n ln 2 + r, |r| <= ln(2)/2, and n; `low` is added to x beyond its last bit */
INLINE V reduced_expm1(V x, V low, VI *n)
{
    const V rounded = x * splat((T)1.4426950408889634) + splat(ROUNDER);
    const V k = rounded - splat(ROUNDER);
    *n = (VI)rounded - (VI)splat(ROUNDER);
    const V r = (x - k * LN2_HIGH) - k * LN2_LOW + low;
    return r * r * POLYNOMIAL(r, EXPM1) + r;
}

INLINE V vexp(V x)
{
    VI n;
    const V p = reduced_expm1(at_most(at_least(x, EXP_LOWEST), EXP_HIGHEST), splat(0), &n);
    /* in two factors: 2^128 is not a float, 2^127 * 2 is */
    const VI half = n >> 1;
    V y = (p + (T)1) * power_of_two(half) * power_of_two(n - half);
    y = keep(~(x < splat(EXP_LOWEST)), y);
    return choose(x > splat(EXP_HIGHEST), splat((T)INFINITY), y);
}

/* for x <= 0, where no scale overflows */
INLINE V exp_negative(V x)
{
    VI n;
    const V p = reduced_expm1(at_least(x, EXP_LOWEST), splat(0), &n);
    const V scale = power_of_two(n);
    /* unless it is fused, scale * p may be subnormal and lost */
    const V y = LEVEL >= 3 ? scale * p + scale : (p + (T)1) * scale;
    return keep(~(x < splat(EXP_LOWEST)), y);
}

/* for |x| <= 80 */
INLINE V expm1_within(V x)
{
    VI n;
    const V p = reduced_expm1(x, splat(0), &n);
    const V scale = power_of_two(n);
    return scale * p + (scale - (T)1);
}

/* for x <= 0 */
INLINE V expm1_negative(V x) { return expm1_within(at_least(x, -80)); }

/* log(x) for x > 0 and normal */
INLINE V vlog(V x)
{
    /* x = 2^n m, m in [sqrt(1/2), sqrt(2)) */
    const VI origin = (VI)splat((T)0.70710678118654752);
    const VI n = ((VI)x - origin) >> EXPONENT_BITS;
    const V m = (V)((VI)x - (n << EXPONENT_BITS));
    const V s = (m - (T)1) / (m + (T)1);
    const V k = (V)(n + (VI)splat(ROUNDER)) - splat(ROUNDER);
    const V odd = 2 * s, rest = s * s;
    /* log m = 2s p(s^2); its first term is added last but one, the big one last */
    const V tail = odd * (POLYNOMIAL(rest, LOG) - (T)1);
    const V y = k * LN2_HIGH + (odd + (tail + k * LN2_LOW));
    return y + keep(~(x < splat((T)INFINITY)), x);
}

/* log(1 + u) for 0 <= u <= 1 */
INLINE V log1p_unit(V u)
{
    const V s = u / (u + (T)2);
    return 2 * s * POLYNOMIAL(s * s, LOG1P);
}

INLINE V vtanh(V x)
{
    const T saturated = BITS == 32 ? (T)9.5 : (T)20;
    const V e = expm1_within(2 * at_most(at_least(x, -saturated), saturated));
    return e / (e + 2);
}

INLINE V vsigmoid(V x)
{
    /* e^-|x| never overflows; the quotient is 1/(1+e) or e/(1+e) */
    const V e = exp_negative(-absolute(x));
    return choose(x < splat(0), e, splat(1)) / (e + (T)1);
}

/* The normal distribution: with t = |x|, s = t + pole, v = t / s and e = exp(-t^2 / 2),
 *   t P(-t) = v e Q, the result,    and    P(-t) = (1 - v) e Q / pole
 * where Q is smooth. Nothing is rounded twice: what t^2 and s lose goes to the exponential,
 * where relative errors add, and its factor 1 + p is never formed for the result. Beyond the
 * end of t, e is zero. */
INLINE V normal_tail(V x, V *e, V *tail)
{
    const T end = BITS == 32 ? (T)13.5 : (T)38.6, pole = PASTE(NORMAL_TAIL_POLE_, BITS);
    const T shift = (T)PASTE(NORMAL_TAIL_SHIFT_, BITS) / pole;
    const V t = at_most(absolute(x), end);
    const V s = t + pole, added = s - t, lost = (t - (s - added)) + (pole - added);
    const V v = t / s, rest = (1 - v) * (1 / pole); /* 1 / s */
    const V high = (V)((VI)t & ~((((VI){0} + 1) << (EXPONENT_BITS + 2) / 2) - 1));
    const V exponent = high * high * (T)-0.5;
    const V low = (high - t) * (high + t) * (T)0.5 - lost * rest;
    VI n;
    const V p = reduced_expm1(at_least(exponent, EXP_LOWEST), low, &n);
    const V scale = keep(~(exponent < splat(EXP_LOWEST)), power_of_two(n));
    const V q = two_chains(v * (1 + shift) - shift, NORMAL_TAIL, sizeof NORMAL_TAIL / sizeof(T));
    const V product = v * q;
    *e = scale * p + scale;
    *tail = rest * *e * q;
    return scale * (p * product + product);
}
