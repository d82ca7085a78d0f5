"""A network learns a step-like function from more and more examples, each seen once.

python examples/lab/more_examples.py
"""

from fastnn import lab

# 10_000_000 is what docs/gallery.md shows; it takes a second or two of training
result = lab.more_examples(examples=1_000_000)

print("examples     L2 loss (sum of squares over 601 points)")
for power in range(1, 7):
    k = result.at(10**power)
    print(f"{result.counts[k]:9,}  {result.losses[k]:8.2f}")
print(f"{result.counts[-1] / result.seconds:,.0f} examples a second")

result.plot().savefig("more-examples.png")
print("see more-examples.png")
