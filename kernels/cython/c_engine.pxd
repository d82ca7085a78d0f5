"""The C side of the engine as Cython sees it: the structs of c/fastnn.h, field for field."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

ctypedef int (*Poll)() noexcept nogil

cdef extern from "c/fastnn.h" nogil:
    const int BLOCK
    const int NARROW
    const int MAX_MOMENTS

    ctypedef struct Layer:
        int64_t inputs "in"
        int64_t out, in_blocks, out_blocks, weight_at, bias_at, weight_size
        int activation, uses_bias, narrow
        void *custom
        double dropout
        void *transposed

    ctypedef struct CNetwork "Network":
        int64_t depth
        Layer *layers
        int64_t arena_size
        void *parameters
        void *moments[2]
        int64_t step

    ctypedef struct Tile:
        int32_t layer, out_block, in_block, width, number

    ctypedef struct Barrier:
        int32_t threads

    ctypedef struct Recipe:
        int loss
        void *custom
        double parameter
        int fused, per_row, optimizer
        int nesterov, epsilon_hat, rate_in_velocity, l2_by_weight
        double momentum, beta_1, beta_2, epsilon, weight_decay, l2, clip_norm

    ctypedef struct Workspace:
        void **activation
        void **delta
        int64_t stride
        const void **rows
        bint in_place

    ctypedef enum JobKind:
        TRAIN, EVALUATE, GRADIENT

    ctypedef struct Job:
        JobKind kind
        const void *X
        const void *target
        const int64_t *labels
        const void *weight
        const uint32_t *order
        const double *rates
        int64_t rows, batch, begin, end
        uint64_t seed, epoch
        double loss, penalty

    ctypedef struct Plan:
        CNetwork *network
        Recipe recipe
        Workspace space
        int64_t slab
        Tile *tiles
        int64_t tile_count
        void *gradient
        double *row_loss
        double *tile_norm
        double *tile_squares
        void **scratch
        int64_t steps
        Barrier barrier
        int stop
        Poll poll
        int64_t next_poll

    ctypedef struct Instance:
        const char *isa
        int itemsize, panels
        const char *const *activations
        const char *const *losses
        const char *const *optimizers
        int64_t (*block_stride)(int64_t) noexcept nogil
        int64_t (*scratch_size)(const CNetwork *) noexcept nogil
        void (*run)(Plan *, Job *, int) noexcept nogil
        void (*pack)(const CNetwork *, const void *, void *) noexcept nogil
        void (*unpack)(const CNetwork *, const void *, void *) noexcept nogil
        void (*transpose)(CNetwork *) noexcept nogil
        int (*predict)(const CNetwork *, const void *, void *, int64_t, int64_t,
                    Poll) noexcept nogil
        int (*input_gradient)(const CNetwork *, const void *, const int64_t *, int64_t, void *,
                           int64_t, Poll) noexcept nogil
        int (*linear_forward)(const void *, const void *, const void *, int, void *, int64_t,
                           int64_t, int64_t) noexcept nogil
        int (*linear_backward)(const void *, const void *, const void *, void *, void *, void *,
                            int64_t, int64_t, int64_t) noexcept nogil
        int (*activation_forward)(const void *, int, void *, int64_t, int64_t) noexcept nogil
        int (*activation_backward)(const void *, const void *, int, void *, int64_t,
                                int64_t) noexcept nogil
        int (*loss)(const void *, const void *, const int64_t *, const void *, int, double, void *,
                 double *, int64_t, int64_t) noexcept nogil
        int (*update)(void *, const void *, void *, void *, int64_t, const Recipe *, double,
                   int64_t) noexcept nogil
        int (*all_finite)(const void *, int64_t, int64_t) noexcept nogil
        double (*fma_peak)(double) noexcept nogil

cdef extern from "c/random.h" nogil:
    void shuffle_rows "shuffle" (uint32_t *order, int64_t count, uint64_t seed, uint64_t epoch)

cdef extern from "c/platform.h" nogil:
    void *fastnn_allocate(uint64_t bytes)
    int fastnn_processor_level()
    const Instance *fastnn_instance(int level, int itemsize)
