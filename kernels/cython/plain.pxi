# The kernels of the contract on plain arrays, and the measure of this core. Each function
# turns arrays into pointers and calls the instance's function of that name without the GIL.

cdef int _check(int status) except -1:
    if status:
        raise MemoryError("cannot allocate the kernel's workspace")
    return 0


cdef const void *_optional(object array, int typenum, int dimensions) except? NULL:
    return NULL if array is None else _data(array, typenum, dimensions)


def linear_forward(X, weight, bias, activation, out):
    cdef int typenum = cnp.PyArray_TYPE(X), row = ACTIVATIONS.index(activation), status
    cdef const Instance *instance = _instance(typenum)
    cdef const void *x = _data(X, typenum, 2)
    cdef const void *w = _data(weight, typenum, 2)
    cdef const void *b = _optional(bias, typenum, 1)
    cdef void *y = _data(out, typenum, 2)
    cdef int64_t rows = _length(X, 0), inputs = _length(X, 1), outputs = _length(weight, 1)
    with nogil:
        status = instance.linear_forward(x, w, b, row, y, rows, inputs, outputs)
    _check(status)


def linear_backward(X, weight, delta, input_delta, weight_gradient, bias_gradient):
    cdef int typenum = cnp.PyArray_TYPE(X), status
    cdef const Instance *instance = _instance(typenum)
    cdef const void *x = _data(X, typenum, 2)
    cdef const void *w = _data(weight, typenum, 2)
    cdef const void *d = _data(delta, typenum, 2)
    cdef void *dx = <void *>_optional(input_delta, typenum, 2)
    cdef void *dw = <void *>_optional(weight_gradient, typenum, 2)
    cdef void *db = <void *>_optional(bias_gradient, typenum, 1)
    cdef int64_t rows = _length(X, 0), inputs = _length(X, 1), outputs = _length(weight, 1)
    with nogil:
        status = instance.linear_backward(x, w, d, dx, dw, db, rows, inputs, outputs)
    _check(status)


def activation_forward(Z, activation, out):
    cdef int typenum = cnp.PyArray_TYPE(Z), row = ACTIVATIONS.index(activation), status
    cdef const Instance *instance = _instance(typenum)
    cdef const void *z = _data(Z, typenum, 2)
    cdef void *y = _data(out, typenum, 2)
    cdef int64_t rows = _length(Z, 0), columns = _length(Z, 1)
    with nogil:
        status = instance.activation_forward(z, row, y, rows, columns)
    _check(status)


def activation_backward(Z, output_delta, activation, out):
    cdef int typenum = cnp.PyArray_TYPE(Z), row = ACTIVATIONS.index(activation), status
    cdef const Instance *instance = _instance(typenum)
    cdef const void *z = _data(Z, typenum, 2)
    cdef const void *d = _data(output_delta, typenum, 2)
    cdef void *y = _data(out, typenum, 2)
    cdef int64_t rows = _length(Z, 0), columns = _length(Z, 1)
    with nogil:
        status = instance.activation_backward(z, d, row, y, rows, columns)
    _check(status)


def loss_value_and_delta(output, target, weight, loss, double parameter, out):
    cdef int typenum = cnp.PyArray_TYPE(output), row = LOSSES.index(loss), status
    cdef const Instance *instance = _instance(typenum)
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
        status = instance.loss(o, t, labels, w, row, parameter, delta, &value, rows, columns)
    _check(status)
    return value


def optimizer_update(parameters, gradient, moments, optimizer, double rate, int64_t step):
    cdef int typenum = cnp.PyArray_TYPE(parameters), status
    cdef const Instance *instance = _instance(typenum)
    cdef Recipe recipe = _recipe(None, optimizer, 0)
    cdef void *p = _data(parameters, typenum, 1)
    cdef const void *g = _data(gradient, typenum, 1)
    cdef void *m0 = _data(moments[0], typenum, 1) if len(moments) > 0 else NULL
    cdef void *m1 = _data(moments[1], typenum, 1) if len(moments) > 1 else NULL
    cdef int64_t count = _length(parameters, 0)
    with nogil:
        status = instance.update(p, g, m0, m1, count, &recipe, rate, step)
    _check(status)


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
