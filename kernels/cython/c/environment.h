/* environment.h: what a loop needs of the machine: subnormals that count as zero while it runs,
 * as before outside, and a clock that tells when to let Python look at signals. */

#if defined(__x86_64__)
#define FLUSHING 0x8040u /* FTZ and DAZ of MXCSR */
OUTLINE unsigned flush_subnormals(void)
{
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | FLUSHING);
    return before;
}
OUTLINE void restore_subnormals(unsigned before) { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
#define FLUSHING (1u << 24) /* FZ of FPCR */
OUTLINE unsigned flush_subnormals(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | FLUSHING));
    return (unsigned)before;
}
OUTLINE void restore_subnormals(unsigned before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)before));
}
#else
#define FLUSHING 0u
OUTLINE unsigned flush_subnormals(void) { return 0; }
OUTLINE void restore_subnormals(unsigned before) { (void)before; }
#endif

/* ---- the clock that a long job looks at ---- */

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif
#define POLL_INTERVAL 50000000 /* ns */

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether the caller wants to stop; asks at most every POLL_INTERVAL. */
static int should_stop(int (*poll)(void), int64_t *next)
{
    const int64_t now = clock_now();
    if (!poll || now < *next)
        return 0;
    const unsigned inside = flush_subnormals();
    restore_subnormals(inside & ~FLUSHING);
    const int stop = poll();
    restore_subnormals(inside);
    *next = clock_now() + POLL_INTERVAL;
    return stop;
}
