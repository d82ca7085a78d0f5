"""Backpropagation, opened: every factor of the chain rule, for one example (S5, S13, S14).

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
from numpy.typing import ArrayLike, NDArray

from .. import checks, kernels
from ..datasets import load_digits
from ..kernels.contract import LayerSpec
from ..errors import unknown_name
from ..model import Sequential
from ..optimizers import SGD
from . import style
from .networks import network

Array = NDArray[Any]

#: What the article calls C, and the row of the losses that it is for one example.
COSTS = {"squared": "sum_squares", "cross_entropy": "cross_entropy"}


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer, forward and backward, for one example.

    Attributes
    ----------
    activation : str
    a_in : ndarray (inputs,)
        Activations of the previous layer, a⁽ᴸ⁻¹⁾; the example itself in the first.
    W : ndarray (inputs, outputs)
    z, a : ndarray (outputs,)
        The weighted sum with its bias, and f(z).
    slope : ndarray (outputs,), or (outputs, outputs) for softmax
        f′(z); for softmax ∂a_k/∂z_i at [k, i].
    dC_da : ndarray (outputs,)
        ∂C/∂a, as it arrives from above.
    delta : ndarray (outputs,)
        ∂C/∂z.
    dC_dW : ndarray (inputs, outputs)
    dC_db : ndarray (outputs,)
    dC_da_in : ndarray (inputs,)
        What is passed on to the layer below.
    """

    activation: str
    a_in: Array
    W: Array
    z: Array
    a: Array
    slope: Array
    dC_da: Array
    delta: Array
    dC_dW: Array
    dC_db: Array | None
    dC_da_in: Array

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
    """All layers for one example.

    Attributes
    ----------
    cost : float
        C.
    target : ndarray (outputs,)
    layers : tuple of LayerTrace
        From input to output.
    """

    cost: float
    target: Array
    layers: tuple[LayerTrace, ...]

    @property
    def gradient(self) -> Array:
        """∇C as one column, ordered as ``Sequential.parameters``: (size,)."""
        pieces = []
        for layer in self.layers:
            pieces.append(layer.dC_dW.ravel())
            if layer.dC_db is not None:
                pieces.append(layer.dC_db)
        return np.concatenate(pieces)


def backprop_trace(model: Sequential, x: ArrayLike, y: ArrayLike, cost: str = "squared") -> Trace:
    """Every factor of the chain rule for one example.

    Parameters
    ----------
    model : Sequential
        Without active dropout, as for ``predict``.
    x : array_like (inputs,)
    y : array_like (outputs,)
        The target; for the cross-entropy, probabilities such as a one-hot row.
    cost : {"squared", "cross_entropy"}
        C = Σ (a - y)² over the outputs: as many times the model's ``mse`` as there are
        outputs. Or C = -Σ y log a, for a last layer of softmax.

    Returns
    -------
    Trace
        In the model's dtype.

    Raises
    ------
    ValueError
        If shapes do not fit, or the cost does not suit the last layer.
    """
    if cost not in COSTS:
        raise unknown_name("cost", cost, COSTS)
    if cost == "cross_entropy" and model.last_activation != "softmax":
        raise ValueError(
            f"the cost cross_entropy needs a last layer of softmax, not {model.last_activation}"
        )
    weights = model.weights
    activation = _vector("x", x, model.specs[0].inputs, model.dtype)
    target = _vector("y", y, model.output_size, model.dtype)
    passes: list[tuple[Array, Array, Array]] = []
    for W, b in weights:
        spec = model.specs[len(passes)]
        z = kernels.linear_forward(activation, W, b, engine=model.engine)
        a = kernels.activation_forward(z, spec.activation, engine=model.engine)
        passes.append((activation, z, a))
        activation = a
    last_z = passes[-1][1]
    is_fused = cost == "cross_entropy"  # that row takes z, where softmax is not undone
    value, dC_da = kernels.loss_value_and_delta(
        last_z if is_fused else activation, target, COSTS[cost], engine=model.engine
    )
    fused_delta = dC_da if is_fused else None
    if is_fused:
        dC_da = -target / activation
    layers: list[LayerTrace] = []
    for spec, (W, b), (a_in, z, a) in zip(
        reversed(model.specs), reversed(weights), reversed(passes), strict=True
    ):
        traced = _backward(model, spec, W, b is not None, (a_in, z, a), dC_da, fused_delta)
        layers.insert(0, traced)
        dC_da, fused_delta = traced.dC_da_in[np.newaxis], None
    return Trace(value, target[0], tuple(layers))


def _vector(name: str, values: ArrayLike, length: int, dtype: Any) -> Array:
    """One row (1, length)."""
    row = np.asarray(values, dtype)
    if row.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), not {row.shape}")
    return row[np.newaxis]


def _backward(
    model: Sequential,
    spec: LayerSpec,
    W: Array,
    has_bias: bool,
    forward: tuple[Array, Array, Array],
    dC_da: Array,
    fused_delta: Array | None,
) -> LayerTrace:
    """One layer, from ∂C/∂a (1, outputs) to ∂C/∂a_in."""
    a_in, z, a = forward
    name, engine, units = spec.activation, model.engine, len(z[0])
    if not isinstance(name, str):
        raise ValueError(f"backprop_trace takes the package's own activations, not {name.name!r}")
    delta = fused_delta
    if delta is None:
        delta = kernels.activation_backward(z, dC_da, name, engine=engine)
    if name == "softmax":
        # ∂C/∂a = e_k gives the derivatives of output k, one row for each
        rows = np.repeat(z, units, axis=0)
        slope = kernels.activation_backward(rows, np.eye(units, dtype=z.dtype), name, engine=engine)
    else:
        slope = kernels.activation_backward(z, np.ones_like(z), name, engine=engine)[0]
    dC_da_in, dC_dW, dC_db = kernels.linear_backward(a_in, W, delta, engine=engine)
    return LayerTrace(
        name,
        a_in[0],
        W,
        z[0],
        a[0],
        slope,
        dC_da[0],
        delta[0],
        dC_dW,
        dC_db if has_bias else None,
        dC_da_in[0],
    )


def average_gradient(traces: Iterable[Trace]) -> Array:
    """The average of the examples' gradients, (size,): the gradient of the mean cost."""
    average: Array = np.mean([trace.gradient for trace in traces], axis=0)
    return average


# --------------------------------------------------------------------------- one neuron a layer


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain of single neurons and the factors along it.

    Attributes
    ----------
    trace : Trace
    x, y : float
    """

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
        """The figures in a sentence."""
        first, slope, above = self.factors()[-1]
        return (
            f"cost {self.trace.cost:.4f}; in the last layer ∂C/∂w = {first:.4f} · {slope:.4f} · "
            f"{above:.4f} = {float(self.trace.layers[-1].dC_dW[0, 0]):.5f}"
        )

    @style.styled
    def plot(self) -> Any:
        """The chain with its numbers: forward above, backward below."""
        figure = style.new_figure(11, 3.5, "The chain rule along single neurons, one example")
        axes = style.picture_axes(figure.subplots())
        layers = self.trace.layers
        axes.set_xlim(-0.6, len(layers) + 1.2)
        axes.set_ylim(-1.2, 0.95)
        values = [layers[0].a_in[0], *(layer.a[0] for layer in layers)]
        for k, value in enumerate(values):
            name = "x" if k == 0 else f"a⁽{'¹²³⁴⁵⁶⁷⁸⁹'[k - 1]}⁾"
            colour = style.SKY if k else style.GRID
            axes.plot(k, 0, "o", ms=44, color=colour, mec=style.INK, mew=1)
            axes.text(k, 0, f"{name}\n{value:.3f}", ha="center", va="center", size=9.5)
        arrow = {"arrowstyle": "-|>", "lw": 1.4}
        for k, layer in enumerate(layers):
            axes.annotate("", (k + 0.76, 0.1), (k + 0.24, 0.1), arrowprops=arrow)
            bias = "" if layer.dC_db is None else f", z = {layer.z[0]:.3f}"
            axes.text(k + 0.5, 0.3, f"w = {layer.W[0, 0]:.3f}{bias}", ha="center", size=9)
            first, slope, above = self.factors()[k]
            backward = {**arrow, "color": style.ORANGE}
            axes.annotate("", (k + 0.24, -0.1), (k + 0.76, -0.1), arrowprops=backward)
            text = (
                f"∂z/∂w = {first:.4f}\n× ∂a/∂z = {slope:.4f}\n× ∂C/∂a = {above:.4f}\n"
                f"= ∂C/∂w = {layer.dC_dW[0, 0]:.5f}"
            )
            axes.text(k + 0.5, -1.1, text, ha="center", size=9, color=style.ORANGE)
        end = len(layers)
        axes.annotate("", (end + 0.72, 0.1), (end + 0.24, 0.1), arrowprops=arrow)
        text = f"C = (a - y)²\n= {self.trace.cost:.4f}\n(y = {self.y:g})"
        axes.text(end + 0.95, 0, text, ha="center", va="center", size=10, weight="bold")
        axes.text(-0.55, 0.75, "forward: z = w a + b, a = σ(z)", color=style.INK, size=10)
        axes.text(-0.55, -0.85, "backward:\nmultiply", color=style.ORANGE, size=10)
        return figure


def chain(
    x: float = 0.8,
    y: float = 1.0,
    neurons: int = 3,
    seed: int = 0,
    engine: str = "auto",
) -> Chain:
    """A network of one sigmoid neuron in each layer, and its backward pass.

    Parameters
    ----------
    x, y : float
        The example.
    neurons : int
        Layers, at most nine.
    seed : int
        Of the weights and biases, which are normal.
    engine : str

    Returns
    -------
    Chain
    """
    neurons = checks.whole("neurons", neurons, at_most=9)
    sizes = [1] * (neurons + 1)
    model = network(
        *sizes, activation="sigmoid", last="sigmoid", dtype="float64", seed=seed, engine=engine
    )
    model.parameters = 1.2 * np.random.default_rng(seed).standard_normal(model.size)
    return Chain(backprop_trace(model, [x], [y]), x, y)


# --------------------------------------------------------------------------- nudges of examples


@dataclass(frozen=True, eq=False)
class Nudges:
    """What single examples ask for, and what they ask for together.

    Attributes
    ----------
    labels : ndarray (examples,) of int
    traces : tuple of Trace
    average : ndarray (size,)
        Of their gradients.
    gradient : ndarray (size,)
        Of the mean cost over the same examples, by the engine.
    """

    labels: Array
    traces: tuple[Trace, ...]
    average: Array
    gradient: Array

    @property
    def error(self) -> float:
        """‖average - gradient‖ / ‖gradient‖."""
        difference = np.linalg.norm(self.average - self.gradient)
        return float(difference / np.linalg.norm(self.gradient))

    def pieces(self) -> dict[str, Array]:
        """The engine's gradient cut into its layers: "W1" -> (inputs, outputs), …"""
        pieces, start = {}, 0
        for layer, trace in enumerate(self.traces[0].layers):
            for name, part in ((f"W{layer + 1}", trace.dC_dW), (f"b{layer + 1}", trace.dC_db)):
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
        """The figures in a sentence."""
        top, value = self.largest(1)[0]
        way = "down" if value > 0 else "up"
        return (
            f"the average over {len(self.traces)} examples is the engine's gradient to "
            f"{self.error:.0e}; of {len(self.gradient)} entries {top} matters most "
            f"({value:+.3f}: {way}), and the largest tenth hold "
            f"{self._share(0.1):.0%} of the squared length"
        )

    def _share(self, part: float) -> float:
        squares = np.sort(self.gradient**2)[::-1]
        return float(squares[: int(part * len(squares))].sum() / squares.sum())

    @style.styled
    def plot(self) -> Any:
        """What single examples ask of the output layer, and their average."""
        figure = style.new_figure(11, 7.4, "What each example asks for, and all of them together")
        grid = figure.subplots(2, 2, width_ratios=[5, 1], height_ratios=[10, 16], sharey="row")
        asked: dict[str, list[Any]] = {
            "last biases, by output neuron": [t.layers[-1].bias_nudges for t in self.traces],
            "previous activations, by neuron": [t.layers[-1].input_nudges for t in self.traces],
        }
        count = 10
        labels = [f"a “{label}”" for label in self.labels[:count]]
        for row, (name, wishes) in zip(grid, asked.items(), strict=True):
            each, average = np.array(wishes[:count]).T, np.mean(wishes, axis=0)[:, np.newaxis]
            limit = np.abs(each).max()
            for axes, values in zip(row, (each, average), strict=True):
                image = style.picture_axes(axes).imshow(
                    values, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto"
                )
                for place in np.ndindex(values.shape):
                    number = f"{values[place]:+.2f}"
                    ink = "white" if abs(values[place]) > 0.6 * limit else style.INK
                    axes.text(*place[::-1], number, ha="center", va="center", size=7.5, color=ink)
            row[0].set_yticks(range(len(each)))
            row[0].set_xticks(range(len(labels)), labels)
            row[0].set_ylabel(name)
            row[1].set_xlabel(f"average of\nall {len(self.traces)}")
            figure.colorbar(image, ax=row, label="nudge, -∂C/∂…: up or down")
        return figure

    @style.styled
    def plot_column(self) -> Any:
        """The gradient as one column, per layer as pictures, and its largest entries."""
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
        column.set_xlim(0, start)
        column.set_xlabel("place in the column of all weights and biases")
        column.set_ylabel("-∂C/∂θ: up or down")
        matrices = {name: piece for name, piece in self.pieces().items() if piece.ndim == 2}
        widths = [*(max(1.3, 4 * len(piece) / 64) for piece in matrices.values()), 4.2]
        grid = lower.subplots(1, len(matrices) + 1, width_ratios=widths)
        for axes, (name, piece) in zip(grid, matrices.items(), strict=False):
            limit = np.abs(piece).max()
            axes.imshow(-piece.T, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto")
            axes.grid(visible=False)
            axes.set_title(f"-∂C/∂{name}, ± {limit:.2g}", size=9)
            axes.set_xlabel("input")
        grid[0].set_ylabel("neuron")
        names, values = zip(*reversed(self.largest(10)), strict=True)
        colours = [style.ORANGE if value < 0 else style.BLUE for value in values]
        grid[-1].barh(range(len(values)), -np.array(values), color=colours)
        grid[-1].set_yticks(range(len(values)), names, size=8)
        grid[-1].set_title("What matters most", size=9)
        grid[-1].locator_params(axis="x", nbins=5)
        grid[-1].set_xlabel("-∂C/∂θ (orange: up, blue: down)")
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
    seed : int
    engine : str

    Returns
    -------
    Nudges
    """
    X, y = load_digits()
    X, one_hot = X.astype(np.float64), np.eye(10)[y]
    model = network(
        *(64, 16, 16, 10),
        activation="sigmoid",
        last="sigmoid",
        dtype="float64",
        seed=seed,
        engine=engine,
    )
    model.fit(X, one_hot, "mse", SGD(1.0, momentum=0.9), epochs=epochs)
    rows = slice(checks.whole("examples", examples, at_most=len(X)))
    traces = tuple(
        backprop_trace(model, example, target)
        for example, target in zip(X[rows], one_hot[rows], strict=True)
    )
    _, gradient = model.loss_and_gradient(X[rows], one_hot[rows], "mse")
    return Nudges(y[rows], traces, average_gradient(traces), 10 * gradient)
