/* barrier.h: where the threads of a job meet. No OpenMP, no pool: the callers are Python
 * threads that hold no lock, so nothing here can break at fork. Spins for the microsecond
 * that a phase boundary takes, then yields so that a busy machine goes on. */
#ifndef FASTNN_BARRIER_H
#define FASTNN_BARRIER_H

#include <sched.h>

#include "fastnn.h"

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void barrier_wait(Barrier *barrier)
{
    if (barrier->threads == 1)
        return;
    const unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->waiting, 1, memory_order_acq_rel) ==
        barrier->threads - 1) {
        atomic_store_explicit(&barrier->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0;
         atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation; spins++) {
        if (spins < 2000)
            relax();
        else
            sched_yield();
    }
}

#endif
