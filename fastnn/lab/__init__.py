"""The learning lab: how networks learn, as experiments that run, draw and can be checked.

Each function takes plain numbers and returns a result with arrays, ``summary()`` (the
figures in a sentence) and ``plot()`` (a matplotlib figure; extra ``lab``). Every experiment
trains and differentiates through the package alone. ``fastnn lab`` runs them by name;
docs/gallery.md shows them all.

>>> from fastnn import lab
>>> result = lab.random_networks(count=4)
>>> result.outputs.shape
(4, 601)
"""

from .backprop import average_gradient, backprop_trace, chain, nudges
from .batches import mini_batches
from .digits import read_digits
from .functions import architectures, more_examples, random_networks
from .gallery import EXPERIMENTS, run
from .landscape import descend, learning_rates, loss_surface, real_network, two_weights
from .minima import stuck_starts
from .outputs import diabetes, softmax_cross_entropy
from .solutions import equivalent_solutions
from .universal import approximation, tiling, towers, towers_by_hand

__all__ = [
    "EXPERIMENTS",
    "approximation",
    "architectures",
    "average_gradient",
    "backprop_trace",
    "chain",
    "descend",
    "diabetes",
    "equivalent_solutions",
    "learning_rates",
    "loss_surface",
    "mini_batches",
    "more_examples",
    "nudges",
    "random_networks",
    "read_digits",
    "real_network",
    "run",
    "softmax_cross_entropy",
    "stuck_starts",
    "tiling",
    "towers",
    "towers_by_hand",
    "two_weights",
]
