"""Five sigmoid neurons, set by hand, make a tower; towers make any function of two variables.

python examples/lab/towers.py
"""

from fastnn import lab
from fastnn.lab.universal import Box

# an ordinary model whose weights were set instead of learned: 2 inputs, 4 walls, 1 roof, 1 sum
tower = lab.towers([Box(-0.3, 0.7, -0.2, 0.8)])
print(tower.summary())
for point in ([0.2, 0.3], [0.2, 2.0], [2.0, 2.0]):
    print(f"height at {point}: {tower.predict([point])[0, 0]:.4f}")

lab.towers_by_hand().plot().savefig("towers.png")

result = lab.approximation(sides=(2, 4, 8, 16), epochs=100)
for side, error in zip(result.sides, result.errors, strict=True):
    print(f"{side * side:4d} towers: RMS error {error:.4f}")
result.plot().savefig("approximation.png")
print("see towers.png and approximation.png")
