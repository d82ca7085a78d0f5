"""The body of ``fastnn lab``: list the experiments, or run some and say what came out."""

from __future__ import annotations

import argparse
import sys
import time

from .gallery import EXPERIMENTS, run


def lab(arguments: argparse.Namespace) -> int:
    """Do what ``fastnn lab`` was asked for; return the exit code."""
    if not (arguments.names or arguments.all):
        width = max(map(len, EXPERIMENTS))
        for name, row in EXPERIMENTS.items():
            files = ", ".join(picture.file for picture in row.pictures)
            print(f"{name:<{width}}  {row.title}: {files}")
        return 0
    if not arguments.out:
        raise ValueError("where do the pictures go? Give --out DIR")
    if arguments.names and arguments.all:
        raise ValueError("give names or --all, not both")
    start = time.perf_counter()
    written = run(
        EXPERIMENTS if arguments.all else arguments.names,
        arguments.out,
        arguments.engine,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(*written, sep="\n")
    seconds = time.perf_counter() - start
    print(f"{len(written)} files in {seconds:.0f} s", file=sys.stderr, flush=True)
    return 0
