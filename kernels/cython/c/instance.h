/* instance.h: the engine once, for the LEVEL (4, 3, 0) and BITS (32, 64) that the including
 * file defines. Everything is static, so that the linker can never take one instance's
 * function for another's; the table at the end is all that leaves.
 *
 *   vector.h  maths.h              the vector type and its functions
 *   activations.h  softmax.h  losses.h  optimizers.h      one row each
 *   tile.h                         the micro-tile
 *   layer.h                        one layer
 *   step.h                         the step, the epoch
 *   inference.h  plain.h  peak.h   what else is done with them */

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "barrier.h"
#include "coefficients.h"
#include "fastnn.h"
#include "random.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

#if LEVEL == 4
#define TARGET "avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx2,fma,bmi,bmi2,popcnt,prfchw"
#define LEVEL_NAME v4
#elif LEVEL == 3
#define TARGET "avx2,fma,bmi,bmi2,popcnt"
#define LEVEL_NAME v3
#else
#define LEVEL_NAME baseline
#endif

#ifdef TARGET
#define DO_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define PUSH_TARGET(names) \
    DO_PRAGMA(clang attribute push(__attribute__((target(names))), apply_to = function))
PUSH_TARGET(TARGET)
#else
#define PUSH_TARGET(names) DO_PRAGMA(GCC target(names))
PUSH_TARGET(TARGET)
#if LEVEL == 4
#pragma GCC target("prefer-vector-width=512")
#endif
#endif
#endif

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between inlined functions only */
#endif

#include "vector.h"
#include "maths.h"
#include "activations.h"
#include "softmax.h"
#include "optimizers.h"
#include "tile.h"
#include "losses.h"
#include "layer.h"
#include "step.h"
#include "inference.h"
#include "plain.h"
#include "peak.h"

static int64_t scratch_size(const Network *network)
{
    return (PANELS * ROW_TILE + network->layers[network->depth - 1].out_blocks * BLOCK) * BLOCK;
}

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const Instance PASTE(PASTE(PASTE(fastnn_, LEVEL_NAME), _f), BITS) = {
    .isa = STRING(LEVEL_NAME),
    .itemsize = sizeof(T),
    .panels = PANELS,
    .activations = activation_names,
    .losses = loss_names,
    .optimizers = optimizer_names,
    .block_stride = block_stride,
    .scratch_size = scratch_size,
    .run = run,
    .pack = pack,
    .unpack = unpack,
    .transpose = transpose_all,
    .predict = predict,
    .input_gradient = input_gradient,
    .linear_forward = plain_linear_forward,
    .linear_backward = plain_linear_backward,
    .activation_forward = plain_activation_forward,
    .activation_backward = plain_activation_backward,
    .loss = plain_loss,
    .update = plain_update,
    .all_finite = plain_all_finite,
    .fma_peak = fma_peak,
};

#if defined(TARGET) && defined(__clang__)
#pragma clang attribute pop
#endif
