/* activations.h: one row per activation, here and nowhere else in the C code.
 *
 * To add one: write f_name(V z, V *slope), which returns f(z) and sets f'(z), and add its
 * row to the table, in the order of the contract (fastnn/engines.py). Where the slope
 * follows from y = f(z) alone, give that as slope_name(V y) and mark the row FROM_OUTPUT:
 * nothing but y need be kept until the way back. Otherwise the forward pass leaves f'(z)
 * in the delta's buffer.
 *
 * At kinks the slope is PyTorch's: relu'(0) = 0, leaky_relu'(0) = 0.01. NaN goes through. */

#define ONE splat(1)
#define ZERO splat(0)

INLINE V slope_identity(V y) { (void)y; return ONE; }
INLINE V f_identity(V z, V *slope) { *slope = ONE; return z; }

INLINE V slope_relu(V y) { return choose(y > ZERO, ONE, ZERO); }
INLINE V f_relu(V z, V *slope)
{
    const V y = at_least(z, 0);
    *slope = slope_relu(y);
    return y;
}

INLINE V slope_leaky_relu(V y) { return choose(y > ZERO, ONE, splat((T)0.01)); }
INLINE V f_leaky_relu(V z, V *slope)
{
    *slope = slope_leaky_relu(z);
    return choose(z > ZERO, z, z * (T)0.01);
}

INLINE V slope_elu(V y) { return choose(y > ZERO, ONE, y + (T)1); }
INLINE V f_elu(V z, V *slope)
{
    const V y = choose(z > ZERO, z, expm1_negative(at_most(z, 0)));
    *slope = slope_elu(y);
    return y;
}

#define SELU_SCALE ((T)1.0507009873554804934)
#define SELU_BELOW ((T)1.7580993408473768599) /* alpha times the scale, rounded once */
INLINE V slope_selu(V y)
{
    return choose(y > ZERO, splat(SELU_SCALE), y + SELU_BELOW);
}
INLINE V f_selu(V z, V *slope)
{
    const V below = expm1_negative(at_most(z, 0)) * SELU_BELOW;
    const V y = choose(z > ZERO, z * SELU_SCALE, below);
    *slope = slope_selu(y);
    return y;
}

/* z P(z), P the normal distribution function (Hendrycks & Gimpel 2016, exact form) */
INLINE V f_gelu(V z, V *slope)
{
    V e, tail;
    const V lost = normal_tail(z, &e, &tail); /* |z| P(-|z|) */
    *slope = choose(z > ZERO, 1 - tail, tail) + z * e * (T)0.39894228040143268;
    return choose(e > ZERO, choose(z > ZERO, z - lost, -lost), choose(z > ZERO, z, z * e));
}

INLINE V f_silu(V z, V *slope)
{
    const V s = vsigmoid(z);
    *slope = s * (z * (1 - s) + (T)1);
    return z * s;
}

/* z tanh(softplus(z)); with e = exp(z), tanh(log(1 + e)) = n / (n + 2), n = e(e + 2) */
INLINE V f_mish(V z, V *slope)
{
    const V x = at_most(z, BITS == 32 ? (T)20 : (T)40); /* beyond, f(z) = z to the last bit */
    const V e = vexp(x);
    const V n = e * (e + 2), d = n + 2;
    const V t = n / d;
    *slope = t + x * (4 * e * (e + 1)) / (d * d);
    return z * t;
}

INLINE V f_softplus(V z, V *slope)
{
    const V e = exp_negative(-absolute(z));
    *slope = choose(z < ZERO, e, ONE) / (e + (T)1);
    return at_least(z, 0) + log1p_unit(e);
}

INLINE V slope_sigmoid(V y) { return y * (1 - y); }
INLINE V f_sigmoid(V z, V *slope)
{
    const V y = vsigmoid(z);
    *slope = slope_sigmoid(y);
    return y;
}

INLINE V slope_tanh(V y) { return 1 - y * y; }
INLINE V f_tanh(V z, V *slope)
{
    const V y = vtanh(z);
    *slope = slope_tanh(y);
    return y;
}

INLINE V f_softsign(V z, V *slope)
{
    const V d = absolute(z) + (T)1;
    *slope = 1 / (d * d);
    return z / d;
}

INLINE V f_hard_sigmoid(V z, V *slope)
{
    const V y = at_most(at_least(z + (T)3, 0), 6) * (T)(1.0 / 6);
    *slope = choose((z > splat(-3)) & (z < splat(3)), splat((T)(1.0 / 6)), ZERO);
    return y;
}

INLINE V f_hard_swish(V z, V *slope)
{
    const V gate = at_most(at_least(z + (T)3, 0), 6) * (T)(1.0 / 6);
    const V inside = z * (T)(1.0 / 3) + (T)0.5;
    *slope = choose(z <= splat(-3), ZERO, choose(z >= splat(3), ONE, inside));
    return z * gate;
}

/* softmax acts on rows (softmax.h); element by element it is the identity. */
#define f_softmax f_identity
#define slope_softmax slope_identity

#define ACTIVATIONS(ROW) \
    ROW(identity, FROM_OUTPUT) \
    ROW(relu, FROM_OUTPUT) \
    ROW(leaky_relu, FROM_OUTPUT) \
    ROW(elu, FROM_OUTPUT) \
    ROW(selu, FROM_OUTPUT) \
    ROW(gelu, FROM_INPUT) \
    ROW(silu, FROM_INPUT) \
    ROW(mish, FROM_INPUT) \
    ROW(softplus, FROM_INPUT) \
    ROW(sigmoid, FROM_OUTPUT) \
    ROW(tanh, FROM_OUTPUT) \
    ROW(softsign, FROM_INPUT) \
    ROW(hard_sigmoid, FROM_INPUT) \
    ROW(hard_swish, FROM_INPUT) \
    ROW(softmax, FROM_OUTPUT)

/* ---- what the table expands to ---- */

/* y = f(y) in place for n numbers, a multiple of BLOCK; slope, if not NULL, receives f'. */
typedef void ActivationForward(T *y, T *slope, int64_t n);
/* delta = upstream * f', where f' follows from y */
typedef void ActivationBackward(const T *upstream, const T *y, T *delta, int64_t n);

typedef struct {
    ActivationForward *forward;
    ActivationBackward *backward; /* NULL: multiply by the slope of the forward pass */
} Activation;

#define DEFINE_FORWARD(name) \
    OUTLINE void name##_forward(T *y, T *slope, int64_t n) \
    { \
        V d; \
        if (slope) \
            for (int64_t i = 0; i < n; i += LANES) { \
                store(y + i, f_##name(load(y + i), &d)); \
                store(slope + i, d); \
            } \
        else \
            for (int64_t i = 0; i < n; i += LANES) \
                store(y + i, f_##name(load(y + i), &d)); \
    }
#define DEFINE_FROM_OUTPUT(name) \
    DEFINE_FORWARD(name) \
    OUTLINE void name##_backward(const T *upstream, const T *y, T *delta, int64_t n) \
    { \
        for (int64_t i = 0; i < n; i += LANES) \
            store(delta + i, load(upstream + i) * slope_##name(load(y + i))); \
    }
#define DEFINE_FROM_INPUT(name) DEFINE_FORWARD(name)
#define BACKWARD_FROM_OUTPUT(name) name##_backward
#define BACKWARD_FROM_INPUT(name) NULL

#define DEFINE(name, from) DEFINE_##from(name)
#define ENTRY(name, from) {name##_forward, BACKWARD_##from(name)},
#define NAME(name, from) #name,
#define INDEX(name, from) ACTIVATION_##name,
ACTIVATIONS(DEFINE)
/* The row after the last is the user's own: its function stands in the layer. */
static const Activation activations[] = {ACTIVATIONS(ENTRY){NULL, NULL}};
static const char *const activation_names[] = {ACTIVATIONS(NAME) NULL};
enum { ACTIVATIONS(INDEX) ACTIVATION_custom };
#undef DEFINE
#undef ENTRY
#undef NAME
#undef INDEX

/* delta = upstream * slope */
OUTLINE void multiply_slope(const T *upstream, const T *slope, T *delta, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        store(delta + i, load(upstream + i) * load(slope + i));
}
