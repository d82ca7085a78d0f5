/* ledger.h: what every check is written in: the instance under test, expectations, and arrays
 * of its dtype. Arrays have exactly their size, so that a sanitizer or valgrind sees a step
 * beyond any end. Errors are measured in u, the unit roundoff of the dtype: half the distance
 * from 1 to the next number. */

#ifndef LEDGER_H
#define LEDGER_H

#include <stdarg.h>

#include "plan.h"
#include "truth.h"

static const Instance *engine; /* the one under test */
static Real u, smallest;       /* its unit roundoff and smallest normal number */
static Real tolerance;         /* of whole networks, relative to the largest number */
static int64_t checks, failures;

static KernelTable kernels;    /* its own */
static const Recipe USUAL = {.parameter = 0.75};
enum { SEED = 5, SHOWN = 10 /* failures told in words */ };

static void expect(int holds, const char *format, ...)
{
    checks++;
    if (holds || failures++ >= SHOWN)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s float%d: ", engine->isa, 8 * engine->itemsize);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

static void expect_near(Real have, Real want, Real bound, const char *what, const char *name)
{
    expect(fabsl(have - want) <= bound, "%s %s: %.17Lg, not %.17Lg +- %.2Lg", what, name, have,
           want, bound);
}

/* ---- memory and numbers ---- */

static void *claimed[1 << 12];
static int claims;

/* Everything that a check allocates is kept until release(). */
static void *claim(void *memory)
{
    if (!memory || claims == COUNT(claimed)) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return claimed[claims++] = memory;
}
static void *array(int64_t bytes) { return claim(malloc(bytes ? (size_t)bytes : 1)); }
static void *zeroed(int64_t bytes) { return claim(fastnn_allocate((uint64_t)bytes)); }
static void release(void)
{
    while (claims)
        fastnn_release(claimed[--claims]);
}

static Real get(const void *from, int64_t i)
{
    return engine->itemsize == 4 ? (Real)((const float *)from)[i] : (Real)((const double *)from)[i];
}

static void put(void *to, int64_t i, Real x)
{
    if (engine->itemsize == 4)
        ((float *)to)[i] = (float)x;
    else
        ((double *)to)[i] = (double)x;
}

static uint64_t drawn;
static Real uniform(Real low, Real high)
{
    return low + (high - low) * (Real)(stream_word(SEED, drawn++) >> 11) * 0x1p-53L;
}

/* n numbers from low to high; blank: NaN, which no check takes for an answer */
static void *numbers(int64_t n, Real low, Real high)
{
    void *to = array(n * engine->itemsize);
    EACH(i, n) put(to, i, uniform(low, high));
    return to;
}
static void *blank(int64_t n) { return numbers(n, NAN, NAN); }

static Real *truth_of(const void *from, int64_t n)
{
    Real *to = array(n * (int64_t)sizeof(Real));
    EACH(i, n) to[i] = get(from, i);
    return to;
}

static int same(const void *a, const void *b, int64_t n)
{
    return !memcmp(a, b, (size_t)(n * engine->itemsize));
}

static int index_of(const char *const *names, const char *name)
{
    int i = 0;
    while (names[i] && strcmp(names[i], name))
        i++;
    expect(names[i] != NULL, "the instance has no %s", name);
    return i;
}

#endif
