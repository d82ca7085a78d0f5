"""What does a network compute before it has learned anything? Random weights, random functions.

python examples/lab/random_networks.py
"""

from fastnn import lab

result = lab.random_networks(count=12, hidden=(16, 16), scale=1.5, seed=0)
print(result.summary())

# one row of outputs per network, over the same inputs
for number, output in enumerate(result.outputs[:3], start=1):
    print(f"network {number}: from {output[0]:+.2f} at x = -3 to {output[-1]:+.2f} at x = 3")

result.plot().savefig("random-networks.png")
print("see random-networks.png")
