/* instance.h: the engine once, for the LEVEL (4, 3, 0) and BITS (32, 64) that the including
 * file defines. Everything is static, so that the linker can never take one instance's
 * function for another's; the table at the end is all that leaves. Read from the top down:
 *
 *   vector.h                       the vector type, and what formulas are made of
 *   formulas.h                     written by to_c.py from kernels/formulas/
 *   rows.h                         kernels on arrays: activations, losses, optimizers
 *   softmax.h  losses.h            what is computed of whole rows
 *   tile.h  products.h             the micro-tile; products of matrices
 *   kinds.h  kinds/                a file for each kind of layer
 *   passes.h  phases.h  job.h      forward and back; the step; the epoch
 *   inference.h  plain.h  peak.h   what else is done with them
 *
 * network.h and plan.h lay out the memory, once for all instances. */

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "barrier.h"
#include "plan.h"
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
#include "formulas.h"
#include "rows.h"
#include "blocks.h"
#include "softmax.h"
#include "tile.h"
#include "losses.h"
#include "products.h"
#include "environment.h"
#include "kinds.h"
#include "passes.h"

/* A thread's memory: what the phases work in, then the scalars of an update. */
static int64_t work_size(const Network *network)
{
    return (PANELS * ROW_TILE + network->layers[network->depth - 1].out_blocks * BLOCK) * BLOCK;
}

static int64_t scratch_size(const Network *network)
{
    const int64_t bytes = network->factor_count * (int64_t)sizeof(Scalars);
    return work_size(network) + (bytes + (int64_t)sizeof(T) - 1) / (int64_t)sizeof(T);
}

static Scalars *scalars_in(const Network *network, T *scratch)
{
    return (Scalars *)(void *)(scratch + work_size(network));
}

#include "phases.h"
#include "job.h"
#include "pack.h"
#include "inference.h"
#include "plain.h"
#include "peak.h"

static void own_kernels(KernelTable *table)
{
    *table = (KernelTable){.multiply = (void *)multiply, .gradient = (void *)gradient};
    for (int i = 0; activation_names[i]; i++) {
        table->forward[i] = (void *)activations[i].forward;
        table->backward[i] = (void *)activations[i].backward;
    }
    for (int i = 0; loss_names[i]; i++)
        table->elements[i] = (void *)loss_elements[i];
    for (int i = 0; optimizer_names[i]; i++)
        table->update[i] = (void *)updates[i];
}

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const Instance PASTE(PASTE(PASTE(fastnn_, LEVEL_NAME), _f), BITS) = {
    .isa = STRING(LEVEL_NAME),
    .itemsize = sizeof(T),
    .panels = PANELS,
    .activations = activation_names,
    .losses = loss_names,
    .rules = optimizer_names,
    .own_kernels = own_kernels,
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
