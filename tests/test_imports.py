"""What importing costs and promises: few modules, all public names, arrows that point down."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]

HEAVY = (
    *("scipy", "sklearn", "numba", "llvmlite", "matplotlib", "pandas", "tqdm", "torch", "joblib"),
    *("argparse", "multiprocessing", "csv", "difflib", "json", "fastnn."),
)

#: Public names that need an extra, and are therefore not in ``__all__``.
EXTRAS = {"MLPClassifier", "MLPRegressor"}

#: Who may import whom: the modules of a line those of their own line and of the lines above.
LAYERS = """
    kernels
    errors
    checks
    custom datasets initializers layers losses metrics optimizers schedules
    files fit
    model
    estimators
    bench cli lab
    __main__
"""

#: Inside kernels: folder -> what it may import beside itself and the modules around the folders.
KERNELS = {"formulas": "", "numpy": "", "cython": "formulas", "numba": "cython formulas"}


def run(code: str) -> str:
    """What a fresh interpreter prints; warnings are errors there too."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_little() -> None:
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        import fastnn
        print(sorted(set(sys.modules) - before))
    """
    loaded = ast.literal_eval(run(code))
    assert "fastnn" in loaded
    assert [m for m in loaded if m.startswith(HEAVY)] == []


def test_a_fit_loads_no_extra() -> None:
    code = """
        import sys
        from fastnn import Sequential, Dense
        model = Sequential([Dense(2, activation="relu"), Dense(1)], engine="numpy")
        model.fit([[1.0], [2.0]], [1.0, 2.0], "mse", epochs=1, metrics=["r2"])
        print([m for m in ("scipy", "sklearn", "numba", "matplotlib", "tqdm") if m in sys.modules])
    """
    assert run(code).strip() == "[]"


def test_public_names_resolve() -> None:
    assert set(fastnn.__all__) | EXTRAS == set(dir(fastnn))
    assert len(set(fastnn.__all__)) == len(fastnn.__all__)
    for name in dir(fastnn):
        assert getattr(fastnn, name) is not None


def test_names_for_type_checkers_are_the_lazy_ones() -> None:
    """The block under TYPE_CHECKING takes all names of the modules in which they are looked up."""
    tree = ast.parse((ROOT / "fastnn/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {node.module for node in block.body if isinstance(node, ast.ImportFrom)}
    lazy = {*fastnn._MODULES, *fastnn._FUNCTIONS.values(), *fastnn._EXTRAS.values()}
    assert homes - {None} == lazy


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sequentail'"):
        fastnn.Sequentail  # noqa: B018


def test_engines_is_a_function() -> None:
    table = fastnn.engines()
    assert table["numpy"]["available"]
    assert sum(row["default"] for row in table.values()) == 1
    with pytest.raises(ImportError):
        importlib.import_module("fastnn.engines")


# ----------------------------------------------------------------------- arrows


def sources() -> dict[str, Path]:
    """Every module by its name once installed; a package by its ``__init__``."""
    found = {}
    for folder, package in ((ROOT / "fastnn", "fastnn"), (ROOT / "kernels", "fastnn.kernels")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


SOURCES = sources()


def imported(name: str) -> Iterator[str]:
    """What a module imports of ours, wherever in its text."""
    path = SOURCES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            home = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{home}.{alias.name}"
                yield inner if inner in SOURCES else home


GRAPH = {name: set(imported(name)) & SOURCES.keys() - {name} for name in SOURCES}


def test_no_import_goes_in_circles() -> None:
    graph = {name: targets - {"fastnn"} for name, targets in GRAPH.items() if name != "fastnn"}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_no_import_goes_up() -> None:
    lines = [line.split() for line in LAYERS.strip().splitlines()]
    rank = {name: k for k, line in enumerate(lines) for name in line}
    own = {name: name.split(".")[1] for name in SOURCES if name != "fastnn"}
    assert set(own.values()) == rank.keys()
    for name, part in own.items():
        for target in GRAPH[name] - {"fastnn"}:
            assert rank[own[target]] <= rank[part], f"{name} imports {target}"


def test_folders_of_kernels_import_what_they_may() -> None:
    for name, targets in GRAPH.items():
        folder = (*name.split("."), "", "")[2]
        allowed = {folder, *KERNELS.get(folder, "").split()}
        if name.startswith("fastnn.kernels."):
            folders = {(*target.split("."), "", "")[2] for target in targets} & KERNELS.keys()
            assert folders <= allowed, name
        if folder == "formulas":
            outside = {target.partition(".")[0] for target in imported(name)}
            assert not outside & {"numpy", "llvmlite", "numba"}, name


# ----------------------------------------------------------------------- extras


BLOCKER = """
    import sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {blocked!r}:
                raise ImportError("blocked " + name)

    sys.meta_path.insert(0, Blocker())
    from fastnn import Sequential, Dense, LBFGS
    model = Sequential([Dense(1)], input_size=1, seed=0, engine="numpy")
"""


def test_lbfgs_without_scipy_names_the_command() -> None:
    code = textwrap.dedent(BLOCKER.format(blocked={"scipy"})) + textwrap.dedent("""
        before = model.parameters.tolist()
        try:
            model.fit([[1.0]], [1.0], "mse", LBFGS())
        except ImportError as error:
            print(error)
        assert model.parameters.tolist() == before
        assert model.history is None
        model.fit([[1.0]], [1.0], "mse", epochs=1)
    """)
    assert 'pip install "fastnn-kernels[sklearn]"' in run(code)


def test_estimators_without_scikit_learn_name_the_command() -> None:
    code = textwrap.dedent(BLOCKER.format(blocked={"sklearn"})) + textwrap.dedent("""
        from fastnn import *
        assert "MLPClassifier" not in globals()
        import fastnn
        for name in ("MLPClassifier", "MLPRegressor"):
            try:
                getattr(fastnn, name)
            except ImportError as error:
                print(error)
    """)
    assert run(code).count('pip install "fastnn-kernels[sklearn]"') == 2


def test_a_named_engine_that_is_missing_says_so() -> None:
    code = textwrap.dedent(BLOCKER.format(blocked={"numba", "llvmlite"})) + textwrap.dedent("""
        try:
            Sequential([Dense(1)], engine="numba")
        except ImportError as error:
            print(error)
    """)
    assert 'pip install "fastnn-kernels[numba]"' in run(code)


def test_progress_without_tqdm_is_lines() -> None:
    code = textwrap.dedent(BLOCKER.format(blocked={"tqdm"})) + textwrap.dedent("""
        sys.stderr = sys.stdout
        model.fit([[1.0]], [1.0], "mse", epochs=2, verbose=1)
    """)
    lines = run(code).splitlines()
    assert [line.split()[:3:2] for line in lines] == [["epoch", "loss"]] * 2
    assert lines[1].split()[1] == "2/2"
