"""What importing costs and promises: few modules, all public names, extras that are named."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastnn

HEAVY = (
    "scipy",
    "sklearn",
    "numba",
    "llvmlite",
    "matplotlib",
    "pandas",
    "tqdm",
    "torch",
    "joblib",
    "argparse",
    "multiprocessing",
    "csv",
    "difflib",
    "json",
    "fastnn.model",
    "fastnn.files",
    "fastnn.kernels",
)


#: Public names that need an extra, and are therefore not in ``__all__``.
EXTRAS = {"MLPClassifier", "MLPRegressor"}


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
    """The block under TYPE_CHECKING and the table of lazy names list the same."""
    assert fastnn.__file__ is not None
    tree = ast.parse(Path(fastnn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert names | {"engines", "__version__"} == set(dir(fastnn))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sequentail'"):
        fastnn.Sequentail  # noqa: B018


def test_engines_stays_the_function() -> None:
    code = """
        import fastnn
        import fastnn.engines
        import fastnn.model, fastnn.files
        from fastnn.kernels.loader import load
        table = fastnn.engines()
        assert callable(load)
        print(table["numpy"]["available"], sum(row["default"] for row in table.values()))
    """
    assert run(code).split() == ["True", "1"]


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
    code = textwrap.dedent(BLOCKER.format(blocked={"numba"})) + textwrap.dedent("""
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
