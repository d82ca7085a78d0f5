"""Softmax with cross-entropy for classes, identity with the mean squared error for numbers.

python examples/lab/outputs.py
"""

from fastnn import lab

result = lab.softmax_cross_entropy()
print("probability of the right class   cross-entropy")
for k in range(0, len(result.losses), 40):
    print(f"{result.probabilities[k, 0]:30.2e}   {result.losses[k]:13.3f}")
result.plot().savefig("softmax.png")

regression = lab.diabetes()
print(regression.summary())
regression.plot().savefig("diabetes.png")
print("see softmax.png and diabetes.png")
