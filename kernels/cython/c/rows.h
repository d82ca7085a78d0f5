/* rows.h: the formulas on arrays: a kernel for each activation, loss and optimizer, and the
 * tables where they are found by number. Every n is a multiple of LANES. */

#define NAME(name, ...) #name,

/* ---- activations ---- */

/* y = f(y) in place; slope, if not NULL, receives f'. */
typedef void ActivationForward(T *y, T *slope, int64_t n);
/* delta = upstream * f', where f' follows from y */
typedef void ActivationBackward(const T *upstream, const T *y, T *delta, int64_t n);

typedef struct {
    ActivationForward *forward;
    ActivationBackward *backward; /* NULL: multiply by the slope of the forward pass */
} Activation;

#define FORWARD(name, value_and_slope) \
    OUTLINE void name##_forward(T *y, T *slope, int64_t n) \
    { \
        V d; \
        if (slope) \
            for (int64_t i = 0; i < n; i += LANES) { \
                const V z = load(y + i), value = value_and_slope; \
                store(y + i, value); \
                store(slope + i, d); \
            } \
        else \
            for (int64_t i = 0; i < n; i += LANES) { \
                const V z = load(y + i); \
                store(y + i, value_and_slope); \
            } \
    }
#define FROM_INPUT(name, f) FORWARD(name, f(z, &d))
#define FROM_OUTPUT(name, f, slope_of) \
    INLINE V f_##name(V z, V *slope) \
    { \
        const V y = f(z); \
        *slope = slope_of(y); \
        return y; \
    } \
    FORWARD(name, f_##name(z, &d)) \
    OUTLINE void name##_backward(const T *upstream, const T *y, T *delta, int64_t n) \
    { \
        for (int64_t i = 0; i < n; i += LANES) \
            store(delta + i, load(upstream + i) * slope_of(load(y + i))); \
    }
ACTIVATIONS(FROM_OUTPUT, FROM_INPUT)
#undef FROM_OUTPUT
#undef FROM_INPUT

#define FROM_OUTPUT(name, ...) {name##_forward, name##_backward},
#define FROM_INPUT(name, ...) {name##_forward, NULL},
#define INDEX(name, ...) ACTIVATION_##name,
/* The row after the last is the user's own: its function stands in the layer. */
static const Activation activations[] = {ACTIVATIONS(FROM_OUTPUT, FROM_INPUT){NULL, NULL}};
static const char *const activation_names[] = {ACTIVATIONS(NAME, NAME) NULL};
enum { ACTIVATIONS(INDEX, INDEX) ACTIVATION_custom };
#undef FROM_OUTPUT
#undef FROM_INPUT
#undef INDEX

/* delta = upstream * slope */
OUTLINE void multiply_slope(const T *upstream, const T *slope, T *delta, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        store(delta + i, load(upstream + i) * load(slope + i));
}

/* ---- losses of single elements ---- */

/* value and derivative of n elements */
typedef void LossElements(const T *output, const T *target, T *value, T *derivative, int64_t n,
                          T parameter);

#define ELEMENTS(name, l) \
    OUTLINE void name##_elements(const T *output, const T *target, T *value, T *derivative, \
                                 int64_t n, T parameter) \
    { \
        V d; \
        for (int64_t i = 0; i < n; i += LANES) { \
            store(value + i, l(load(output + i), load(target + i), parameter, &d)); \
            store(derivative + i, d); \
        } \
    }
#define ROWS(name)
LOSSES(ELEMENTS, ROWS)
#undef ELEMENTS
#undef ROWS

#define ELEMENTS(name, ...) name##_elements,
#define ROWS(name) NULL,
static LossElements *const loss_elements[] = {LOSSES(ELEMENTS, ROWS)};
static const char *const loss_names[] = {LOSSES(NAME, NAME) NULL};
#undef ELEMENTS
#undef ROWS

/* ---- optimizers ---- */

/* n parameters, and as many of each moment, from `at` on follow their gradient. */
typedef void Update(T *parameters, T *const *moments, int64_t at, const T *gradient, int64_t n,
                    const Scalars *s);

#define ROW(name, count, update) \
    OUTLINE void update_##name(T *parameters, T *const *moments, int64_t at, \
                               const T *gradient, int64_t n, const Scalars *scalars) \
    { \
        const Scalars s = *scalars; \
        T *restrict first = parameters + at, *arrays[count + 1]; \
        for (int k = 0; k < count; k++) \
            arrays[k] = moments[k] + at; \
        for (int64_t i = 0; i < n; i += LANES) { \
            V m[count + 1]; \
            for (int k = 0; k < count; k++) \
                m[k] = load(arrays[k] + i); \
            const V w = load(first + i), g = load(gradient + i) * s.clip + w * s.decay; \
            store(first + i, update); \
            for (int k = 0; k < count; k++) \
                store(arrays[k] + i, m[k]); \
        } \
    }
OPTIMIZERS(ROW)
#undef ROW

#define ROW(name, ...) update_##name,
static Update *const updates[] = {OPTIMIZERS(ROW)};
static const char *const optimizer_names[] = {OPTIMIZERS(NAME) NULL};
#undef ROW
#undef NAME
