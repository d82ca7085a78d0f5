"""The loss as a landscape: where steepest descent gets caught, and what momentum does.

python examples/lab/landscape.py
"""

import numpy as np

from fastnn import Dense, Sequential, lab

result = lab.two_weights(starts=8, steps=1500, points=41)
print(result.summary())
result.plot().savefig("two-weights.png")
print("see two-weights.png\n")

# The same for any two weights of any model: the loss over a grid of them, the others fixed.
x = np.linspace(-2, 2, 50)[:, np.newaxis]
model = Sequential([Dense(5, "tanh"), Dense(1)], input_size=1, seed=0)
model.fit(x, np.sin(2 * x), loss="mse", epochs=300)
axis = np.linspace(-4, 4, 21)
surface = lab.loss_surface(model, x, np.sin(2 * x), "mse", free=(0, 1), axes=(axis, axis))
print(f"around a trained sine the loss is between {surface.min():.3f} and {surface.max():.3f}")
