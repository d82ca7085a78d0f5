/* random.h: the generator of kernels/random.py, word for word; see there. */
#ifndef FASTNN_RANDOM_H
#define FASTNN_RANDOM_H

#include <stdint.h>

#define GAMMA 0x9E3779B97F4A7C15u

enum { STREAM_WEIGHTS = 1, STREAM_SHUFFLE = 2, STREAM_DROPOUT = 3 };

static inline uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
    return word ^ (word >> 31);
}

static inline uint64_t stream_key(uint64_t seed, uint64_t purpose, uint64_t index)
{
    return mix(mix(mix(seed + GAMMA) ^ purpose) ^ index);
}

static inline uint64_t stream_word(uint64_t key, uint64_t position)
{
    return mix(key + (position + 1) * GAMMA);
}

/* order = the permutation of 0 ... count - 1 for this seed and epoch */
static inline void shuffle(uint32_t *order, int64_t count, uint64_t seed, uint64_t epoch)
{
    const uint64_t key = stream_key(seed, STREAM_SHUFFLE, epoch);
    for (int64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (int64_t i = count - 1; i > 0; i--) {
        const uint64_t j =
            (uint64_t)(((unsigned __int128)stream_word(key, (uint64_t)i) * (uint64_t)(i + 1)) >> 64);
        const uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

#endif
