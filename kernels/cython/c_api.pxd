"""The C side of the engine as Cython sees it: what engine.pyx reads and fills of c/*.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

ctypedef int (*Poll)() noexcept nogil

cdef extern from "fastnn.h" nogil:
    const int NUMBERS
    const int MOMENTS
    const int KIND_COUNT

    ctypedef struct Tensor:
        int present, penalised
        double rate_factor, decay_factor

    ctypedef struct Layer:
        int kind
        int64_t inputs "in"
        int64_t out
        Tensor *tensor
        int activation
        void *custom
        double dropout, number

    ctypedef struct KernelTable:
        void *multiply
        void *gradient
        void **forward
        void **backward
        void **elements
        void **update

    ctypedef struct CNetwork "Network":
        int64_t depth
        Layer *layers
        const KernelTable *kernels
        int64_t arena_size
        void *parameters
        void **moments
        int64_t step, product_step

    ctypedef struct Barrier:
        int threads

    ctypedef enum Divisor:
        BY_ELEMENTS, BY_ROWS, BY_NOTHING

    ctypedef struct Recipe:
        int loss
        Divisor divisor
        void *custom
        double parameter
        int fused, rule, l2_by_weight
        double *number
        double weight_decay, l2, clip_norm

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
        int64_t slab
        void *gradient
        int64_t steps
        Barrier barrier
        int stop
        Poll poll

    ctypedef struct Instance:
        const char *isa
        int itemsize
        const char *const *activations
        const char *const *losses
        const char *const *rules
        void (*own_kernels)(KernelTable *) noexcept nogil
        void (*run)(Plan *, Job *, int) noexcept nogil
        void (*pack)(const CNetwork *, const void *, void *) noexcept nogil
        void (*unpack)(const CNetwork *, const void *, void *) noexcept nogil
        void (*transpose)(CNetwork *) noexcept nogil
        int (*predict)(const CNetwork *, const void *, void *, int64_t, int64_t,
                       Poll) noexcept nogil
        int (*input_gradient)(const CNetwork *, const void *, const int64_t *, int64_t, void *,
                              int64_t, Poll) noexcept nogil
        int (*linear_forward)(const KernelTable *, const void *, const void *, const void *, int,
                              void *, int64_t, int64_t, int64_t) noexcept nogil
        int (*linear_backward)(const KernelTable *, const void *, const void *, const void *,
                               void *, void *, void *, int64_t, int64_t, int64_t) noexcept nogil
        int (*activation_forward)(const KernelTable *, const void *, int, void *, int64_t,
                                  int64_t) noexcept nogil
        int (*activation_backward)(const KernelTable *, const void *, const void *, int, void *,
                                   int64_t, int64_t) noexcept nogil
        int (*loss)(const KernelTable *, const void *, const void *, const int64_t *,
                    const void *, int, Divisor, double, void *, double *, int64_t,
                    int64_t) noexcept nogil
        int (*update)(const KernelTable *, void *, const void *, void **, int, int64_t,
                      const Recipe *, double, int64_t) noexcept nogil
        int (*all_finite)(const void *, int64_t, int64_t) noexcept nogil
        double (*fma_peak)(double) noexcept nogil

cdef extern from "random.h" nogil:
    void shuffle_rows "shuffle" (uint32_t *order, int64_t count, uint64_t seed, uint64_t epoch)

cdef extern from "platform.h" nogil:
    void *fastnn_allocate(uint64_t bytes)
    void fastnn_release(const void *memory)
    int fastnn_processor_level()
    const Instance *fastnn_instance(int level, int itemsize)

cdef extern from "plan.h" nogil:
    const char *fastnn_kind_name(int kind)
    int fastnn_network_begin(CNetwork *network, int64_t depth)
    int fastnn_network_lay(CNetwork *network, int itemsize)
    void fastnn_network_free(CNetwork *network)
    int fastnn_plan_lay(Plan *plan, CNetwork *network, const Instance *instance, int64_t batch,
                        int threads)
    int fastnn_plan_gradient(Plan *plan, const Instance *instance)
    void fastnn_plan_free(Plan *plan)
