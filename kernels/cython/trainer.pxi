# A trainer of the engine: jobs for the compiled loops, run on one thread or on more.

from time import perf_counter

from ..pace import Pace


@cython.final
cdef class Trainer:
    """A plan with all of its memory, and the threads that run it; see ``fastnn.engines``."""

    cdef Plan plan
    cdef Job job
    cdef Network network
    cdef _Pool pool
    cdef object seed, order
    cdef object pace  # which number of threads is best; None: always `threads`
    cdef int threads
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
        self.takes_labels = loss.name in ("cross_entropy", "cross_entropy_of_probabilities")
        self.threads = threads
        self.pace = None if exactly or threads == 1 else Pace(threads, batch_size)
        self.plan.poll = _poll
        if network.moment_count != optimizer.moments or (
            network.moments_of is not None and network.moments_of != optimizer.name
        ):
            network.set_moments(optimizer.moments)
        network.moments_of = optimizer.name
        _lay_plan(&self.plan, net, instance, batch_size, threads)

    def __dealloc__(self):
        if self.pool is not None:
            self.pool.close()
        _free_plan(&self.plan, self.threads)

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
        if self.plan.gradient == NULL and (
            self.job.kind == GRADIENT
            or self.plan.recipe.clip_norm > 0
            or rows > self.plan.slab
        ):
            self.plan.gradient = self.network.new_arena()
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
