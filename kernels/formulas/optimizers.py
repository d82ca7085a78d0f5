"""One formula per update rule, and what it needs that depends on the step alone.

An update takes a parameter w, its gradient g (clipped, with the decay added: g clip + w decay),
the moments that the rule keeps, and numbers; it returns the new w and the new moments. Rules
and the place of epsilon are those of PyTorch's documentation. The numbers are computed once a
step, in double precision, and rounded to the dtype.
"""

from __future__ import annotations

import math

from .elementary import sign
from .lane import inverse_root


def sgd(w, g, *, rate):
    return (w - g * rate,)


def momentum(w, g, m, *, rate, momentum):
    """The velocity starts as the gradient (Polyak 1964; Sutskever et al. 2013)."""
    m = m * momentum + g
    return w - m * rate, m


def nesterov(w, g, m, *, rate, momentum):
    """The velocity one step ahead (Nesterov 1983; Sutskever et al. 2013)."""
    m = m * momentum + g
    return w - (m * momentum + g) * rate, m


def rmsprop(w, g, v, *, rate, beta_2, rest_2, epsilon):
    """Tieleman & Hinton (2012)."""
    v = v * beta_2 + g * g * rest_2
    return w - g * rate * inverse_root(v, epsilon), v


def rmsprop_momentum(w, g, v, m, *, rate, momentum, beta_2, rest_2, epsilon):
    """The same with momentum on the scaled gradient."""
    v = v * beta_2 + g * g * rest_2
    m = m * momentum + g * inverse_root(v, epsilon)
    return w - m * rate, v, m


def adagrad(w, g, v, *, rate, epsilon):
    """Duchi, Hazan & Singer (2011)."""
    v = v + g * g
    return w - g * rate * inverse_root(v, epsilon), v


def adam(w, g, m, v, *, rate, beta_1, rest_1, beta_2, rest_2, epsilon, shrink):
    """Kingma & Ba (2015); Loshchilov & Hutter (2019), if w shrinks."""
    m = m * beta_1 + g * rest_1
    v = v * beta_2 + g * g * rest_2
    return w * shrink - m * rate * inverse_root(v, epsilon), m, v


def nadam(w, g, m, v, *, rate, gradient_rate, beta_1, rest_1, beta_2, rest_2, epsilon):
    """Dozat (2016)."""
    m = m * beta_1 + g * rest_1
    v = v * beta_2 + g * g * rest_2
    return w - (m * rate + g * gradient_rate) * inverse_root(v, epsilon), m, v


def lion(w, g, m, *, rate, beta_1, rest_1, beta_2, rest_2, shrink):
    """Chen et al. (2023): the sign of a mean is the step, of a longer mean the moment."""
    direction = sign(m * beta_1 + g * rest_1)
    m = m * beta_2 + g * rest_2
    return w * shrink - direction * rate, m


def correction(step, beta_2):
    """√(1 - beta_2ᵗ), by which √v̂ is larger than √v."""
    return math.sqrt(1 - beta_2**step)


def mu(step, beta_1, momentum_decay):
    """Nadam's momentum at a step."""
    return beta_1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))


#: What the numbers of an update are at a step, unless a rule knows better or has one of that name.
PLAIN = {
    "clip": lambda: 1,
    "decay": lambda weight_decay: weight_decay,
    "gain": lambda: 1,  # a factor in both
    "factor": lambda: 1,  # product is that of all steps so far
    "shrink": lambda: 1,
    "rest_1": lambda beta_1: 1 - beta_1,
    "rest_2": lambda beta_2: 1 - beta_2,
}

#: The rate stands in the velocity, as in scikit-learn's networks.
VELOCITY = {
    "clip": lambda rate: rate,
    "decay": lambda rate, weight_decay: weight_decay * rate,
    "gain": lambda rate: rate,
    "rate": lambda: 1,
}

#: Adam's m̂ / (√v̂ + epsilon), with both bias corrections moved out of the loop; in HAT epsilon
#: is added to √v instead (Kingma & Ba 2015, end of section 2).
HAT = {
    "rate": lambda rate, step, beta_1, beta_2: rate * correction(step, beta_2) / (1 - beta_1**step),
}
CORRECTED = HAT | {"epsilon": lambda step, beta_2, epsilon: epsilon * correction(step, beta_2)}

#: The same of the mean (μ′ m / (1 - Πμ μ′) + (1 - μ) g / (1 - Πμ)), μ′ being that of step + 1.
AHEAD = CORRECTED | {
    "factor": mu,
    "rate": lambda rate, step, product, beta_1, beta_2, momentum_decay: (
        rate * correction(step, beta_2) / (1 / mu(step + 1, beta_1, momentum_decay) - product)
    ),
    "gradient_rate": lambda rate, step, product, beta_1, beta_2, momentum_decay: (
        rate * correction(step, beta_2) * (1 - mu(step, beta_1, momentum_decay)) / (1 - product)
    ),
}

#: The decay acts on w itself, not by way of the gradient.
DECOUPLED = {
    "decay": lambda: 0,
    "shrink": lambda rate, weight_decay: 1 - rate * weight_decay,
}


class Rule:
    """An update, the rule's own numbers, and what it knows better than ``PLAIN``."""

    def __init__(self, update, numbers=(), at_step=None):
        self.update, self.numbers, self.at_step = update, numbers, PLAIN | (at_step or {})
        code = update.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.moments, self.scalars = names[2 : code.co_argcount], names[code.co_argcount :]


ADAM = ("beta_1", "beta_2", "epsilon")

OPTIMIZERS = {
    "sgd": Rule(sgd),
    "momentum": Rule(momentum, ("momentum",)),
    "nesterov": Rule(nesterov, ("momentum",)),
    "velocity": Rule(momentum, ("momentum",), VELOCITY),
    "nesterov_velocity": Rule(nesterov, ("momentum",), VELOCITY),
    "rmsprop": Rule(rmsprop, ("beta_2", "epsilon")),
    "rmsprop_momentum": Rule(rmsprop_momentum, ("beta_2", "epsilon", "momentum")),
    "adagrad": Rule(adagrad, ("epsilon",)),
    "adam": Rule(adam, ADAM, CORRECTED),
    "adamw": Rule(adam, ADAM, CORRECTED | DECOUPLED),
    "adam_hat": Rule(adam, ADAM, HAT),
    "nadam": Rule(nadam, (*ADAM, "momentum_decay"), AHEAD),
    "lion": Rule(lion, ("beta_1", "beta_2"), DECOUPLED),
}

#: The numbers that all updates together take.
SCALARS = tuple(dict.fromkeys(name for rule in OPTIMIZERS.values() for name in rule.scalars))
