# The threads of a trainer.

import _thread

from cpython.pythread cimport (
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)


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
