"""The body of ``fastnn lab``: list the experiments, or run some and say what came out."""

from __future__ import annotations

import argparse
import sys
import time

from .gallery import EXPERIMENTS, run, write_gallery


def lab(arguments: argparse.Namespace) -> int:
    """Do what ``fastnn lab`` was asked for; return the exit code."""
    if not (arguments.names or arguments.all or arguments.gallery):
        width = max(map(len, EXPERIMENTS))
        for name, row in EXPERIMENTS.items():
            files = ", ".join(picture.file for picture in row.pictures)
            print(f"{name:<{width}}  {row.title}: {files}")
    if arguments.names or arguments.all:
        if not arguments.out:
            raise ValueError("where do the pictures go? Give --out DIR")
        if arguments.names and arguments.all:
            raise ValueError("give names or --all, not both")
        chosen = EXPERIMENTS if arguments.all else arguments.names
        start = time.perf_counter()
        written = run(chosen, arguments.out, arguments.engine, say=_tell)
        print(*written, sep="\n")
        _tell(f"{len(written)} files in {time.perf_counter() - start:.0f} s")
    if arguments.gallery:
        write_gallery(arguments.gallery)
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
