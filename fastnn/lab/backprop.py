"""Backpropagation, opened: every factor of the chain rule, for one example.

With z = a_in W + b and a = f(z) in each layer, going backward from the output:

    δ       = ∂C/∂z    = f′(z) ∂C/∂a
    ∂C/∂W   = a_inᵀ δ       stored: a derivative with respect to parameters
    ∂C/∂b   = δ             stored
    ∂C/∂a_in = δ Wᵀ         passed on: a derivative with respect to an input

Each line is one kernel of the package. The average of these gradients over examples is
what ``Sequential.loss_and_gradient`` gives, and the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import checks, kernels
from ..datasets import load_digits
from ..errors import unknown_name
from ..layers import Dense, Dropout
from ..model import Sequential
from ..optimizers import SGD
from . import style
from .networks import network
from .result import Array, Result

#: What the article calls C, and the row of the losses that it is for one example.
COSTS = {"squared": "sum_squares", "cross_entropy": "cross_entropy"}


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer, forward and backward, for one example."""

    activation: str
    a_in: Array  #: (inputs,), activations of the layer before, a⁽ᴸ⁻¹⁾; first the example itself
    W: Array  #: (inputs, outputs)
    z: Array  #: (outputs,), the weighted sum with its bias
    a: Array  #: (outputs,), f(z)
    slope: Array  #: (outputs,), f′(z); for softmax ∂a_k/∂z_i at [k, i]
    dC_da: Array  #: (outputs,), ∂C/∂a, as it arrives from above
    delta: Array  #: (outputs,), ∂C/∂z
    dC_dW: Array  #: (inputs, outputs)
    dC_db: Array | None  #: (outputs,), None without biases
    dC_da_in: Array  #: (inputs,), what is passed on to the layer below

    @property
    def weight_nudges(self) -> Array:
        """What the example asks of the weights: -∂C/∂W, (inputs, outputs)."""
        return -self.dC_dW

    @property
    def bias_nudges(self) -> Array | None:
        """What it asks of the biases: -∂C/∂b, (outputs,); None without biases."""
        return None if self.dC_db is None else -self.dC_db

    @property
    def input_nudges(self) -> Array:
        """What it asks of the previous layer's activations: -∂C/∂a_in, (inputs,)."""
        return -self.dC_da_in


@dataclass(frozen=True, eq=False)
class Trace:
    """All layers for one example."""

    cost: float  #: C
    target: Array  #: (outputs,)
    layers: tuple[LayerTrace, ...]  #: from input to output

    @property
    def gradient(self) -> Array:
        """∇C as one column, ordered as ``Sequential.parameters``: (size,)."""
        pairs = ((layer.dC_dW.ravel(), layer.dC_db) for layer in self.layers)
        return np.concatenate([part for pair in pairs for part in pair if part is not None])


def backprop_trace(model: Sequential, x: ArrayLike, y: ArrayLike, cost: str = "squared") -> Trace:
    """Every factor of the chain rule for one example, in the model's dtype.

    Parameters
    ----------
    model : Sequential
        Of Dense layers; Dropout is not active, as for ``predict``.
    x : array_like (inputs,)
    y : array_like (outputs,)
        The target; for the cross-entropy, probabilities such as a one-hot row.
    cost : {"squared", "cross_entropy"}
        C = Σ (a - y)² over the outputs: as many times the model's ``mse`` as there are
        outputs. Or C = -Σ y log a, for a last layer of softmax.

    Raises
    ------
    ValueError
        If shapes do not fit, the cost does not suit the last layer, or there is a layer or
        an activation whose factors are not known here.
    """
    if cost not in COSTS:
        raise unknown_name("cost", cost, COSTS)
    names = [_activation(layer) for layer in model.layers if not isinstance(layer, Dropout)]
    if cost == "cross_entropy" and names[-1] != "softmax":
        raise ValueError(f"the cost cross_entropy needs a last layer of softmax, not {names[-1]}")
    weights: list[Any] = model.weights
    engine = model.engine
    a = _row("x", x, len(weights[0][0]), model.dtype)
    target = _row("y", y, model.output_size, model.dtype)
    passes = []
    for name, (W, b) in zip(names, weights, strict=True):
        z = kernels.linear_forward(a, W, b, engine=engine)
        passes.append((a, z))
        a = kernels.activation_forward(z, name, engine=engine)
    is_fused = cost == "cross_entropy"  # that row takes z, where softmax is not undone
    output = z if is_fused else a
    value, dC_da = kernels.loss_value_and_delta(output, target, COSTS[cost], engine=engine)
    delta = None
    if is_fused:
        delta, dC_da = dC_da, -target / a
    layers = []
    for name, (W, b), (a_in, z) in list(zip(names, weights, passes, strict=True))[::-1]:
        if delta is None:
            delta = kernels.activation_backward(z, dC_da, name, engine=engine)
        if name == "softmax":  # ∂C/∂a = e_k gives the derivatives of output k, a row for each
            ones = np.eye(z.size, dtype=z.dtype)
            slope = kernels.activation_backward(z.repeat(z.size, 0), ones, name, engine=engine)
        else:
            slope = kernels.activation_backward(z, np.ones_like(z), name, engine=engine)[0]
        dC_da_in, dC_dW, dC_db = kernels.linear_backward(a_in, W, delta, engine=engine)
        forward = a_in[0], W, z[0], a[0], slope
        stored = dC_dW, None if b is None else dC_db
        layers.append(LayerTrace(name, *forward, dC_da[0], delta[0], *stored, dC_da_in[0]))
        a, dC_da, delta = a_in, dC_da_in, None
    return Trace(value, target[0], tuple(layers[::-1]))


def _activation(layer: Any) -> str:
    if not isinstance(layer, Dense):
        raise ValueError(f"backprop_trace takes Dense layers, not {layer!r}")
    if not isinstance(layer.activation, str):
        name = layer.activation.name
        raise ValueError(f"backprop_trace takes the package's own activations, not {name!r}")
    return layer.activation


def _row(name: str, values: ArrayLike, length: int, dtype: Any) -> Array:
    row = np.asarray(values, dtype)
    if row.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), not {row.shape}")
    return row[np.newaxis]


def average_gradient(traces: Iterable[Trace]) -> Array:
    """The average of the examples' gradients, (size,): that of the mean cost."""
    return np.asarray(np.mean([trace.gradient for trace in traces], axis=0))


class Chain(Result, pictures=["backprop-chain.png"]):
    """A chain of single neurons and the factors along it."""

    trace: Trace
    x: float
    y: float

    def factors(self) -> list[tuple[float, float, float]]:
        """(∂z/∂w, ∂a/∂z, ∂C/∂a) of each layer: their product is ∂C/∂w.

        In the last layer they are a⁽ᴸ⁻¹⁾, σ′(z) and 2 (a - y).
        """
        return [
            (float(layer.a_in[0]), float(layer.slope[0]), float(layer.dC_da[0]))
            for layer in self.trace.layers
        ]

    def summary(self) -> str:
        first, slope, above = self.factors()[-1]
        return (
            f"cost {self.trace.cost:.4f}; in the last layer ∂C/∂w = {first:.4f} · {slope:.4f} · "
            f"{above:.4f} = {float(self.trace.layers[-1].dC_dW[0, 0]):.5f}"
        )

    def plot(self) -> Any:
        """A chain of neurons with every factor of the chain rule.

        One neuron in each layer, one example. In the last layer ∂C/∂w = a⁽ᴸ⁻¹⁾ · σ′(z) ·
        2(a − y), with C = (a − y)²; what is multiplied on goes to the layer below.
        ``lab.backprop_trace`` gives z, a, σ′, δ, ∂C/∂w, ∂C/∂b and ∂C/∂a of every layer of any
        model, for one example.
        """
        figure = style.new_figure(11, 3.5, "The chain rule along single neurons, one example")
        axes = figure.subplots()
        axes.set_axis_off()
        layers = self.trace.layers
        end = len(layers)
        axes.set(xlim=(-0.6, end + 1.2), ylim=(-1.2, 0.95))
        for k, value in enumerate([layers[0].a_in[0], *(layer.a[0] for layer in layers)]):
            name = "x" if k == 0 else f"a⁽{'¹²³⁴⁵⁶⁷⁸⁹'[k - 1]}⁾"
            colour = style.SKY if k else style.GRID
            axes.plot(k, 0, "o", ms=44, color=colour, mec=style.INK, mew=1)
            axes.text(k, 0, f"{name}\n{value:.3f}", size=9.5, **style.CENTRED)
        arrow = {"arrowstyle": "-|>", "lw": 1.4}
        backward = {**arrow, "color": style.ORANGE}
        pairs = zip(layers, self.factors(), strict=True)
        for k, (layer, (first, slope, above)) in enumerate(pairs):
            axes.annotate("", (k + 0.76, 0.1), (k + 0.24, 0.1), arrowprops=arrow)
            bias = "" if layer.dC_db is None else f", z = {layer.z[0]:.3f}"
            axes.text(k + 0.5, 0.3, f"w = {layer.W[0, 0]:.3f}{bias}", ha="center", size=9)
            axes.annotate("", (k + 0.24, -0.1), (k + 0.76, -0.1), arrowprops=backward)
            text = (
                f"∂z/∂w = {first:.4f}\n× ∂a/∂z = {slope:.4f}\n× ∂C/∂a = {above:.4f}\n"
                f"= ∂C/∂w = {layer.dC_dW[0, 0]:.5f}"
            )
            axes.text(k + 0.5, -1.1, text, ha="center", size=9, color=style.ORANGE)
        axes.annotate("", (end + 0.72, 0.1), (end + 0.24, 0.1), arrowprops=arrow)
        text = f"C = (a - y)²\n= {self.trace.cost:.4f}\n(y = {self.y:g})"
        axes.text(end + 0.95, 0, text, size=10, weight="bold", **style.CENTRED)
        axes.text(-0.55, 0.75, "forward: z = w a + b, a = σ(z)", color=style.INK, size=10)
        axes.text(-0.55, -0.85, "backward:\nmultiply", color=style.ORANGE, size=10)
        return figure


def chain(
    x: float = 0.8, y: float = 1.0, neurons: int = 3, seed: int = 0, engine: str = "auto"
) -> Chain:
    """A network of one sigmoid neuron in each layer, normal weights, and its backward pass.

    Parameters
    ----------
    x, y : float
        The example.
    neurons : int
        Layers, at most nine.
    """
    sizes = [1] * (checks.whole("neurons", neurons, at_most=9) + 1)
    model = network(*sizes, activation="sigmoid", last="sigmoid", dtype="float64", engine=engine)
    model.parameters = 1.2 * np.random.default_rng(seed).standard_normal(model.size)
    return Chain(backprop_trace(model, [x], [y]), x, y)


class Nudges(Result, pictures=["backprop-nudges.png", "backprop-column.png"]):
    """What single examples ask for, and what they ask for together."""

    labels: Array  #: (examples,) of int
    traces: tuple[Trace, ...]
    average: Array  #: (size,), of their gradients
    gradient: Array  #: (size,), of the mean cost over the same examples, by the engine

    @property
    def error(self) -> float:
        """‖average - gradient‖ / ‖gradient‖."""
        difference = np.linalg.norm(self.average - self.gradient)
        return float(difference / np.linalg.norm(self.gradient))

    def pieces(self) -> dict[str, Array]:
        """The engine's gradient cut into its layers: "W1" -> (inputs, outputs), …"""
        pieces, start = {}, 0
        for layer, trace in enumerate(self.traces[0].layers, start=1):
            for name, part in ((f"W{layer}", trace.dC_dW), (f"b{layer}", trace.dC_db)):
                if part is not None:
                    pieces[name] = self.gradient[start : start + part.size].reshape(part.shape)
                    start += part.size
        return pieces

    def largest(self, count: int = 10) -> list[tuple[str, float]]:
        """The parameters that matter most: (as "W3[12, 7]", entry of the gradient)."""
        places = []
        for name, piece in self.pieces().items():
            places += [f"{name}[{', '.join(map(str, at))}]" for at in np.ndindex(piece.shape)]
        order = np.argsort(-np.abs(self.gradient))[:count]
        return [(places[k], float(self.gradient[k])) for k in order]

    def summary(self) -> str:
        top, value = self.largest(1)[0]
        way = "down" if value > 0 else "up"
        squares = np.sort(self.gradient**2)[::-1]
        share = squares[: len(squares) // 10].sum() / squares.sum()
        return (
            f"the average over {len(self.traces)} examples is the engine's gradient to "
            f"{self.error:.0e}; of {len(self.gradient)} entries {top} matters most "
            f"({value:+.3f}: {way}), and the largest tenth hold "
            f"{share:.0%} of the squared length"
        )

    def plot(self) -> Any:
        """Nudges of ten digits to biases and previous activations.

        A column for each digit: it wants its own output up and all others down, most where the
        answer is furthest off, and it passes wishes on to the activations below. The average of
        what 200 examples want (``lab.average_gradient``) is the engine's gradient, to 1e-12 and
        better.
        """
        figure = style.new_figure(11, 7.4, "What each example asks for, and all of them together")
        grid = figure.subplots(2, 2, width_ratios=[5, 1], height_ratios=[10, 16], sharey="row")
        last = [trace.layers[-1] for trace in self.traces]
        asked: dict[str, list[Any]] = {
            "last biases, by output neuron": [layer.bias_nudges for layer in last],
            "previous activations, by neuron": [layer.input_nudges for layer in last],
        }
        labels = [f"a “{label}”" for label in self.labels[:10]]
        for row, (name, wishes) in zip(grid, asked.items(), strict=True):
            each, average = np.array(wishes[:10]).T, np.mean(wishes, axis=0)[:, np.newaxis]
            limit = np.abs(each).max()
            for axes, values in zip(row, (each, average), strict=True):
                image = style.picture(axes, values, limit, aspect="auto")
                for (i, k), value in np.ndenumerate(values):
                    ink = "white" if abs(value) > 0.6 * limit else style.INK
                    axes.text(k, i, f"{value:+.2f}", color=ink, size=7.5, **style.CENTRED)
            row[0].set_yticks(range(len(each)))
            row[0].set_xticks(range(len(labels)), labels)
            row[0].set_ylabel(name)
            row[1].set_xlabel(f"average of\nall {len(self.traces)}")
            figure.colorbar(image, ax=row, label="nudge, -∂C/∂…: up or down")
        return figure

    def plot_column(self) -> Any:
        """The gradient as a column, as matrices, and its largest entries.

        All of it as one column: the sign says up or down, the size says what matters. A tenth
        of the entries holds most of its squared length.
        """
        title = f"The gradient: one column of {len(self.gradient):,} numbers"
        figure = style.new_figure(11, 6.4, title)
        upper, lower = figure.subfigures(2, 1, height_ratios=[5, 6])
        column = upper.subplots()
        start = 0
        for k, (name, piece) in enumerate(self.pieces().items()):
            span = np.arange(start, start + piece.size)
            column.vlines(span, 0, -piece.ravel(), color=style.CYCLE[k % 5], lw=0.7)
            height = 1.02 if piece.ndim == 2 else 1.08  # biases are few: beside, not upon
            column.text(start, height, name, size=8, transform=column.get_xaxis_transform())
            column.axvline(start - 0.5, color=style.GRID, lw=0.8)
            start += piece.size
        column.set(xlim=(0, start), ylabel="-∂C/∂θ: up or down")
        column.set_xlabel("place in the column of all weights and biases")
        matrices = {name: piece for name, piece in self.pieces().items() if piece.ndim == 2}
        widths = [*(max(1.3, 4 * len(piece) / 64) for piece in matrices.values()), 4.2]
        *grid, bars = lower.subplots(1, len(matrices) + 1, width_ratios=widths)
        for axes, (name, piece) in zip(grid, matrices.items(), strict=True):
            limit = np.abs(piece).max()
            axes.imshow(-piece.T, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto")
            axes.grid(visible=False)
            axes.set_title(f"-∂C/∂{name}, ± {limit:.2g}", size=9)
            axes.set_xlabel("input")
        grid[0].set_ylabel("neuron")
        names, values = zip(*reversed(self.largest(10)), strict=True)
        colours = [style.ORANGE if value < 0 else style.BLUE for value in values]
        bars.barh(range(len(values)), -np.array(values), color=colours)
        bars.set_yticks(range(len(values)), names, size=8)
        bars.set_title("What matters most", size=9)
        bars.locator_params(axis="x", nbins=5)
        bars.set_xlabel("-∂C/∂θ (orange: up, blue: down)")
        return figure


def nudges(examples: int = 200, epochs: int = 12, seed: int = 0, engine: str = "auto") -> Nudges:
    """What examples ask of a digit network that has learned only a little.

    64-16-16-10 sigmoid neurons with the squared cost, on the shipped digits.

    Parameters
    ----------
    examples : int
        At most 1797.
    epochs : int
        Of training before the examples are asked.
    """
    X, y = load_digits()
    X, one_hot = X.astype(np.float64), np.eye(10)[y]
    kind: dict[str, Any] = {"activation": "sigmoid", "last": "sigmoid", "dtype": "float64"}
    model = network(64, 16, 16, 10, **kind, seed=seed, engine=engine)
    model.fit(X, one_hot, "mse", SGD(1.0, momentum=0.9), epochs=epochs)
    rows = slice(checks.whole("examples", examples, at_most=len(X)))
    pairs = zip(X[rows], one_hot[rows], strict=True)
    traces = tuple(backprop_trace(model, *pair) for pair in pairs)
    _, gradient = model.loss_and_gradient(X[rows], one_hot[rows], "mse")
    return Nudges(y[rows], traces, average_gradient(traces), 10 * gradient)
