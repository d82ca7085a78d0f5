# A network of the engine: its layers, its parameters, and what needs no trainer.

import threading


@cython.final
cdef class Network:
    """Parameters and optimizer state in blocked arenas; see ``fastnn.engines.Network``."""

    cdef CNetwork net
    cdef const Instance *instance
    cdef int typenum, moment_count
    cdef object moments_of  # the optimizer whose moments these are; None: not known yet
    cdef tuple specs  # keeps the users' functions
    cdef readonly Py_ssize_t size

    def __cinit__(self, tuple layers, dtype):
        self.typenum = np.dtype(dtype).num
        self.instance = _instance(self.typenum)
        self.net.layers = <Layer *>calloc(len(layers), sizeof(Layer))
        if self.net.layers == NULL:
            raise MemoryError("cannot allocate the layers of the network")
        self.net.depth = len(layers)
        self.specs = layers
        end, size = 0, 0
        for l, spec in enumerate(layers):
            in_blocks, out_blocks = -(-spec.inputs // BLOCK), -(-spec.outputs // BLOCK)
            narrow = spec.outputs <= NARROW
            weights = (in_blocks * spec.outputs if narrow else out_blocks * spec.inputs) * BLOCK
            if (end + weights) * self.instance.itemsize >= 1 << 62:
                raise MemoryError("cannot allocate a network of this size")
            layer = &self.net.layers[l]
            layer.inputs, layer.out = spec.inputs, spec.outputs
            layer.in_blocks, layer.out_blocks = in_blocks, out_blocks
            layer.activation = _row(
                ACTIVATIONS, spec.activation, &layer.custom, self.instance.itemsize
            )
            layer.uses_bias, layer.narrow = spec.use_bias, narrow
            layer.dropout = spec.dropout
            layer.weight_at, layer.weight_size = end, weights
            layer.bias_at = end + weights
            end += weights + out_blocks * BLOCK
            size += spec.inputs * spec.outputs + (spec.outputs if spec.use_bias else 0)
            if l > 0 and not narrow:
                layer.transposed = _allocate(
                    in_blocks * spec.outputs * BLOCK * self.instance.itemsize
                )
        self.net.arena_size = end + BLOCK * BLOCK  # a tile may be read past its last row
        self.net.parameters = self.new_arena()
        self.size = size

    def __dealloc__(self):
        for l in range(self.net.depth):
            free(self.net.layers[l].transposed)
        free(self.net.layers)
        free(self.net.parameters)
        for i in range(MAX_MOMENTS):
            free(self.net.moments[i])

    cdef void *new_arena(self) except NULL:
        return _allocate(self.net.arena_size * self.instance.itemsize)

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
        for i in range(MAX_MOMENTS):
            if i < count:
                if self.net.moments[i] == NULL:
                    self.net.moments[i] = self.new_arena()
                memset(self.net.moments[i], 0, self.net.arena_size * self.instance.itemsize)
            else:
                free(self.net.moments[i])
                self.net.moments[i] = NULL
        self.moment_count = count
        self.net.step = 0
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
        if len(moments) > MAX_MOMENTS:
            raise ValueError(f"at most {MAX_MOMENTS} moments, got {len(moments)}")
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
        self.check(status)
        return out

    cdef int check(self, int status) except -1:
        if status == 0:
            return 0
        if status > 0 or status == -2:
            return _raise_pending()
        raise MemoryError("cannot allocate the workspace")

    def _predict_rows(self, X, out, int64_t first, int64_t last, bint polls, list failures):
        """Predict rows first <= r < last; a failure is noted, since this may be a thread."""
        cdef const void *source = cnp.PyArray_DATA(<cnp.ndarray>X)
        cdef void *target = cnp.PyArray_DATA(<cnp.ndarray>out)
        cdef Poll poll = _poll if polls else <Poll>NULL
        cdef int status
        with nogil:
            status = self.instance.predict(&self.net, source, target, first, last, poll)
        if polls:
            self.check(status)
        elif status:
            failures.append(status)

    cdef int predict_threaded(self, X, out, int threads) except -1:
        rows = _length(X, 0)
        bounds = [rows * t // threads // BLOCK * BLOCK for t in range(threads)] + [rows]
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
        if failures:
            raise MemoryError("cannot allocate the workspace")
        return 0

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
        self.check(status)
        return result

    def trainer(self, loss, optimizer, batch_size, seed, threads=1, exactly=True):
        return Trainer(self, loss, optimizer, batch_size, seed, threads, exactly)
