"""What the first fit of a fresh process costs with the Numba engine: cold, and from the cache.

    python benchmarks/first_fit.py --workloads fit1d,mnist128 --rounds 3

Each line is the fastest of the rounds. A round is a new, empty cache directory and two
processes: the first compiles every kernel, the second finds them there. Counted are the
seconds from making the model to the end of one epoch, on the clock and of the processor;
not counted are the imports (NumPy, fastnn; LLVM's is shown apart) and the data.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from typing import Any

from fastnn.bench.contest import Contestant, Prepared, serve
from fastnn.bench.workloads import WORKLOADS


def prepare(workload: str) -> Prepared:
    """The process: all is done before anything is asked."""
    start = time.perf_counter()
    importlib.import_module("llvmlite.binding")
    imports = time.perf_counter() - start
    case = WORKLOADS[workload]
    X, y = (array[: case.batch_size] for array in case.data())
    start, used = time.perf_counter(), time.process_time()
    case.model("numba").fit(X, y, epochs=1, threads=1, **case.recipe)
    took = time.perf_counter() - start
    return {"seconds": (took, time.process_time() - used, imports)}, dict


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--workloads", default="fit1d,mnist128", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    arguments = parser.parse_args()
    print(f"{'first fit, seconds':<24}{'clock':>8}{'CPU':>8}{'import LLVM':>15}")
    for workload in arguments.workloads.split(","):
        states: dict[str, list[Any]] = {"cold": [], "cached": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as directory:
                task, cache = {"workload": workload}, {"FASTNN_CACHE_DIR": directory}
                for state, found in states.items():
                    with Contestant(state, [__file__, "serve"], task, threads=1, **cache) as one:
                        found.append(one.facts["seconds"])
        for state, found in states.items():
            clock, cpu, imports = map(min, zip(*found, strict=True))
            print(f"{workload + ', ' + state:<24}{clock:>8.2f}{cpu:>8.2f}{imports:>15.2f}")


if __name__ == "__main__":
    serve(prepare) if sys.argv[1:] == ["serve"] else main()
