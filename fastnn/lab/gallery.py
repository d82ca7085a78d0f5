"""The table of experiments, and the gallery that it makes: pictures and a page of them.

One row for each experiment; a row has pictures, and a picture names the function whose
result draws it. Functions that several pictures share run once.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..kernels.loader import load as load_engine
from ..errors import import_extra, unknown_name
from . import style
from .backprop import chain, nudges
from .batches import mini_batches
from .digits import read_digits
from .functions import architectures, more_examples, random_networks
from .landscape import learning_rates, real_network, two_weights
from .minima import stuck_starts
from .outputs import diabetes, softmax_cross_entropy
from .solutions import equivalent_solutions
from .universal import approximation, towers_by_hand

#: How long a frame of an animation stays, and the last one, in milliseconds.
_FRAME = (120, 2500)


class Picture(NamedTuple):
    """A file, the function whose result it shows, and how that is drawn."""

    file: str  #: "….png", or "….gif" for an animation
    function: Callable[..., Any]
    caption: str
    draw: str = "plot"  #: a method of the result; "frames" for an animation


class Experiment(NamedTuple):
    """A row of the table."""

    title: str
    rows: str  #: of the list S1 to S16 in docs/gallery.md
    pictures: tuple[Picture, ...]


EXPERIMENTS: dict[str, Experiment] = {
    "random-networks": Experiment(
        "Random networks",
        "S2",
        (
            Picture(
                "random-networks.png",
                random_networks,
                "Twelve networks with random weights. Each computes some function; none is near "
                "the dashed one.",
            ),
        ),
    ),
    "more-examples": Experiment(
        "More and more examples",
        "S3 S8 S16",
        (
            Picture(
                "more-examples.png",
                more_examples,
                "One network that sees ten million examples of a step-like function, each of them "
                "once, and its learning curve: the sum of squared differences.",
            ),
            Picture("more-examples.gif", more_examples, "The same, state by state.", "frames"),
        ),
    ),
    "architectures": Experiment(
        "Which networks can",
        "S8",
        (
            Picture(
                "architectures.png",
                architectures,
                "One hidden neuron can only rise or fall, so it cannot do both; three can. "
                "Depth makes the steps steep.",
            ),
        ),
    ),
    "landscape": Experiment(
        "The loss landscape",
        "S4 S9 S15",
        (
            Picture(
                "learning-rates.png",
                learning_rates,
                "Gradient descent over one weight: too small a learning rate creeps, too large a "
                "one overshoots, and beyond a limit it runs away.",
            ),
            Picture(
                "two-weights.png",
                two_weights,
                "A neuron with two weights and four lakes. Steepest descent ends in the lake that "
                "its start lies above; momentum crosses some of the ridges.",
            ),
            Picture("two-weights.gif", two_weights, "The drops on their way.", "frames"),
            Picture(
                "real-network.png",
                real_network,
                "Two weights of a trained network, all others fixed: from some starts the two "
                "never find back.",
            ),
            Picture(
                "batches.png",
                mini_batches,
                "A mini-batch's gradient is wrong by 1/√rows, its steps are a little worse and "
                "cost so much less that the loss falls far sooner.",
            ),
            Picture(
                "stuck-starts.png",
                stuck_starts,
                "Every student here could copy its teacher exactly. The narrow ones get caught in "
                "local minima, the wide ones do not: more weights are easier.",
            ),
        ),
    ),
    "solutions": Experiment(
        "Different but equivalent",
        "S10",
        (
            Picture(
                "solutions.png",
                equivalent_solutions,
                "Twenty-five networks from different starts, trained at once: the same where "
                "there were examples, each its own way outside. The spread says where not to "
                "believe them.",
            ),
        ),
    ),
    "towers": Experiment(
        "Towers",
        "S1 S11",
        (
            Picture(
                "towers.png",
                towers_by_hand,
                "Five sigmoid neurons set by hand make a tower, twenty and a sum make a hill; "
                "with gentler walls it is smooth.",
            ),
            Picture(
                "approximation.png",
                approximation,
                "Enough towers are any function of two variables. A network that learns needs far "
                "fewer parameters for it.",
            ),
        ),
    ),
    "digits": Experiment(
        "Handwritten digits",
        "S4 S6 S12",
        (
            Picture(
                "digits.png",
                read_digits,
                "784-16-16-10: the article's sigmoid network with its squared cost, and the same "
                "sizes with ReLU, softmax and cross-entropy.",
            ),
            Picture(
                "digits-weights.png",
                read_digits,
                "The first layer as pictures of pixels: loose patterns, not the little edges one "
                "might hope for.",
                "plot_weights",
            ),
            Picture(
                "digits-noise.png",
                read_digits,
                "Random pixels are no digit, but nothing ever taught the networks to say so. The "
                "modern one is the surer of the two.",
                "plot_noise",
            ),
            Picture("digits.gif", read_digits, "The first layer while it learns.", "frames"),
        ),
    ),
    "backprop": Experiment(
        "Backpropagation, opened",
        "S5 S13 S14",
        (
            Picture(
                "backprop-chain.png",
                chain,
                "One neuron in each layer, one example: ∂C/∂w = a⁽ᴸ⁻¹⁾ σ′(z) 2(a - y), and what is "
                "passed on to the layer below.",
            ),
            Picture(
                "backprop-nudges.png",
                nudges,
                "Each digit wants its own neuron up and the others down, and passes its wishes on "
                "to the layer before. Their average is the gradient.",
            ),
            Picture(
                "backprop-column.png",
                nudges,
                "The gradient as one column: the sign says up or down, the size says what matters.",
                "plot_column",
            ),
        ),
    ),
    "outputs": Experiment(
        "Classes and numbers",
        "S3 S6 S7",
        (
            Picture(
                "softmax.png",
                softmax_cross_entropy,
                "Softmax gives probabilities; the cross-entropy grows without bound as that of "
                "the right class falls, and keeps pulling where a squared error gives up.",
            ),
            Picture(
                "diabetes.png",
                diabetes,
                "An identity output with the mean squared error, on the diabetes data.",
            ),
        ),
    ),
}


def run(
    names: Iterable[str],
    folder: str | Path,
    engine: str = "auto",
    arguments: Mapping[Callable[..., Any], Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Run experiments, write their pictures, and a page that shows them.

    Parameters
    ----------
    names : iterable of str
        Of ``EXPERIMENTS``.
    folder : str or path
        Made if it is not there; gets the pictures and ``index.html``.
    engine : str
        As for ``Sequential``.
    arguments : mapping, optional
        Function -> keyword arguments, for other than the full size.
    say : callable
        Gets a line for each function that has run.

    Returns
    -------
    list of Path
        The files written, the page last.

    Raises
    ------
    ValueError, ImportError, OSError
        The first two before anything runs: an unknown name, or matplotlib or the engine is
        missing.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in EXPERIMENTS:
            raise unknown_name("experiment", name, EXPERIMENTS)
    load_engine(engine)
    import_extra("matplotlib.figure", "lab", "a picture")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[Callable[..., Any], Any] = {}
    files = []
    for name in chosen:
        for picture in EXPERIMENTS[name].pictures:
            function = picture.function
            if function not in results:
                start = time.perf_counter()
                options = (arguments or {}).get(function, {})
                results[function] = function(engine=engine, **options)
                seconds = time.perf_counter() - start
                say(f"{function.__name__}, {seconds:.1f} s: {results[function].summary()}")
            draw = getattr(results[function], picture.draw)
            path = folder / picture.file
            if path.suffix == ".gif":
                style.save_gif(draw(), path, _FRAME)
            else:
                style.save(draw(), path)
            files.append(path)
    page = folder / "index.html"
    summaries = {function: result.summary() for function, result in results.items()}
    page.write_text(_page(chosen, summaries), encoding="utf-8")
    return [*files, page]


_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #20262b; max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem } img { max-width: 100%; height: auto }
figure { margin: 1rem 0 2.5rem } .figures { color: #5b656d; font-size: 0.9em }"""


def _page(names: Iterable[str], summaries: Mapping[Callable[..., Any], str]) -> str:
    """All pictures with their captions and figures, as HTML."""
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>fastnn lab</title><style>{_STYLE}</style></head><body>",
        "<h1>The learning lab</h1>",
    ]
    for name in names:
        experiment = EXPERIMENTS[name]
        lines.append(f'<h2 id="{name}">{html.escape(experiment.title)}</h2>')
        told = set()
        for picture in experiment.pictures:
            caption = html.escape(picture.caption)
            lines.append(f'<figure><img src="{picture.file}" alt="{caption}"><figcaption>{caption}')
            if picture.function not in told:
                told.add(picture.function)
                figures = html.escape(summaries[picture.function])
                lines.append(f'<div class="figures">{figures}</div>')
            lines.append("</figcaption></figure>")
    return "\n".join([*lines, "</body></html>", ""])
