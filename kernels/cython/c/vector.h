/* vector.h: the vector of this instance, and the few operations C has no sign for.
 *
 * GNU vector types, so the same text compiles to AVX-512, AVX2, SSE2 and NEON. The loops
 * over LANES below are idioms that gcc and clang turn into one instruction each (blend,
 * sqrt, shuffle). A comparison of vectors gives all ones or zero per lane. */

#if BITS == 32
typedef float T;
typedef int32_t I;
#define EXPONENT_BITS 23
#define EXPONENT_BIAS 127
#else
typedef double T;
typedef int64_t I;
#define EXPONENT_BITS 52
#define EXPONENT_BIAS 1023
#endif

#define VECTOR_BYTES (LEVEL == 4 ? 64 : LEVEL == 3 ? 32 : 16)
#define LANES (VECTOR_BYTES * 8 / BITS)
#define VECTORS (BLOCK / LANES) /* vectors in one row of a block */

typedef T V __attribute__((vector_size(VECTOR_BYTES)));
typedef I VI __attribute__((vector_size(VECTOR_BYTES)));
typedef T Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline, aligned(64)))

INLINE V load(const T *p) { return *(const Unaligned *)p; }
INLINE void store(T *p, V x) { *(Unaligned *)p = x; }
INLINE V splat(T x) { return (V){0} + x; }
#define ZERO splat(0)
#define ONE splat(1)

/* x where the mask is set, else zero */
INLINE V keep(VI mask, V x) { return (V)(mask & (VI)x); }

/* For a mask that is a comparison: gcc takes any other one to pieces, and of two lanes each.
 * Yes and no may be numbers. */
#define choose(mask, yes, no) choose_vectors(mask, (V){0} + (yes), (V){0} + (no))
INLINE V choose_vectors(VI mask, V yes, V no)
{
    if (LANES == 2)
        return (V)((mask & (VI)yes) | (~mask & (VI)no));
    V r;
    for (int i = 0; i < LANES; i++)
        r[i] = mask[i] ? yes[i] : no[i];
    return r;
}

INLINE V square_root(V x)
{
    V r;
    for (int i = 0; i < LANES; i++)
        r[i] = BITS == 32 ? (T)__builtin_sqrtf((float)x[i]) : (T)__builtin_sqrt((double)x[i]);
    return r;
}

INLINE VI as_bits(V x) { return (VI)x; }
INLINE V as_float(VI n) { return (V)n; }

INLINE V absolute(V x) { return as_float((VI)x & ~((VI){0} + (I)((uint64_t)1 << (BITS - 1)))); }
INLINE V sign_of(V x) { return as_float((VI)x & ((VI){0} + (I)((uint64_t)1 << (BITS - 1)))); }
INLINE V copy_sign(V magnitude, V sign) { return (V)((VI)absolute(magnitude) | (VI)sign_of(sign)); }

/* The larger (smaller) of two, b where one is NaN: what x86's max and min do. The compiler may
 * not assume so much of a comparison, and takes two instructions for it, or sixteen branches. */
#if defined(__x86_64__)
#define X86(operation) PASTE(PASTE(X86_PREFIX, operation), X86_SUFFIX)
#define X86_PREFIX PASTE(PASTE(_mm, X86_BITS), _)
#if LEVEL == 4
#define X86_BITS 512
#elif LEVEL == 3
#define X86_BITS 256
#else
#define X86_BITS
#endif
#if BITS == 32
#define X86_SUFFIX _ps
#else
#define X86_SUFFIX _pd
#endif
INLINE V larger_or_second(V a, V b) { return (V)X86(max)(a, b); }
INLINE V smaller_or_second(V a, V b) { return (V)X86(min)(a, b); }
#else
INLINE V larger_or_second(V a, V b) { return choose(a > b, a, b); }
INLINE V smaller_or_second(V a, V b) { return choose(a < b, a, b); }
#endif
/* A NaN in x goes through. */
INLINE V at_least(V x, T low) { return larger_or_second(splat(low), x); }
INLINE V at_most(V x, T high) { return smaller_or_second(splat(high), x); }

/* ---- below the formulas, beside the above: see formulas/lane.py ---- */

INLINE V zero_where(VI mask, V x) { return keep(~mask, x); }

/* Where multiply-adds are rounded once, else the other. */
INLINE V fused(V one, V other) { return LEVEL >= 3 ? one : other; }

/* 2^n */
INLINE V power_of_two(VI n) { return (V)((n + EXPONENT_BIAS) << EXPONENT_BITS); }

/* 1 / (sqrt(v) + epsilon) for v >= 0, to 3 ulp. A square root and a division wait for the same
 * unit, some thirty cycles for 16 floats; estimates of 14 bits, refined once each, take ten. */
#if LEVEL == 4 && BITS == 32
INLINE V inverse_root(V v, T epsilon)
{
    const V estimate = _mm512_rsqrt14_ps(at_least(v, FLT_MIN));
    const V near = v * estimate, half = estimate * (T)0.5;
    const V sum = (near * ((T)0.5 - near * half) + near) + epsilon;
    const V inverse = _mm512_rcp14_ps(sum);
    return choose(v == splat((T)INFINITY), ZERO, inverse * (1 - sum * inverse) + inverse);
}
#else
INLINE V inverse_root(V v, T epsilon) { return 1 / (square_root(v) + epsilon); }
#endif

#define polynomial(x, table) horner(x, table, sizeof(table) / sizeof(T))
#define two_chains(x, table) horner_twice(x, table, sizeof(table) / sizeof(T))

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
INLINE V horner_twice(V x, const T *c, const int terms)
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

/* ---- lanes and shuffles; constants all, as gcc folds vector literals only ---- */

#if LANES == 16
#define IOTA ((VI){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif LANES == 8
#define IOTA ((VI){0, 1, 2, 3, 4, 5, 6, 7})
#elif LANES == 4
#define IOTA ((VI){0, 1, 2, 3})
#else
#define IOTA ((VI){0, 1})
#endif

/* Lane numbers of the vector that starts at lane `first` of a block. */
INLINE VI lane_numbers(I first) { return IOTA + first; }

#if defined(__clang__)
INLINE V shuffle_lanes(V a, V b, VI from)
{
    V r;
    for (int i = 0; i < LANES; i++)
        r[i] = from[i] < LANES ? a[from[i]] : b[from[i] - LANES];
    return r;
}
#else
#define shuffle_lanes(a, b, from) __builtin_shuffle(a, b, from)
#endif

/* a0 b0 a1 b1 ... of the lower (upper) halves of both */
INLINE V interleave(V a, V b, const int upper)
{
    return shuffle_lanes(a, b, (IOTA >> 1) + (IOTA & 1) * LANES + (upper ? LANES / 2 : 0));
}

INLINE V rotate(V x, const int by) { return shuffle_lanes(x, x, (IOTA + by) & (LANES - 1)); }

INLINE T sum_of(V x)
{
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        x += rotate(x, half);
    return x[0];
}

INLINE T largest_of(V x)
{
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        x = larger_or_second(rotate(x, half), x);
    return x[0];
}

/* The first `lanes` (0 ... 16) numbers of a block; the others stay as they are. */
INLINE void copy_lanes(T *to, const T *from, int64_t lanes)
{
    if (lanes == BLOCK) {
        for (int i = 0; i < BLOCK; i += LANES)
            store(to + i, load(from + i));
        return;
    }
    for (int width = BLOCK / 2; width > 0; width /= 2)
        if (lanes & width) {
            __builtin_memcpy(to, from, (size_t)width * sizeof(T));
            to += width;
            from += width;
        }
}
