# Arrays become pointers, bytes become memory, signals become exceptions.


cdef const Instance *_instance(int typenum) except NULL:
    if typenum == cnp.NPY_FLOAT32:
        return _float32
    if typenum == cnp.NPY_FLOAT64:
        return _float64
    raise TypeError("the cython engine takes float32 and float64 arrays")


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


cdef inline int64_t _length(object array, int axis) noexcept:
    return cnp.PyArray_DIM(<cnp.ndarray>array, axis)


cdef void *_allocate(object bytes) except NULL:
    cdef void *memory = fastnn_allocate(bytes) if bytes < 1 << 62 else NULL
    if memory == NULL:
        raise MemoryError(f"cannot allocate {bytes} bytes for the network")
    return memory


cdef int _poll() noexcept with gil:
    """Non-zero if a signal handler raised; the exception stays pending."""
    return PyErr_CheckSignals()


cdef int _raise_pending() except -1:
    """Hand on the exception that a signal handler raised during a poll."""
    return -1
