"""The learning lab: how networks learn, as experiments that run, draw and can be checked.

Each function takes plain numbers and returns a result with arrays, ``summary()`` (the
figures in a sentence) and ``plot()`` (a matplotlib figure; extra ``lab``). Every experiment
trains and differentiates through the package alone. ``fastnn lab`` runs them by name;
docs/gallery.md shows them all.

Where their documentation does not say otherwise, ``hidden`` are the units of the hidden
layers (tanh), ``epochs`` passes over ``rows`` random examples, ``steps`` those of a descent,
``points`` how many there are along each axis of what is measured and drawn; ``seed`` and
``engine`` are as for ``Sequential``.

>>> from fastnn import lab
>>> result = lab.random_networks(count=4)
>>> result.outputs.shape
(4, 601)
"""

from .backprop import average_gradient, backprop_trace, chain, nudges
from .curves import architectures, equivalent_solutions, more_examples, random_networks
from .descent import learning_rates, mini_batches
from .digits import read_digits
from .gallery import EXPERIMENTS, run
from .landscape import descend, loss_surface, real_network, stuck_starts, two_weights
from .outputs import diabetes, softmax_cross_entropy
from .universal import approximation, tiling, towers, towers_by_hand

__all__ = [
    "EXPERIMENTS", "approximation", "architectures", "average_gradient", "backprop_trace", "chain",
    "descend", "diabetes", "equivalent_solutions", "learning_rates", "loss_surface", "mini_batches",
    "more_examples", "nudges", "random_networks", "read_digits", "real_network", "run",
    "softmax_cross_entropy", "stuck_starts", "tiling", "towers", "towers_by_hand", "two_weights",
]  # fmt: skip
