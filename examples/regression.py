"""Learn a function from noisy examples, and how steep it is, which nobody told the network.

python examples/regression.py
"""

import numpy as np

from fastnn import Adam, Dense, OneCycle, Sequential

random = np.random.default_rng(0)
x = random.uniform(-3, 3, size=(2000, 1))
y = np.sin(2 * x) + 0.1 * random.standard_normal(x.shape)

model = Sequential(
    [Dense(32, activation="tanh"), Dense(32, activation="tanh"), Dense(1)], input_size=1, seed=0
)
history = model.fit(x, y, loss="mse", optimizer=Adam(OneCycle(1e-2)), epochs=100)
print(f"mean squared error {history['loss'][-1]:.4f}, of which 0.01 is noise\n")

points = np.linspace(-2.5, 2.5, 11).reshape(-1, 1)
value = model.predict(points)[:, 0]
slope = model.input_gradient(points)[:, 0, 0]
print("    x   sin 2x  learned   slope  learned")
for at, v, s in zip(points[:, 0], value, slope, strict=True):
    print(f"{at:5.1f}  {np.sin(2 * at):7.3f}  {v:7.3f} {2 * np.cos(2 * at):7.3f}  {s:7.3f}")
