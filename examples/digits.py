"""Learn handwritten digits, watch it happen, and look at what goes wrong.

python examples/digits.py
"""

import numpy as np

from fastnn import AdamW, CosineDecay, Dense, Dropout, Sequential
from fastnn.datasets import load_digits, stratified_split

X, y = load_digits()
train, test = stratified_split(y)

model = Sequential(
    [
        Dense(256, activation="relu"),
        Dropout(0.2),
        Dense(64, activation="relu"),
        Dense(10, activation="softmax"),
    ],
    input_size=64,
    seed=0,
)
print(model.summary(), end="\n\n")

history = model.fit(
    X[train],
    y[train],
    loss="cross_entropy",
    optimizer=AdamW(CosineDecay(2e-3)),
    epochs=40,
    validation_data=(X[test], y[test]),
    metrics=["accuracy"],
)
for epoch in range(0, 40, 5):
    print(f"epoch {epoch + 1:2d}  held-out accuracy {history['val_accuracy'][epoch]:.4f}")

probability = model.predict(X[test])
guess = probability.argmax(axis=1)
wrong = test[guess != y[test]]
print(f"\n{len(test) - len(wrong)} of {len(test)} held-out digits are right. The first mistake:\n")

shades = np.array(list(" .:-=+*#%@"))
row = wrong[0]
picture = shades[(X[row] * 9).round().astype(int)].reshape(8, 8)
print("\n".join("  " + "".join(2 * shade for shade in line) for line in picture))
print(f"\nIt is a {y[row]}; the network says {model.predict(X[row : row + 1]).argmax()}.")
