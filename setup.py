"""The compiled extension; everything else about the package is in pyproject.toml.

One extension module holds every instruction set: each instance is one small C file that
raises its own target (see kernels/c/instance.h), so that no flag here depends on the
machine that builds.
"""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = sorted(str(path) for path in Path("kernels/cython/c").glob("*.c"))
HEADERS = sorted(str(path) for path in Path("kernels/cython/c").glob("*.h"))
INCLUDED = sorted(str(path) for path in Path("kernels/cython").glob("*.px[di]"))

FLAGS = [
    "-std=gnu11",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "fastnn.kernels.cython.engine",
                ["kernels/cython/engine.pyx", *SOURCES],
                depends=[*HEADERS, *INCLUDED],
                include_dirs=["kernels/cython", numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                extra_compile_args=FLAGS,
                libraries=["m"],
            )
        ],
        include_path=["kernels/cython"],
        build_dir="build",
    )
)
