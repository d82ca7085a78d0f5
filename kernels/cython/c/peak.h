/* peak.h: what this core can do at most: fused multiply-adds on registers alone.
 *
 * Sixteen chains in a row hide the latency of every processor known; the best of many short
 * runs is the clock at its highest. Benchmarks divide by it. */

OUTLINE double fma_peak(double seconds)
{
    enum { ROUNDS = 4000 };
    const int64_t stop = clock_now() + (int64_t)(seconds * 1e9);
    const V factor = splat((T)0.999), term = splat((T)0.001);
    double best = 0;
    volatile T sink;
    do {
        struct timespec begin, end;
#define BEGIN(i) V x##i = splat((T)i);
#define ROUND(i) x##i = x##i * factor + term;
#define SUM(i) +x##i
        EACH_16(BEGIN)
        clock_gettime(CLOCK_MONOTONIC, &begin);
        for (int round = 0; round < ROUNDS; round++) {
            EACH_16(ROUND)
            __asm__ volatile("" : "+r"(round)); /* no round is computed ahead */
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        sink = sum_of((V){0} EACH_16(SUM));
#undef BEGIN
#undef ROUND
#undef SUM
        const double ns = (double)(end.tv_sec - begin.tv_sec) * 1e9 +
                          (double)(end.tv_nsec - begin.tv_nsec);
        const double rate = 2.0 * 16 * LANES * ROUNDS / ns;
        best = rate > best ? rate : best;
    } while (clock_now() < stop);
    (void)sink;
    return best;
}
