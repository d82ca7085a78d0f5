# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=False
"""The Cython engine: validation of pointers, memory, the plan and the GIL around c/*.h.

The hot loops are in c/ (start at c/instance.h); here is what they need to be called from
Python: arrays become pointers, layers become a plan with all of its memory, threads enter
the plan without the GIL. The files included at the end do one of these each.

One binary carries every instruction set; the highest one that the processor has is taken at
import, FASTNN_ISA (v4, v3, baseline) forces a lower one.
"""

import os

import numpy as np

cimport cython
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from c_engine cimport *

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept

cnp.import_array()

NAME = "cython"

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


cdef list _names(const char *const *table):
    cdef Py_ssize_t i = 0
    result = []
    while table[i] != NULL:
        result.append(table[i].decode())
        i += 1
    return result


ACTIVATIONS = tuple(_names(_float32.activations))
LOSSES = tuple(_names(_float32.losses))
cdef list _optimizer_rows = _names(_float32.optimizers)  # name/moments
OPTIMIZERS = tuple(dict.fromkeys(row.partition("/")[0] for row in _optimizer_rows))

include "arrays.pxi"
include "plan.pxi"
include "network.pxi"
include "threads.pxi"
include "trainer.pxi"
include "plain.pxi"
