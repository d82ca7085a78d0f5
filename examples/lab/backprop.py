"""Backpropagation with every factor in the open, and its average against the engine.

python examples/lab/backprop.py
"""

import numpy as np

from fastnn import Dense, Sequential, lab

model = Sequential(
    [Dense(3, "sigmoid"), Dense(2, "sigmoid")], input_size=2, dtype="float64", seed=0
)
random = np.random.default_rng(0)
X, Y = random.standard_normal((50, 2)), random.random((50, 2))

trace = lab.backprop_trace(model, X[0], Y[0])
print(f"one example, cost {trace.cost:.4f}")
for number, layer in reversed(list(enumerate(trace.layers, start=1))):
    print(
        f"layer {number}: z {layer.z.round(3)}  a {layer.a.round(3)}  f'(z) {layer.slope.round(3)}"
    )
    print(f"         asks of the biases {(-layer.delta).round(4)}")
    print(f"         asks of the layer below {layer.input_nudges.round(4)}")

# C sums the squares over the outputs; the model's mse is their mean: a factor of two outputs
average = lab.average_gradient(lab.backprop_trace(model, x, y) for x, y in zip(X, Y, strict=True))
_, gradient = model.loss_and_gradient(X, Y, loss="mse")
print(f"the average over 50 examples differs by {np.abs(average - 2 * gradient).max():.0e}")

lab.chain().plot().savefig("backprop-chain.png")
print("see backprop-chain.png")
