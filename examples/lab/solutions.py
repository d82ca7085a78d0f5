"""Many networks agree where there were examples, and nowhere else: their spread is a warning.

python examples/lab/solutions.py
"""

import numpy as np

from fastnn import lab

result = lab.equivalent_solutions(networks=10, epochs=150)
print(result.summary())

print("    x    mean   ± spread")
for x in (-8, -5, -2, 0, 2, 5, 8):
    k = int(np.argmin(np.abs(result.x - x)))
    print(f"{x:5d}  {result.outputs[:, k].mean():6.2f}   {result.spread[k]:.3f}")

result.plot().savefig("solutions.png")
print("see solutions.png")
