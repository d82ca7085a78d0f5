"""One look for all pictures of the lab, and how they become small files.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell
apart; maps are matplotlib's perceptually even ones. Matplotlib and Pillow come with the
``lab`` extra and are imported when the first picture is drawn, never before.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ..errors import import_extra

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

INK, FAINT, GRID = "#20262b", "#7b858d", "#e3e7ea"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, YELLOW, BLACK = "#56b4e9", "#e69f00", "#000000"

#: For things that are told apart by colour, in this order.
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)

#: Colour maps: of a quantity that only grows, and of one with a sign.
GROWING, SIGNED = "cividis", "PuOr_r"

_RC = {
    "figure.dpi": 130,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(CYCLE)})",
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.cmap": GROWING,
}

_COLOURS = 256  # of a PNG file
_GIF_COLOURS = 64
_GIF_DPI = 70


def styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The drawing function, with the style of the lab while it runs."""

    @functools.wraps(draw)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with import_extra("matplotlib", "lab", "a picture").rc_context(_RC):
            return draw(*args, **kwargs)

    return call


def new_figure(width: float, height: float, title: str = "") -> Any:
    """An empty figure of so many inches, which belongs to no window."""
    module = import_extra("matplotlib.figure", "lab", "a picture")
    figure = module.Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    if title:
        figure.suptitle(title, weight="bold", size=12, color=INK)
    return figure


def picture_axes(axes: Any) -> Any:
    """Axes for pixels: no ticks, no grid."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return axes


def save(figure: Any, path: str | Path) -> None:
    """Write a PNG file of few colours, a quarter of the usual size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = import_extra("PIL.Image", "lab", "a picture")
    with image.open(buffer) as full:
        small = full.convert("RGB").quantize(_COLOURS, kmeans=1)
        small.save(path, optimize=True)


@styled
def save_gif(frames: Iterable[Any], path: str | Path, milliseconds: Sequence[int]) -> None:
    """Write an animated GIF that repeats for ever.

    Parameters
    ----------
    frames : iterable of figures
        They may be one figure that changes in between. A generator draws in the style of
        the lab, since it runs here.
    path : str or path
    milliseconds : sequence of int
        How long the frames stay, and how long the last one does.
    """
    image = import_extra("PIL.Image", "lab", "an animation")
    pictures = []
    for figure in frames:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_GIF_DPI)
        figure.set_layout_engine("none")  # found for the first frame: nothing moves
        with image.open(buffer) as full:
            pictures.append(full.convert("RGB"))
    # one palette, from the last frame, so that nothing flickers
    palette = pictures[-1].quantize(_GIF_COLOURS, method=image.Quantize.MAXCOVERAGE, kmeans=2)
    still = image.Dither.NONE
    first, *others = [picture.quantize(palette=palette, dither=still) for picture in pictures]
    each, last = milliseconds
    durations = [each] * len(others) + [last]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
