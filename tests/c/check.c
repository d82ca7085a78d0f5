/* check.c: the compiled engine proved on its own, without Python.
 *
 * Every instance of kernels/cython/c (dtype x instruction set) that this processor runs is held
 * against truth.h: the single kernels (kernels.h) and whole networks (networks.h). From the
 * root of a checkout:
 *
 *   python kernels/cython/to_c.py build/formulas.h
 *   cc -std=gnu11 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math \
 *      -fno-signed-zeros -I build -I kernels/cython/c -o check tests/c/check.c \
 *      kernels/cython/c/[bv]*.c -lm -pthread
 *   ./check [best]      best: fail unless this is the best instruction set here
 *
 * One line per instance; exit code 1 if anything failed. */

#include "kernels.h"
#include "networks.h"

static int check_instance(void)
{
    u = engine->itemsize == 4 ? FLT_EPSILON / 2 : DBL_EPSILON / 2;
    smallest = engine->itemsize == 4 ? FLT_MIN : DBL_MIN;
    tolerance = engine->itemsize == 4 ? 1e-5L : 1e-12L;
    engine->own_kernels(&kernels);
    checks = failures = 0;
    drawn = 0;
    check_products();
    check_activations();
    check_losses();
    check_optimizers();
    check_all_finite();
    EACH(i, COUNT(CASES)) check_network(&CASES[i]);
    EACH(i, COUNT(CASES)) check_recovery(&CASES[i]);
    check_stop(FIND(CASES, "clipped"), 1);
    check_stop(FIND(CASES, "clipped"), 3);
    printf("%-8s float%d  %lld checks, %lld failed\n", engine->isa, 8 * engine->itemsize,
           (long long)checks, (long long)failures);
    return failures > 0;
}

int main(int argc, char **argv)
{
    const int levels[] = {4, 3, 0};
    const char *best = NULL;
    int failed = 0;
    EACH(i, 2 * COUNT(levels))
    {
        engine = fastnn_instance(levels[i / 2], i % 2 ? 8 : 4);
        if (!engine || levels[i / 2] > fastnn_processor_level())
            continue;
        best = best ? best : engine->isa;
        failed |= check_instance();
    }
    if (argc > 1 && strcmp(argv[1], best)) {
        fprintf(stderr, "the best instruction set here is %s, not %s\n", best, argv[1]);
        failed = 1;
    }
    return failed;
}
