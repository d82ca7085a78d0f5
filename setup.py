"""The compiled extension; everything else about the package is in pyproject.toml.

One extension module holds every instruction set: each instance is one small C file that
raises its own target (see kernels/cython/c/instance.h), so that no flag here depends on the
machine that builds. The formulas are written as C first.
"""

from pathlib import Path
from runpy import run_path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

FORMULAS = Path("build/include/formulas.h")
run_path("kernels/cython/to_c.py")["write"](FORMULAS)

SOURCES = sorted(str(path) for path in Path("kernels/cython/c").glob("*.c"))
HEADERS = sorted(str(path) for path in Path("kernels/cython/c").rglob("*.h"))

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
                depends=[str(FORMULAS), *HEADERS, "kernels/cython/c_api.pxd"],
                include_dirs=["kernels/cython/c", str(FORMULAS.parent), numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                extra_compile_args=FLAGS,
                libraries=["m"],
            )
        ],
        include_path=["kernels/cython"],
        build_dir="build",
    )
)
