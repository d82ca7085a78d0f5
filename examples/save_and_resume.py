"""Stop in the middle, save, load, and go on as if nothing had happened: bit for bit.

python examples/save_and_resume.py
"""

import tempfile
from pathlib import Path

import numpy as np

import fastnn
from fastnn import Adam, Dense, Dropout, Sequential
from fastnn.datasets import load_digits

X, y = load_digits()
recipe = {"loss": "cross_entropy", "optimizer": Adam(1e-3)}


def new_model() -> Sequential:
    """The same network each time: the seed says how it starts."""
    layers = [Dense(64, activation="gelu"), Dropout(0.1), Dense(10, activation="softmax")]
    return Sequential(layers, input_size=64, seed=3)


straight = new_model()
straight.fit(X, y, epochs=10, **recipe)

first = new_model()
first.fit(X, y, epochs=4, **recipe)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "half.safetensors"
    first.save(path, optimizer_state=True)
    print(f"saved after 4 epochs: {path.stat().st_size:,} bytes")
    second = fastnn.load(path)
second.fit(X, y, epochs=6, resume=True, **recipe)

print(f"loss after 10 epochs {straight.evaluate(X, y, loss='cross_entropy'):.6f}")
print(f"loss after 4 + 6     {second.evaluate(X, y, loss='cross_entropy'):.6f}")
print("equal bit for bit:", np.array_equal(straight.parameters, second.parameters))
