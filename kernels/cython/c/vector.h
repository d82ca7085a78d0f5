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
#define OUTLINE static __attribute__((noinline))

INLINE V load(const T *p) { return *(const Unaligned *)p; }
INLINE void store(T *p, V x) { *(Unaligned *)p = x; }
INLINE V splat(T x) { return (V){0} + x; }

/* x where the mask is set, else zero */
INLINE V keep(VI mask, V x) { return (V)(mask & (VI)x); }

/* For a mask that is a comparison: gcc takes any other one to pieces. */
INLINE V choose(VI mask, V yes, V no)
{
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

INLINE V absolute(V x) { return (V)((VI)x & ~((VI){0} + (I)((uint64_t)1 << (BITS - 1)))); }
INLINE V sign_of(V x) { return (V)((VI)x & ((VI){0} + (I)((uint64_t)1 << (BITS - 1)))); }
INLINE V copy_sign(V magnitude, V sign) { return (V)((VI)magnitude | (VI)sign_of(sign)); }

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
