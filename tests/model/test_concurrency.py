"""Threads, processes and Ctrl-C: what may run at once, and what an interrupt leaves behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastnn import Dense, Dropout, Sequential

GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(64, 6)).astype(np.float32)
Y = GENERATOR.normal(size=(64, 2)).astype(np.float32)


def network(engine_name: str) -> Sequential:
    layers = [Dense(40, activation="tanh"), Dropout(0.1), Dense(2)]
    return Sequential(layers, input_size=6, seed=3, engine=engine_name)


def run(engine_name: str, *code: str) -> str:
    """What a fresh interpreter prints; ``ENGINE`` is there."""
    text = "\n".join([f"ENGINE = {engine_name!r}", *map(textwrap.dedent, code)])
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_predict_is_reentrant(engine_name: str) -> None:
    model = network(engine_name)
    pieces = [X[k : k + 1 + k % 7] for k in range(40)]
    expected = [model.predict(piece) for piece in pieces]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(model.predict, pieces))
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_predict_may_run_during_a_fit(engine_name: str) -> None:
    model, quiet = network(engine_name), network(engine_name)
    done = threading.Event()

    def keep_predicting() -> int:
        count = 0
        while not done.is_set() or count == 0:
            assert np.isfinite(model.predict(X)).all()
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        predictions = pool.submit(keep_predicting)
        try:
            model.fit(X, Y, "mse", epochs=20)
        finally:
            done.set()
        assert predictions.result() > 0
    quiet.fit(X, Y, "mse", epochs=20)
    assert np.array_equal(model.parameters, quiet.parameters)


def test_losses_and_gradients_are_reentrant(engine_name: str) -> None:
    """They keep a plan from call to call, which only one may use at a time."""
    model = network(engine_name)

    def measure(k: int) -> tuple[float, np.ndarray]:
        rows = slice(k, k + 8 + k % 3)
        if k % 2:
            return model.loss_and_gradient(X[rows], Y[rows], "mse", threads=1 + k % 4 // 2)
        return model.evaluate(X[rows], Y[rows], "mae"), model.evaluate(X[rows], Y[rows], "mse")

    expected = [measure(k) for k in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for (a, b), (c, d) in zip(pool.map(measure, range(40)), expected, strict=True):
                assert a == c
                assert np.array_equal(b, d)
        losses = pool.submit(lambda: [model.evaluate(X, Y, "mse") for _ in range(50)])
        model.fit(X, Y, "mse", epochs=5)
    assert np.isfinite(losses.result()).all()
    start, loss = model.parameters, model.evaluate(X, Y, "mse")
    model.parameters = start * 1.5
    assert model.evaluate(X, Y, "mse") != loss  # of the parameters as they are now
    model.parameters = start
    assert model.evaluate(X, Y, "mse") == loss


def test_a_second_training_raises(engine_name: str) -> None:
    model, quiet = network(engine_name), network(engine_name)
    inside, go_on = threading.Event(), threading.Event()

    def wait(epoch: int, logs: Any) -> None:
        inside.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = SimpleNamespace(on_epoch_end=wait)
        first = pool.submit(model.fit, X, Y, "mse", epochs=2, callbacks=[waiting])
        try:
            assert inside.wait(60)
            with pytest.raises(RuntimeError, match="trained already"):
                model.fit(X, Y, "mse", epochs=1)
            with pytest.raises(RuntimeError, match="trained already"):
                model.train_on_batch(X, Y, "mse")
            assert model.predict(X).shape == (64, 2)
        finally:
            go_on.set()
        assert len(first.result()["loss"]) == 2
    quiet.fit(X, Y, "mse", epochs=2)
    assert np.array_equal(model.parameters, quiet.parameters)
    model.train_on_batch(X, Y, "mse")


def test_different_models_train_at_once(engine_name: str) -> None:
    def train(seed: int) -> np.ndarray:
        layers = [Dense(40, activation="relu"), Dense(2)]
        model = Sequential(layers, seed=seed, engine=engine_name)
        model.fit(X, Y, "mse", epochs=5, threads=2)
        return model.parameters

    expected = [train(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(train, range(6)))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


SETTING = """
    import multiprocessing, warnings
    import numpy as np
    from fastnn import Sequential, Dense, Dropout
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(200, 30)), generator.normal(size=(200, 2))

    def network(seed):
        layers = [Dense(64, activation="relu"), Dropout(0.1), Dense(2)]
        return Sequential(layers, input_size=30, seed=seed, engine=ENGINE)

    def train(seed, threads=2):
        model = network(seed)
        model.fit(X, Y, "mse", epochs=3, threads=threads)
        return model.parameters

    shared = network(5)

    def measure(_):
        return shared.evaluate(X, Y, "mse", threads=2)

    def go_on(model):
        model.fit(X, Y, "mse", epochs=3, threads=2, resume=True)
        return model
"""


def test_fits_work_after_a_fork(engine_name: str) -> None:
    """The parent has used threads before it forks; the children use theirs."""
    code = """
        expected, loss = [train(seed) for seed in range(4)], measure(None)
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on fork and threads
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found, losses = pool.map(train, range(4)), pool.map(measure, range(4))
        print(all(map(np.array_equal, expected, found)), losses == [loss] * 4)
        print(np.array_equal(train(0), expected[0]), measure(None) == loss)
    """
    assert run(engine_name, SETTING, code).split() == ["True"] * 4


def test_a_model_travels_to_a_process_and_back(engine_name: str) -> None:
    code = """
        model = network(1)
        model.fit(X, Y, "mse", epochs=2)
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            back = pool.apply(go_on, (model,))
        print(np.array_equal(go_on(model).parameters, back.parameters), back.history.epoch)
    """
    assert run(engine_name, SETTING, code) == "True [2, 3, 4]"


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_backends(engine_name: str, backend: str) -> None:
    code = f"""
        from joblib import Parallel, delayed
        expected = [train(seed) for seed in range(4)]
        found = Parallel(n_jobs=2, backend={backend!r})(
            delayed(train)(seed, threads=None) for seed in range(4)
        )
        print(all(map(np.array_equal, expected, found)))
    """
    assert run(engine_name, SETTING, code) == "True"


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_leaves_a_whole_step(engine_name: str, threads: int) -> None:
    """It comes in the middle of the first epoch, which alone would take minutes."""
    code = f"""
        import signal, threading, time
        import numpy as np
        from fastnn import Adam, Dense, Sequential

        def network():
            layers = [Dense(256, activation="relu"), Dense(256, activation="tanh"), Dense(4)]
            return Sequential(layers, input_size=20, seed=1, engine=ENGINE)

        rows = np.random.default_rng(0).normal(size=(5000, 20)).astype(np.float32)
        X = np.tile(rows, (1000, 1))
        Y = np.tile(rows[:, :4], (1000, 1))
        network().fit(rows, rows[:, :4], "mse", Adam(1e-4), threads={threads})  # may compile
        model = network()

        def interrupt():
            time.sleep(0.7)
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            model.fit(X, Y, "mse", Adam(1e-4), epochs=1, batch_size=32, shuffle=False,
                      threads={threads})
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        step, moments, config = model.optimizer_state()
        print(model.history["loss"], config["epochs"], step > 0)
        print(np.isfinite(model.parameters).all(), all(np.isfinite(m).all() for m in moments))

        twin, n = network(), 32 * step
        twin.fit(X[:n], Y[:n], "mse", Adam(1e-4), epochs=1, batch_size=32, shuffle=False)
        print(np.array_equal(twin.parameters, model.parameters))
        print(all(map(np.array_equal, twin.optimizer_state()[1], moments)))

        history = model.fit(X[:100], Y[:100], "mse", Adam(1e-4), epochs=2, resume=True)
        print(history.epoch, model.optimizer_state()[0] - step)
    """
    lines = run(engine_name, code).splitlines()
    assert lines == ["interrupted", "[] 0 True", "True True", "True", "True", "[0, 1] 8"]


#: ``strike()`` lets a real signal come some milliseconds later, as KeyboardInterrupt.
INTERRUPTS = """
    import signal, threading, time
    import numpy as np
    from fastnn import Adam, Dense, Sequential
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    COUNT, count = 1000, 0

    def strike():
        signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.000301 * (count % 13))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts_between_and_within_many_small_epochs(engine_name: str, threads: int) -> None:
    """At any point of a fit; the threads of an interrupted one must not be left behind."""
    code = f"""
        X = np.linspace(-1, 1, 64)[:, None]
        model = Sequential([Dense(8, activation="tanh"), Dense(1)], seed=1, engine=ENGINE)
        while count < COUNT:
            try:
                strike()
                model.fit(X, X**2, "mse", epochs=10**7, resume=True, threads={threads})
            except KeyboardInterrupt:
                count += 1
        print(count, np.isfinite(model.parameters).all())
        print(len(model.fit(X, X**2, "mse", epochs=2)["loss"]))
        deadline = time.monotonic() + 5
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        print(threading.active_count())
    """
    assert run(engine_name, INTERRUPTS, code) == "1000 True\n2\n1"


def test_interrupts_of_online_training_never_lock_the_model(engine_name: str) -> None:
    """At any point of ``train_on_batch``."""
    code = """
        X, Y, rule = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), Adam()
        model = Sequential([Dense(2, activation="tanh"), Dense(1)], input_size=1, engine=ENGINE)
        while count < COUNT:
            try:
                strike()
                while True:
                    model.train_on_batch(X, Y, "mse", rule)
            except KeyboardInterrupt:
                count += 1
        step = model.optimizer_state()[0]
        model.train_on_batch(X, Y, "mse", rule)
        print(count, np.isfinite(model.parameters).all(), model.optimizer_state()[0] - step)
    """
    assert run(engine_name, INTERRUPTS, code) == "1000 True 1"
