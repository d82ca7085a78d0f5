/* fastnn.h: what the compiled engine is made of, independent of dtype and instruction set.
 *
 * Layout. Features come in blocks of 16, padded with zeros; n blocks hold n features.
 *
 *   activations, deltas    [feature/16][row][16]    block stride: see blocks.h
 *   weight                 [out/16][in][16]         panels that stream while k runs over in
 *   transposed             [in/16][out][16]         the same for the way back
 *   narrow weight          [in/16][out][16]         out <= 4: this copy only, see kinds/dense.h
 *   vector                 [feature/16][16]         a bias, a scale
 *
 * All parameters of a network are one arena, each moment and the gradient another of the
 * same shape, so an offset names a parameter and everything that belongs to it.
 *
 * Every pointer to numbers is void: the instances (dtype x instruction set) cast it.
 */
#ifndef FASTNN_H
#define FASTNN_H

#include <stdatomic.h>
#include <stdint.h>

#define BLOCK 16   /* features that lie together */
#define NARROW 4   /* outputs up to which a dense layer is narrow */
#define TENSORS 2  /* that a layer may have */
#define NUMBERS 8  /* that an update rule may have */
#define MOMENTS 4  /* arrays that an update rule may keep */
#define ROWS_MOST 64 /* activations, losses or rules that a table has room for */

/* Kinds of layers, in the order of the contract; to add one, see kinds.h. */
#define KINDS(ROW) ROW(dense) ROW(layer_norm) ROW(scale)
#define KIND(name) KIND_##name,
enum { KINDS(KIND) KIND_COUNT };
#undef KIND

typedef enum { VECTOR, PANELS_OF_OUTPUTS, PANELS_OF_INPUTS } Layout;

/* One array of parameters. */
typedef struct {
    int64_t rows, columns; /* a vector is one row */
    int64_t at, size;      /* in the arenas, in elements; padded */
    Layout layout;
    int present;   /* if not, it has its place and never changes */
    int penalised; /* by l2 */
    int factors;   /* which of the network's */
    double rate_factor, decay_factor;
} Tensor;

typedef struct {
    int kind;
    int64_t in, out;               /* true sizes */
    int64_t in_blocks, out_blocks; /* in units of BLOCK, rounded up */
    Tensor tensor[TENSORS];        /* in the order of the contract */
    int activation;                /* row of rows.h */
    void *custom;                  /* instead of it: an ActivationForward of the user's */
    int narrow;
    double dropout;    /* rate on the input, while training */
    double number;     /* the kind's own: layer_norm's epsilon */
    int64_t tile_rows; /* tiles below each other that its parameters are cut into */
    int kept;          /* numbers per row that the way back needs beside the activations */
    void *transposed;  /* NULL for the first layer and for narrow ones */
} Layer;

/* What an instance computes with. The passes know it by these pointers alone, so a function
 * that was compiled elsewhere is a row like any other; the types are in products.h and rows.h. */
typedef struct {
    void *multiply, *gradient; /* Multiply, Gradient */
    void *forward[ROWS_MOST], *backward[ROWS_MOST]; /* ActivationForward, ActivationBackward */
    void *elements[ROWS_MOST];                      /* LossElements; NULL: cross_entropy */
    void *update[ROWS_MOST];                        /* Update */
} KernelTable;

/* Tensors of one kind of treatment by the optimizer. */
typedef struct {
    double rate, decay; /* factors of the learning rate and the weight decay */
    int penalised;
} Factors;

typedef struct {
    int64_t depth;
    Layer *layers;
    const KernelTable *kernels;
    Factors *factors;
    int64_t factor_count;
    int64_t arena_size; /* elements of each arena */
    void *parameters;
    void *moments[MOMENTS];
    int64_t step;         /* optimizer updates made so far */
    double product;       /* of what the rule carries from step to step, see rows.h; */
    int64_t product_step; /* of this step, 0: none */
} Network;

/* One block of a weight matrix's rows by a few blocks of its columns, or a few blocks of
 * vectors: the unit of work of the gradient phase. */
typedef struct {
    int32_t layer, out_block, in_block;
    int32_t width;  /* blocks of columns, up to the instance's panels */
    int32_t number; /* where its sums are kept: the same for every number of threads */
} Tile;

/* A barrier for n threads, see barrier.h. Bytes, not alignment, keep the counters on lines
 * of their own: a plan lies wherever its owner does. */
typedef struct {
    int32_t threads;
    char apart[64];
    atomic_int waiting;
    char apart_too[64];
    atomic_uint generation;
} Barrier;

/* What the sum of a loss over rows and outputs is divided by: kernels/contract.py */
typedef enum { BY_ELEMENTS, BY_ROWS, BY_NOTHING } Divisor;

typedef struct {
    int loss;         /* row of rows.h */
    Divisor divisor;
    void *custom;     /* instead of it: the LossElements of the user's */
    double parameter; /* of the loss */
    int fused;        /* the loss takes z of the last layer */
    int rule;         /* row of rows.h */
    int l2_by_weight; /* kernels/contract.py */
    double number[NUMBERS]; /* of the rule */
    double weight_decay, l2, clip_norm;
} Recipe;

/* What a pass over rows works in: one buffer per layer boundary, [0] is the network's input. */
typedef struct {
    void **activation; /* depth + 1 */
    void **delta;      /* depth + 1; [0] only where the derivative by the input is wanted */
    void **slope;      /* depth + 1: f'(z); may be the deltas, which then take its place */
    void **kept;       /* depth: what a kind keeps per row, or NULL */
    int64_t stride;    /* between feature blocks, in elements */
    const void **rows; /* where the input's rows lie, or NULL: activation[0] holds them already */
    int in_place;      /* they are read at rows only; else the forward pass fills activation[0] */
} Workspace;

typedef enum { TRAIN, EVALUATE, GRADIENT } JobKind;

/* The rows to run over, and how. */
typedef struct {
    JobKind kind;
    const void *X;         /* (rows, in) row-major */
    const void *target;    /* (rows, out) row-major, or NULL */
    const int64_t *labels; /* (rows,), or NULL */
    const void *weight;    /* (rows,), or NULL */
    const uint32_t *order; /* row of each position, or NULL for 0, 1, 2 ... */
    const double *rates;   /* one per step */
    int64_t rows, batch;
    int64_t begin, end;   /* the part to run over now; begin is a multiple of batch */
    uint64_t seed, epoch; /* of the dropout masks */
    double loss, penalty; /* results, carried from part to part; the penalty comes on top */
} Job;

typedef struct Plan {
    Network *network;
    Recipe recipe;
    Workspace space;
    int64_t slab;      /* rows that fit the workspace, a multiple of BLOCK */
    Tile *tiles;       /* every tile of every layer, each thread's share in one piece */
    int64_t tile_count;
    void *gradient;    /* arena; NULL while every step can be fused */
    double *row_loss;  /* one per group of BLOCK rows of the slab */
    double *tile_norm; /* one per tile: its part of the gradient's squared norm */
    double *tile_squares; /* one per tile: the sum of its squared weights, for the penalty */
    void **scratch;    /* one per thread, see instance.h */
    int threads;       /* that it has memory for */
    int64_t steps;     /* updates made by this plan */
    Barrier barrier;
    atomic_int stop;        /* set by thread 0 between tiles of phase 1 */
    int (*poll)(void);      /* thread 0 calls it every 50 ms; non-zero stops the job */
    int64_t next_poll;      /* monotonic clock, ns */
} Plan;

/* What an instance (dtype x instruction set) provides. */
typedef struct {
    const char *isa;
    int itemsize;
    int panels; /* blocks of columns that a tile takes together, see tile.h */
    const char *const *activations, *const *losses, *const *rules; /* NULL-terminated */
    void (*own_kernels)(KernelTable *);

    int64_t (*block_stride)(int64_t rows);
    int64_t (*scratch_size)(const Network *); /* elements */

    /* The trainer: every one of `threads` callers runs the same job. */
    void (*run)(Plan *, Job *, int thread);

    /* Parameters between the arena and the flat vector of the contract. */
    void (*pack)(const Network *, const void *flat, void *arena);
    void (*unpack)(const Network *, const void *arena, void *flat);
    void (*transpose)(Network *); /* renew every transposed copy */

    /* Inference on rows first <= r < last. Returns 0, or -1 if memory ran out, 1 if polled. */
    int (*predict)(const Network *, const void *X, void *out, int64_t first, int64_t last,
                   int (*poll)(void));
    int (*input_gradient)(const Network *, const void *X, const int64_t *outputs, int64_t count,
                          void *out, int64_t rows, int (*poll)(void));

    /* Kernels on plain arrays; -1 if memory ran out. */
    int (*linear_forward)(const KernelTable *, const void *X, const void *weight, const void *bias,
                          int activation, void *out, int64_t rows, int64_t in,
                          int64_t out_features);
    int (*linear_backward)(const KernelTable *, const void *X, const void *weight,
                           const void *delta, void *input_delta, void *weight_gradient,
                           void *bias_gradient, int64_t rows, int64_t in, int64_t out_features);
    int (*activation_forward)(const KernelTable *, const void *Z, int activation, void *out,
                              int64_t rows, int64_t columns);
    int (*activation_backward)(const KernelTable *, const void *Z, const void *output_delta,
                               int activation, void *out, int64_t rows, int64_t columns);
    int (*loss)(const KernelTable *, const void *output, const void *target,
                const int64_t *labels, const void *weight, int loss, Divisor, double parameter,
                void *delta, double *value, int64_t rows, int64_t columns);
    int (*update)(const KernelTable *, void *parameters, const void *gradient,
                  void *const *moments, int moment_count, int64_t count, const Recipe *,
                  double rate, int64_t step);
    int (*all_finite)(const void *values, int64_t count, int64_t stride);

    double (*fma_peak)(double seconds); /* GFLOP/s of this core */
} Instance;

#if defined(__x86_64__)
extern const Instance fastnn_v4_f32, fastnn_v4_f64, fastnn_v3_f32, fastnn_v3_f64;
#endif
extern const Instance fastnn_baseline_f32, fastnn_baseline_f64;

#endif
