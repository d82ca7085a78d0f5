"""Which networks can learn a function that goes up and comes down again?

python examples/lab/architectures.py
"""

from fastnn import lab

result = lab.architectures(hidden=((1,), (3,), (10, 10)), starts=4, epochs=100)

# A single hidden neuron makes a monotone function, and no monotone function does better than:
print(f"the best that only rises or only falls: {result.monotone_error:.4f}")
for hidden, size, error in zip(result.hidden, result.sizes, result.errors, strict=True):
    print(f"hidden layers {hidden!s:10}  {size:3d} parameters  mean squared error {error:.4f}")

result.plot().savefig("architectures.png")
print("see architectures.png")
