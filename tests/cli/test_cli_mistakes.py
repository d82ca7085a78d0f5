"""What users get wrong: one line on stderr that says so, nothing on stdout, exit code 2."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import report, run, write_csv


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


T = "train d.csv --target y"
ROWS = "p,q,y\n" + "1,2,a\n3,4,b\n" * 20
TWO, ONES = np.ones((9, 2)), np.ones(9)

#: A command, what is in the file that it names, and what the line says.
MISTAKES = [
    ("", None, "COMMAND"),
    ("trian digits", None, "trian"),
    ("train digits --epoch-count 3", None, "--epoch-count"),
    ("train no.csv --target y", None, "no.csv: No such file"),
    ("train no.npz", None, "no.npz: No such file"),
    ("train . --target y", None, "Is a directory"),
    ("train d.csv", ROWS, "--target"),
    ("train d.csv --target z", ROWS, "known: p, q, y"),
    ("train d.csv --target prise", "price\n1\n", "did you mean 'price'"),
    (f"{T} --features p,r", ROWS, "'r'"),
    (f"{T} --features y", ROWS, "both"),
    (T, "", "no header"),
    (T, "p,q,y\n", "no rows"),
    (T, "y\n1\n2\n", "no column to learn"),
    (T, ROWS.replace("q", "p"), "'p' stands twice"),
    (T, ROWS + "1,2\n", "line 42 has 2 cells"),
    (T, ROWS + "1,2,3,4\n", "line 42 has 4 cells"),
    (T, ROWS + "1,inf,a\n", "'inf' is not a finite"),
    (T, ROWS + "1,Paris,a\n", "'Paris' is not a number"),
    (T, ROWS + "1,1e308,a\n-1,-1e308,b\n", "too large"),
    (T, ROWS + "1,2,\n", "'y': a value is missing"),
    ("train d.csv --target q", "p,q\n1,2.5\n2,inf\n", "line 3.*not a finite"),
    (T, "p,y\n" + "1,a\n2,a\n" * 9, "same value"),
    (T, "p,y\n" + "1,0.5\n2,0.5\n" * 9, "same value"),
    ("train d.csv --target p", "p,y\n1,2\n2,3\n3,4\n", "too many classes"),
    (f"{T} --task regression", ROWS, "nothing to regress"),
    (f"{T} --task classification", "p,y\n1,.5\n2,1.5\n", "fractions"),
    (T, "p,y\n1,a\n2,b\n1,a\n2,b\n", "too few"),
    ("train d.npz", "PK no zip", "d.npz is not an npz file"),
    ("train digits --engine cyton", None, "did you mean 'cython'"),
    ("train digits --activation relo", None, "relo"),
    ("train digits --activation softmax", None, "softmax"),
    ("train digits --optimizer adamm", None, "adamm"),
    ("train digits --dtype float16", None, "float16"),
    ("train digits --epochs 0", None, "epochs must be"),
    ("train digits --batch-size 0", None, "batch_size must be"),
    ("train digits --epochs ten", None, "'ten'"),
    ("train digits --lr -1", None, "learning_rate must be"),
    ("train digits --lr nan", None, "learning_rate must be"),
    ("train digits --seed -1", None, "seed must be"),
    ("train digits --threads 0", None, "threads must be"),
    ("train digits --hidden 12,x", None, "12,x"),
    ("train digits --hidden 0", None, "units must be"),
    ("train digits --optimizer sgd --lr 1e30 --epochs 2", None, "smaller --lr"),
    ("train digits --save no/m", None, "no/m"),
    ("predict no.safetensors d.csv", "p\n1\n", "no.safetensors: No such file"),
    ("predict d.csv d.csv", "p\n1\n", "not a safetensors file"),
    (T, b"p,y\n1,\xe9t\xe9\n", "not a text file in UTF-8"),
    (T, "p,y\n1,a\n".encode("utf-16"), "not a text file in UTF-8"),
    (T, b"p,y\n1," + b"a" * 200_000 + b"\n", "not a CSV file: field larger"),
    ("train d.npz", {"X": TWO}, "'y'"),
    ("train d.npz", {"y": ONES}, "'X'"),
    ("train d.npz", {"X": ONES, "y": ONES}, "rows of numbers"),
    ("train d.npz", {"X": TWO[:0], "y": ONES[:0]}, "rows of numbers"),
    ("train d.npz", {"X": TWO * 1j, "y": ONES}, "rows of numbers"),
    ("train d.npz", {"X": TWO.astype(str), "y": ONES}, "rows of numbers"),
    ("train d.npz", {"X": TWO * np.nan, "y": ONES}, "row 0"),
    ("train d.npz", {"X": TWO, "y": np.ones(8)}, "9 rows"),
    ("train d.npz", {"X": TWO, "y": TWO}, "9 rows"),
    ("train d.npz", {"X": TWO, "y": ONES * np.inf}, "missing or infinite"),
    ("train d.npz --features X,Z", {"X": TWO, "y": ONES}, "one array"),
    ("train d.npz --target Z", {"X": TWO, "Y": ONES}, "'Z'"),
    ("train d.npz", {"X": np.array([[None]]), "y": np.ones(1)}, "plain arrays"),
]


@pytest.mark.parametrize(("command", "content", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes(command: str, content: Any, message: str) -> None:
    files = [] if content is None else [re.findall(r"d\.\w+", command)[-1]]
    if isinstance(content, dict):
        np.savez("d.npz", **content)
    elif content is not None:
        Path(files[0]).write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = run(command)
    if "1e30" in command:  # it takes a training to find out
        ran = ran._replace(err=ran.err.splitlines()[-1])
    assert re.search(message, ran.fault), ran.fault
    assert os.listdir() == files


def test_predict_mistakes() -> None:
    x = np.arange(40.0)
    write_csv("d.csv", {"width": x, "depth": -x, "kind": np.where(x < 20, "a", "b")})
    report("train d.csv --target kind --epochs 1 --save m")
    write_csv("less.csv", {"width": [1]})
    np.savez("wide.npz", X=np.ones((2, 9)))
    content = Path("m").read_bytes()
    for broken, part, other in (
        ("key", b'\\"mean\\"', b'\\"meen\\"'),
        ("class", b'[\\"a\\", \\"b\\"]', b'[\\"a\\", 12345]'),
        ("fit", b'[\\"a\\", \\"b\\"]', b"[1,2,3,     4]"),
    ):
        Path(broken).write_bytes(content.replace(part, other))
        assert content != Path(broken).read_bytes()
    for arguments, message in {
        "m less.csv": "depth",
        "m wide.npz": "9 features, the model takes 2",
        "key d.csv": "description of the inputs is not valid",
        "class d.csv": "description of the inputs is not valid",
        "fit d.csv": "description of the inputs does not fit",
        "m d.csv --out no/file": "no",
    }.items():
        assert message in run(f"predict {arguments}").fault
