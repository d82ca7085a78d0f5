"""What the first fit of a fresh process costs with the Numba engine: cold, and from the cache.

    python benchmarks/first_fit.py --workloads fit1d,mnist128 --rounds 3

Each line is the fastest of the rounds. A round is a new, empty cache directory and two
processes: the first compiles every kernel, the second finds them there. Counted are the
seconds from making the model to the end of one epoch, on the clock and of the processor;
not counted are the imports (NumPy, fastnn, Numba), which are shown apart, and the data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from fastnn.bench.workloads import WORKLOADS

PROGRAM = """
import json, sys, time
import fastnn
from fastnn.bench.workloads import WORKLOADS

start = time.perf_counter()
from numba import cfunc
imports = time.perf_counter() - start
workload = WORKLOADS[sys.argv[1]]
X, y = (array[: workload.batch_size] for array in workload.data())
start, used = time.perf_counter(), time.process_time()
workload.model("numba").fit(
    X, y, loss=workload.loss, optimizer=workload.optimizer, epochs=1, threads=1,
    batch_size=workload.batch_size,
)
took = time.perf_counter() - start
print(json.dumps([took, time.process_time() - used, imports]))
"""


def process(workload: str, directory: str) -> list[float]:
    """Seconds on the clock, of the processor, and of Numba's import."""
    command = [sys.executable, "-c", PROGRAM, workload]
    environment = {**os.environ, "FASTNN_CACHE_DIR": directory}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(seconds) for seconds in json.loads(done.stdout)]


def main() -> None:
    """Print a line for each workload and state of the cache."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="fit1d,mnist128", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    arguments = parser.parse_args()
    print(f"{'first fit, seconds':<24}{'clock':>8}{'CPU':>8}{'import numba':>15}")
    for workload in arguments.workloads.split(","):
        runs: dict[str, list[list[float]]] = {"cold": [], "cached": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as directory:
                for found in runs.values():
                    found.append(process(workload, directory))
        for state, found in runs.items():
            clock, processor, imports = map(min, zip(*found, strict=True))
            print(f"{workload + ', ' + state:<24}{clock:>8.2f}{processor:>8.2f}{imports:>15.2f}")


if __name__ == "__main__":
    main()
