# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=False
"""The compiled engine: arrays become pointers, layers become a plan, threads enter it.

The hot loops are in c/ (start at c/instance.h); here is what they need to be called from
Python: checks of arrays, memory that lives as long as its owner, the GIL, signals. One binary
carries every instruction set; the highest one that the processor has is taken at import,
FASTNN_ISA (v4, v3, baseline) forces a lower one.

A ``Kernels`` is a table of what the loops compute with. The one of this module is that of
the instruction set in use; another may have rows that were compiled elsewhere, by address,
and its networks run the same steps with them (see ``kernels/numba``).
"""

import _thread
import os
import threading
from time import perf_counter

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pythread cimport (
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from c_api cimport *

from .. import contract
from ..pace import Pace

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept

cnp.import_array()

NAME = "cython"

# ----------------------------------------------------------------------- instruction sets

cdef dict _LEVELS = {"v4": 4, "v3": 3, "baseline": 0}


def available_levels():
    """The instruction sets that this build has and this processor runs, best first."""
    return tuple(
        name
        for name, level in _LEVELS.items()
        if level <= fastnn_processor_level() and fastnn_instance(level, 4) != NULL
    )


def _chosen_level():
    wanted = os.environ.get("FASTNN_ISA", "")
    if not wanted:
        return available_levels()[0]
    if wanted not in _LEVELS:
        raise ImportError(f"FASTNN_ISA={wanted!r} is unknown; take one of {', '.join(_LEVELS)}")
    if wanted not in available_levels():
        raise ImportError(
            f"FASTNN_ISA={wanted!r} is not available here: this processor and build run "
            f"{', '.join(available_levels())}"
        )
    return wanted


ISA = _chosen_level()
cdef const Instance *_float32 = fastnn_instance(_LEVELS[ISA], 4)
cdef const Instance *_float64 = fastnn_instance(_LEVELS[ISA], 8)


cdef tuple _names(const char *const *table):
    cdef Py_ssize_t i = 0
    result = []
    while table[i] != NULL:
        result.append(table[i].decode())
        i += 1
    return tuple(result)


ACTIVATIONS = _names(_float32.activations)
LOSSES = _names(_float32.losses)
OPTIMIZERS = _names(_float32.rules)
KINDS = tuple((<bytes>fastnn_kind_name(i)).decode() for i in range(KIND_COUNT))
cdef dict _DIVISORS = {"elements": BY_ELEMENTS, "rows": BY_ROWS, "none": BY_NOTHING}

# ----------------------------------------------------------------------- arrays and memory


cdef const Instance *_instance(int typenum) except NULL:
    if typenum == cnp.NPY_FLOAT32:
        return _float32
    if typenum == cnp.NPY_FLOAT64:
        return _float64
    raise TypeError("the compiled engines take float32 and float64 arrays")


cdef inline bint _plain(object array, int typenum, int dimensions) noexcept:
    return (
        cnp.PyArray_Check(array)
        and cnp.PyArray_TYPE(<cnp.ndarray>array) == typenum
        and cnp.PyArray_NDIM(<cnp.ndarray>array) == dimensions
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array)
    )


cdef void *_data(object array, int typenum, int dimensions) except? NULL:
    """The address of a plain array; TypeError if it is not one."""
    if not _plain(array, typenum, dimensions):
        raise TypeError(
            f"expected a plain (native, aligned, C-contiguous) {dimensions}-D array of one dtype"
        )
    return cnp.PyArray_DATA(<cnp.ndarray>array)


cdef void *_optional(object array, int typenum, int dimensions) except? NULL:
    return NULL if array is None else _data(array, typenum, dimensions)


cdef inline int64_t _length(object array, int axis) noexcept:
    return cnp.PyArray_DIM(<cnp.ndarray>array, axis)


cdef int _poll() noexcept with gil:
    """Non-zero if a signal handler raised; the exception stays pending."""
    return PyErr_CheckSignals()


cdef int _raise_pending() except -1:
    """Hand on the exception that a signal handler raised during a poll."""
    return -1


cdef int _check(int status) except -1:
    if status == 0:
        return 0
    if status > 0:
        return _raise_pending()
    raise MemoryError("cannot allocate the workspace")


cdef int _row(tuple table, object name, void **custom, int itemsize) except -1:
    """The row of a name; of a user's function the row after the last, and its address."""
    if isinstance(name, str):
        return table.index(name)
    custom[0] = <void *><size_t>name.address(itemsize)
    return len(table)


cdef Recipe _recipe(object loss, object optimizer, int itemsize) except *:
    cdef Recipe recipe
    memset(&recipe, 0, sizeof(Recipe))
    if loss is not None:
        recipe.loss = _row(LOSSES, loss.name, &recipe.custom, itemsize)
        recipe.parameter = loss.parameter
        recipe.fused, recipe.divisor = loss.fused, _DIVISORS[loss.divisor]
    if optimizer is not None:
        recipe.rule = OPTIMIZERS.index(optimizer.name)
        for i, number in enumerate(optimizer.numbers):
            recipe.number[i] = number
        recipe.l2_by_weight = optimizer.l2_by_weight
        recipe.weight_decay = optimizer.weight_decay
        recipe.l2 = optimizer.l2
        recipe.clip_norm = optimizer.clip_norm
    return recipe


# ----------------------------------------------------------------------- kernels


@cython.final
cdef class Kernels:
    """What the loops compute with, for both dtypes, and the contract's kernels by it.

    Each kernel turns arrays into pointers and calls the instance's function of that name
    without the GIL.
    """

    cdef KernelTable float32, float64

    def __cinit__(self):
        _float32.own_kernels(&self.float32)
        _float64.own_kernels(&self.float64)

    cdef KernelTable *table(self, int typenum) noexcept:
        return &self.float32 if typenum == cnp.NPY_FLOAT32 else &self.float64

    def install(self, int itemsize, kind, row, size_t address):
        """Take the C function at an address for a kind of kernel; ``row`` is its name, or None.

        Kinds: "multiply" and "gradient" (c/products.h), and "forward", "backward",
        "elements", "update" of a row (c/rows.h). The function must live as long as this.
        """
        cdef KernelTable *table = &self.float32 if itemsize == 4 else &self.float64
        cdef void *function = <void *>address
        if kind == "multiply":
            table.multiply = function
        elif kind == "gradient":
            table.gradient = function
        elif kind == "forward":
            table.forward[<int>ACTIVATIONS.index(row)] = function
        elif kind == "backward":
            table.backward[<int>ACTIVATIONS.index(row)] = function
        elif kind == "elements":
            table.elements[<int>LOSSES.index(row)] = function
        elif kind == "update":
            table.update[<int>OPTIMIZERS.index(row)] = function
        else:
            raise ValueError(f"there is no kind of kernel called {kind!r}")

    def linear_forward(self, X, weight, bias, activation, out):
        cdef int typenum = cnp.PyArray_TYPE(X), row = ACTIVATIONS.index(activation), status
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef const void *x = _data(X, typenum, 2)
        cdef const void *w = _data(weight, typenum, 2)
        cdef const void *b = _optional(bias, typenum, 1)
        cdef void *y = _data(out, typenum, 2)
        cdef int64_t rows = _length(X, 0), inputs = _length(X, 1), outputs = _length(weight, 1)
        with nogil:
            status = instance.linear_forward(table, x, w, b, row, y, rows, inputs, outputs)
        _check(status)

    def linear_backward(self, X, weight, delta, input_delta, weight_gradient, bias_gradient):
        cdef int typenum = cnp.PyArray_TYPE(X), status
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef const void *x = _data(X, typenum, 2)
        cdef const void *w = _data(weight, typenum, 2)
        cdef const void *d = _data(delta, typenum, 2)
        cdef void *dx = _optional(input_delta, typenum, 2)
        cdef void *dw = _optional(weight_gradient, typenum, 2)
        cdef void *db = _optional(bias_gradient, typenum, 1)
        cdef int64_t rows = _length(X, 0), inputs = _length(X, 1), outputs = _length(weight, 1)
        with nogil:
            status = instance.linear_backward(
                table, x, w, d, dx, dw, db, rows, inputs, outputs
            )
        _check(status)

    def activation_forward(self, Z, activation, out):
        cdef int typenum = cnp.PyArray_TYPE(Z), row = ACTIVATIONS.index(activation), status
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef const void *z = _data(Z, typenum, 2)
        cdef void *y = _data(out, typenum, 2)
        cdef int64_t rows = _length(Z, 0), columns = _length(Z, 1)
        with nogil:
            status = instance.activation_forward(table, z, row, y, rows, columns)
        _check(status)

    def activation_backward(self, Z, output_delta, activation, out):
        cdef int typenum = cnp.PyArray_TYPE(Z), row = ACTIVATIONS.index(activation), status
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef const void *z = _data(Z, typenum, 2)
        cdef const void *d = _data(output_delta, typenum, 2)
        cdef void *y = _data(out, typenum, 2)
        cdef int64_t rows = _length(Z, 0), columns = _length(Z, 1)
        with nogil:
            status = instance.activation_backward(table, z, d, row, y, rows, columns)
        _check(status)

    def loss_value_and_delta(self, output, target, weight, loss, double parameter, out):
        cdef int typenum = cnp.PyArray_TYPE(output), row = LOSSES.index(loss), status
        cdef Divisor divisor = _DIVISORS[contract.LOSSES[loss].divisor]
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef const void *o = _data(output, typenum, 2)
        cdef const void *t = NULL
        cdef const int64_t *labels = NULL
        if _plain(target, cnp.NPY_INT64, 1):
            labels = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>target)
        else:
            t = _data(target, typenum, 2)
        cdef const void *w = _optional(weight, typenum, 1)
        cdef void *delta = _data(out, typenum, 2)
        cdef int64_t rows = _length(output, 0), columns = _length(output, 1)
        cdef double value = 0
        with nogil:
            status = instance.loss(
                table, o, t, labels, w, row, divisor, parameter, delta, &value, rows, columns
            )
        _check(status)
        return value

    def optimizer_update(self, parameters, gradient, moments, optimizer, double rate, int64_t step):
        cdef int typenum = cnp.PyArray_TYPE(parameters), status, count = len(moments)
        cdef const Instance *instance = _instance(typenum)
        cdef KernelTable *table = self.table(typenum)
        cdef Recipe recipe = _recipe(None, optimizer, 0)
        cdef void *p = _data(parameters, typenum, 1)
        cdef const void *g = _data(gradient, typenum, 1)
        cdef void *own[8]
        if count > MOMENTS:
            raise ValueError(f"at most {MOMENTS} moments, got {count}")
        for i in range(count):
            own[i] = _data(moments[i], typenum, 1)
        cdef int64_t size = _length(parameters, 0)
        with nogil:
            status = instance.update(table, p, g, own, count, size, &recipe, rate, step)
        _check(status)


cdef Kernels _own = Kernels()
linear_forward = _own.linear_forward
linear_backward = _own.linear_backward
activation_forward = _own.activation_forward
activation_backward = _own.activation_backward
loss_value_and_delta = _own.loss_value_and_delta
optimizer_update = _own.optimizer_update


def all_finite(values):
    cdef int typenum = cnp.PyArray_TYPE(values), finite
    cdef const Instance *instance = _instance(typenum)
    cdef const void *data = cnp.PyArray_DATA(values)
    cdef int64_t count = cnp.PyArray_SIZE(values), stride = 1
    if not cnp.PyArray_ISCARRAY_RO(values):
        if values.ndim > 1:
            return all(all_finite(row) for row in values)
        if not cnp.PyArray_ISBEHAVED_RO(values) or values.strides[0] % values.itemsize:
            native = values.dtype.newbyteorder("=")
            parts = (values[i : i + 65536] for i in range(0, count, 65536))
            return all(all_finite(np.array(part, dtype=native)) for part in parts)
        stride = values.strides[0] // values.itemsize
    with nogil:
        finite = instance.all_finite(data, count, stride)
    return bool(finite)


def fma_peak(dtype, double seconds=0.1):
    """The fused multiply-adds of this core in GFLOP/s, best of many runs in ``seconds``."""
    cdef const Instance *instance = _instance(np.dtype(dtype).num)
    cdef double peak
    with nogil:
        peak = instance.fma_peak(seconds)
    return peak


# ----------------------------------------------------------------------- networks


cdef class Network:
    """Parameters and optimizer state in blocked arenas; see ``kernels/contract.py``."""

    cdef CNetwork net
    cdef const Instance *instance
    cdef int typenum, moment_count
    cdef object moments_of  # the state of the rule whose moments these are; None: not known
    cdef Kernels kernels
    cdef tuple specs  # keeps the users' functions
    cdef readonly Py_ssize_t size

    def __cinit__(self, tuple layers, dtype, Kernels kernels=None):
        self.typenum = np.dtype(dtype).num
        self.instance = _instance(self.typenum)
        self.specs = layers
        self.kernels = _own if kernels is None else kernels
        self.net.kernels = self.kernels.table(self.typenum)
        if fastnn_network_begin(&self.net, len(layers)):
            raise MemoryError("cannot allocate the layers of the network")
        for l, spec in enumerate(layers):
            self.describe(&self.net.layers[l], spec)
        if fastnn_network_lay(&self.net, self.instance.itemsize):
            raise MemoryError("cannot allocate the parameters of the network")
        self.size = sum(spec.size for spec in layers)

    cdef int describe(self, Layer *layer, spec) except -1:
        kind = contract.KINDS[spec.kind]
        layer.kind = KINDS.index(spec.kind)
        layer.inputs, layer.out, layer.dropout = spec.inputs, spec.outputs, spec.dropout
        layer.activation = _row(
            ACTIVATIONS, spec.activation, &layer.custom, self.instance.itemsize
        )
        if spec.numbers:
            layer.number = spec.numbers[0]
        tensors = {tensor.name: tensor for tensor in spec.tensors}
        for t, name in enumerate(kind.tensors):
            layer.tensor[t].penalised = name in kind.penalised
            layer.tensor[t].rate_factor = layer.tensor[t].decay_factor = 1
            if name in tensors:
                layer.tensor[t].present = True
                layer.tensor[t].rate_factor = tensors[name].rate_factor
                layer.tensor[t].decay_factor = tensors[name].decay_factor
        return 0

    def __dealloc__(self):
        fastnn_network_free(&self.net)

    cdef void *new_arena(self) except NULL:
        cdef void *arena = fastnn_allocate(self.net.arena_size * self.instance.itemsize)
        if arena == NULL:
            raise MemoryError("cannot allocate the optimizer's moments")
        return arena

    cdef cnp.ndarray flat(self, const void *arena):
        cdef cnp.npy_intp size = self.size
        result = cnp.PyArray_EMPTY(1, &size, self.typenum, 0)
        self.instance.unpack(&self.net, arena, cnp.PyArray_DATA(result))
        return result

    cdef const void *checked_flat(self, object flat) except NULL:
        data = _data(flat, self.typenum, 1)
        if _length(flat, 0) != self.size:
            raise ValueError(f"expected {self.size} parameters, got {_length(flat, 0)}")
        return data

    cdef int set_moments(self, int count) except -1:
        """Have `count` moment arenas, all zero, and no steps made."""
        for i in range(MOMENTS):
            if i < count:
                if self.net.moments[i] == NULL:
                    self.net.moments[i] = self.new_arena()
                memset(self.net.moments[i], 0, self.net.arena_size * self.instance.itemsize)
            else:
                fastnn_release(self.net.moments[i])
                self.net.moments[i] = NULL
        self.moment_count = count
        self.net.step = self.net.product_step = 0
        self.moments_of = None
        return 0

    def get_parameters(self):
        return self.flat(self.net.parameters)

    def set_parameters(self, flat):
        self.instance.pack(&self.net, self.checked_flat(flat), self.net.parameters)
        self.instance.transpose(&self.net)

    def get_state(self):
        return self.net.step, tuple(self.flat(self.net.moments[i]) for i in range(self.moment_count))

    def set_state(self, step, moments):
        if len(moments) > MOMENTS:
            raise ValueError(f"at most {MOMENTS} moments, got {len(moments)}")
        for moment in moments:
            self.checked_flat(moment)
        self.set_moments(len(moments))
        for i, moment in enumerate(moments):
            self.instance.pack(&self.net, self.checked_flat(moment), self.net.moments[i])
        self.net.step = step

    def predict(self, X, int threads=1):
        cdef cnp.npy_intp shape[2]
        cdef int status
        if not _plain(X, self.typenum, 2) or _length(X, 1) != self.net.layers[0].inputs:
            return None
        shape[0] = _length(X, 0)
        shape[1] = self.net.layers[self.net.depth - 1].out
        out = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        if threads > 1 and shape[0] > threads * 64:
            self.predict_threaded(X, out, threads)
            return out
        cdef const void *source = cnp.PyArray_DATA(<cnp.ndarray>X)
        cdef void *target = cnp.PyArray_DATA(<cnp.ndarray>out)
        with nogil:
            status = self.instance.predict(&self.net, source, target, 0, shape[0], _poll)
        _check(status)
        return out

    def _predict_rows(self, X, out, int64_t first, int64_t last, bint polls, list failures):
        """Predict rows first <= r < last; a failure is noted, since this may be a thread."""
        cdef const void *source = cnp.PyArray_DATA(<cnp.ndarray>X)
        cdef void *target = cnp.PyArray_DATA(<cnp.ndarray>out)
        cdef Poll poll = _poll if polls else <Poll>NULL
        cdef int status
        with nogil:
            status = self.instance.predict(&self.net, source, target, first, last, poll)
        if polls:
            _check(status)
        elif status:
            failures.append(status)

    cdef int predict_threaded(self, X, out, int threads) except -1:
        rows = _length(X, 0)
        bounds = [rows * t // threads // 16 * 16 for t in range(threads)] + [rows]
        failures = []
        helpers = [
            threading.Thread(
                target=self._predict_rows,
                args=(X, out, bounds[t], bounds[t + 1], False, failures),
                daemon=True,
            )
            for t in range(1, threads)
        ]
        for helper in helpers:
            helper.start()
        try:
            self._predict_rows(X, out, bounds[0], bounds[1], True, failures)
        finally:
            for helper in helpers:
                helper.join()
        return _check(-1 if failures else 0)

    def input_gradient(self, X, outputs):
        cdef cnp.npy_intp shape[3]
        cdef int status
        cdef const void *source = _data(X, self.typenum, 2)
        cdef const int64_t *chosen = <const int64_t *>_data(outputs, cnp.NPY_INT64, 1)
        if _length(X, 1) != self.net.layers[0].inputs:
            raise ValueError(f"X must have {self.net.layers[0].inputs} columns")
        shape[0], shape[1], shape[2] = _length(X, 0), _length(outputs, 0), _length(X, 1)
        for i in range(shape[1]):
            if not 0 <= chosen[i] < self.net.layers[self.net.depth - 1].out:
                raise ValueError(f"there is no output {chosen[i]}")
        result = cnp.PyArray_EMPTY(3, shape, self.typenum, 0)
        cdef void *target = cnp.PyArray_DATA(<cnp.ndarray>result)
        with nogil:
            status = self.instance.input_gradient(
                &self.net, source, chosen, shape[1], target, shape[0], _poll
            )
        _check(status)
        return result

    def trainer(self, loss, optimizer, batch_size, seed, threads=1, exactly=True):
        return Trainer(self, loss, optimizer, batch_size, seed, threads, exactly)


# ----------------------------------------------------------------------- threads


@cython.final
cdef class _Pool:
    """Threads that wait for jobs; they know the pool, never the trainer.

    They wait and meet on C locks only. Nothing between the start of a job and its end runs
    Python code on the calling thread, so no signal handler can raise there and part them.
    """

    cdef PyThread_type_lock *gates  # one a thread: released to begin
    cdef PyThread_type_lock *ends  # one a thread: released when it is done
    cdef int size
    cdef bint closing
    cdef Plan *plan
    cdef Job *job
    cdef const Instance *instance
    cdef readonly object process

    def __cinit__(self, int size):
        self.process = os.getpid()
        self.gates = <PyThread_type_lock *>calloc(2 * size, sizeof(PyThread_type_lock))
        if self.gates == NULL:
            raise MemoryError("cannot allocate the threads' locks")
        self.ends = self.gates + size
        for i in range(2 * size):
            self.gates[i] = PyThread_allocate_lock()
            if self.gates[i] == NULL:
                raise MemoryError("cannot allocate the threads' locks")
            PyThread_acquire_lock(self.gates[i], WAIT_LOCK)
        try:
            for i in range(size):
                _thread.start_new_thread(self.serve, (i,))
                self.size += 1
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        if self.gates != NULL:
            for i in range(2 * (self.ends - self.gates)):
                if self.gates[i] != NULL:
                    PyThread_free_lock(self.gates[i])
        free(self.gates)

    def serve(self, int i):
        with nogil:
            while True:
                PyThread_acquire_lock(self.gates[i], WAIT_LOCK)
                if self.closing:
                    break
                self.instance.run(self.plan, self.job, i + 1)
                PyThread_release_lock(self.ends[i])

    cdef void run(self, const Instance *instance, Plan *plan, Job *job) noexcept nogil:
        """Run the job on every thread, as thread 0 on this one."""
        cdef int i
        self.instance, self.plan, self.job = instance, plan, job
        for i in range(self.size):
            PyThread_release_lock(self.gates[i])
        instance.run(plan, job, 0)
        for i in range(self.size):
            PyThread_acquire_lock(self.ends[i], WAIT_LOCK)

    cdef void close(self) noexcept:
        self.closing = True
        for i in range(self.size):
            PyThread_release_lock(self.gates[i])
        self.size = 0


# ----------------------------------------------------------------------- trainers


@cython.final
cdef class Trainer:
    """A plan with all of its memory, and the threads that run it; see ``kernels/contract.py``."""

    cdef Plan plan
    cdef Job job
    cdef Network network
    cdef _Pool pool
    cdef object seed, order
    cdef object pace  # which number of threads is best; None: always `threads`
    cdef int threads
    cdef int moments  # that the rule keeps; -1: no rule
    cdef int64_t depth, batch_size
    cdef bint takes_labels
    cdef object loss  # keeps a user's function

    def __cinit__(self, Network network, loss, optimizer, batch_size, seed, threads, exactly):
        cdef const Instance *instance = network.instance
        cdef CNetwork *net = &network.net
        self.network, self.seed, self.batch_size = network, seed, batch_size
        self.depth = net.depth
        self.plan.recipe = _recipe(loss, optimizer, instance.itemsize)
        self.loss = loss
        self.takes_labels = loss.row.takes_labels
        self.threads = threads
        self.pace = None if exactly or threads == 1 else Pace(threads, batch_size)
        self.plan.poll = _poll
        self.moments = -1
        if optimizer is not None:
            self.moments = optimizer.moments
            if network.moment_count != self.moments or (
                network.moments_of is not None and network.moments_of != optimizer.state
            ):
                network.set_moments(self.moments)
            network.moments_of = optimizer.state
        if fastnn_plan_lay(&self.plan, net, instance, batch_size, threads):
            raise MemoryError("cannot allocate the memory of a step")

    def __dealloc__(self):
        if self.pool is not None:
            self.pool.close()
        fastnn_plan_free(&self.plan)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    @property
    def steps(self):
        return self.plan.steps

    @property
    def penalty(self):
        return self.job.penalty

    cdef int load_job(self, JobKind kind, X, target, weight) except -1:
        """Fill in the job; the arrays must outlive it."""
        cdef int typenum = self.network.typenum
        cdef Job *job = &self.job
        memset(job, 0, sizeof(Job))
        job.kind = kind
        job.X = _data(X, typenum, 2)
        job.rows = _length(X, 0)
        job.batch = max(job.rows, 1)
        if _plain(target, cnp.NPY_INT64, 1):
            job.labels = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>target)
        else:
            job.target = _data(target, typenum, 2)
        if weight is not None:
            job.weight = _data(weight, typenum, 1)
        job.seed = self.seed
        if not self.fits(X, target, weight):
            raise ValueError("X, target and weight do not fit each other and the network")
        return 0

    cdef bint fits(self, X, target, weight) noexcept:
        cdef CNetwork *net = self.plan.network
        cdef int64_t outputs = net.layers[net.depth - 1].out, rows = _length(X, 0)
        return (
            _length(X, 1) == net.layers[0].inputs
            and _length(target, 0) == rows
            and (self.takes_labels if self.job.labels != NULL else _length(target, 1) == outputs)
            and (weight is None or _length(weight, 0) == rows)
        )

    cdef double run(self) except? -1.0:
        """Run the whole job on all threads."""
        self.job.end = self.job.rows
        self.run_part(self.threads)
        return self.job.loss + self.job.penalty

    cdef double run_at_its_pace(self) except? -1.0:
        """Run the whole job in parts, on as many threads as prove to be best."""
        cdef Job *job = &self.job
        while job.end < job.rows:
            threads, steps = self.pace.next_part()
            job.begin = job.end
            job.end = min(job.rows, job.begin + steps * job.batch)
            start = perf_counter()
            self.run_part(threads)
            self.pace.observe(job.end - job.begin, perf_counter() - start)
            if PyErr_CheckSignals():
                _raise_pending()
        return job.loss + job.penalty

    cdef int run_part(self, int threads) except -1:
        """Run rows begin <= r < end of the job; an interrupt surfaces here."""
        cdef int64_t rows = self.job.batch if self.job.batch < self.job.rows else self.job.rows
        if self.job.kind == TRAIN and self.moments != self.network.moment_count:
            raise RuntimeError("the optimizer's state is not that of this training any more")
        if (
            self.job.kind == GRADIENT
            or self.plan.recipe.clip_norm > 0
            or rows > self.plan.slab
        ) and fastnn_plan_gradient(&self.plan, self.network.instance):
            raise MemoryError("cannot allocate the gradient")
        self.plan.stop = 0
        self.plan.barrier.threads = threads
        if threads > 1:
            if self.pool is None or self.pool.process != os.getpid():
                self.pool = _Pool(self.threads - 1)
            with nogil:
                self.pool.run(self.network.instance, &self.plan, &self.job)
        else:
            with nogil:
                self.network.instance.run(&self.plan, &self.job, 0)
        if self.plan.stop:
            _raise_pending()
        return 0

    cdef int take_order(self, const int64_t *given, uint32_t *order) except -1:
        cdef int64_t i, rows = self.job.rows
        for i in range(rows):
            if not 0 <= given[i] < rows:
                raise ValueError(f"the order must hold row numbers from 0 to {rows - 1}")
            order[i] = <uint32_t>given[i]
        return 0

    def epoch(self, X, target, weight, epoch, rates, shuffle):
        self.load_job(TRAIN, X, target, weight)
        self.job.batch = self.batch_size
        self.job.epoch = epoch
        self.job.rates = <const double *>_data(rates, cnp.NPY_FLOAT64, 1)
        if _length(rates, 0) < -(-self.job.rows // self.batch_size):
            raise ValueError("one learning rate is needed for each step")
        cdef uint32_t *order
        cdef int64_t rows = self.job.rows
        cdef uint64_t seed = self.job.seed, key = self.job.epoch
        given = isinstance(shuffle, np.ndarray)
        if given and not (_plain(shuffle, cnp.NPY_INT64, 1) and _length(shuffle, 0) == rows):
            raise ValueError(f"the order must be a plain int64 array of shape ({rows},)")
        if given or shuffle:
            if rows > 0xFFFFFFFF:
                raise ValueError("at most 4294967295 rows can be shuffled")
            if self.order is None or _length(self.order, 0) != rows:
                self.order = np.empty(rows, dtype=np.uint32)
            order = <uint32_t *>cnp.PyArray_DATA(<cnp.ndarray>self.order)
            if given:
                self.take_order(<const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>shuffle), order)
            else:
                with nogil:
                    shuffle_rows(order, rows, seed, key)
            self.job.order = order
        return self.run() if self.pace is None else self.run_at_its_pace()

    def step(self, X, target, weight, double rate):
        cdef int typenum = self.network.typenum
        cdef const Instance *instance = self.network.instance
        cdef int64_t r, outputs = self.plan.network.layers[self.depth - 1].out
        if not (
            _plain(X, typenum, 2)
            and (_plain(target, typenum, 2) or _plain(target, cnp.NPY_INT64, 1))
            and (weight is None or _plain(weight, typenum, 1))
        ):
            return None
        cdef Job *job = &self.job
        memset(job, 0, sizeof(Job))
        job.kind = TRAIN
        job.X = cnp.PyArray_DATA(<cnp.ndarray>X)
        job.rows = job.batch = _length(X, 0)
        if cnp.PyArray_NDIM(<cnp.ndarray>target) == 1:
            job.labels = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>target)
        else:
            job.target = cnp.PyArray_DATA(<cnp.ndarray>target)
        if weight is not None:
            job.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
        job.seed = self.seed
        job.epoch = self.plan.network.step
        job.rates = &rate
        if not self.fits(X, target, weight) or job.rows == 0:
            return None
        if not instance.all_finite(job.X, job.rows * _length(X, 1), 1):
            return None
        if job.labels != NULL:
            for r in range(job.rows):
                if not 0 <= job.labels[r] < outputs:
                    return None
        elif not instance.all_finite(job.target, job.rows * outputs, 1):
            return None
        if weight is not None and not instance.all_finite(job.weight, job.rows, 1):
            return None
        return self.run()

    def evaluate(self, X, target, weight):
        self.load_job(EVALUATE, X, target, weight)
        return self.run()

    def gradient(self, X, target, weight):
        self.load_job(GRADIENT, X, target, weight)
        loss = self.run()
        return loss, self.network.flat(self.plan.gradient)
