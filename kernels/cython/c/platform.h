/* platform.h: memory for the arenas, and what this processor can do. */
#ifndef FASTNN_PLATFORM_H
#define FASTNN_PLATFORM_H

#include "fastnn.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory on a line of its own, or NULL; given back by fastnn_release alone. */
static inline void *fastnn_allocate_block(uint64_t bytes)
{
    void *memory = NULL;
    return posix_memalign(&memory, 64, bytes ? bytes : 64) ? NULL : memory;
}

static inline void fastnn_release(const void *memory) { free((void *)memory); }

/* The same zeroed. Large blocks ask for huge pages; more than the machine has is
 * refused at once, since the kernel would promise it and kill the process later. */
static inline void *fastnn_allocate(uint64_t bytes)
{
    const uint64_t huge = (uint64_t)1 << 21;
    const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    void *memory = NULL;
    if (bytes > machine || posix_memalign(&memory, bytes > huge / 2 ? huge : 64, bytes ? bytes : 64))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes > huge / 2)
        madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    memset(memory, 0, bytes);
    return memory;
}

/* The highest level of instance.h that this processor runs. */
static inline int fastnn_processor_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#define HAS __builtin_cpu_supports
    if (!(HAS("avx2") && HAS("fma") && HAS("bmi") && HAS("bmi2") && HAS("popcnt")))
        return 0;
    if (!(HAS("avx512f") && HAS("avx512vl") && HAS("avx512bw") && HAS("avx512dq") &&
          HAS("avx512cd")))
        return 3;
    return 4;
#undef HAS
#else
    return 0;
#endif
}

/* The instances by level and dtype; NULL where this build has none. */
static inline const Instance *fastnn_instance(int level, int itemsize)
{
#if defined(__x86_64__)
    if (level == 4)
        return itemsize == 4 ? &fastnn_v4_f32 : &fastnn_v4_f64;
    if (level == 3)
        return itemsize == 4 ? &fastnn_v3_f32 : &fastnn_v3_f64;
#endif
    return level ? NULL : itemsize == 4 ? &fastnn_baseline_f32 : &fastnn_baseline_f64;
}

#endif
