"""One look for all pictures of the lab, the parts that several share, and small files.

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

import numpy as np

from ..errors import import_extra

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")

INK, FAINT, GRID = "#20262b", "#7b858d", "#e3e7ea"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, YELLOW, BLACK = "#56b4e9", "#e69f00", "#000000"

#: For things that are told apart by colour, in this order.
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)

#: Colour maps: of a quantity that only grows, and of one with a sign.
GROWING, SIGNED = "cividis", "PuOr_r"

#: For text at a place.
CENTRED = {"ha": "center", "va": "center"}

_RC = {
    "figure.dpi": 130,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(CYCLE)})",
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "image.cmap": GROWING,
    **dict.fromkeys(("axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
}

_COLOURS, _GIF_COLOURS = 256, 64
_GIF_DPI = 70


def styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """The drawing function, with the style of the lab while it runs."""

    @functools.wraps(draw)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawn:
        with import_extra("matplotlib", "lab", "a picture").rc_context(_RC):
            return draw(*args, **kwargs)

    return call


def new_figure(width: float, height: float, title: str = "", footnote: str = "") -> Any:
    """An empty figure of so many inches, which belongs to no window."""
    module = import_extra("matplotlib.figure", "lab", "a picture")
    figure = module.Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    if title:
        figure.suptitle(title, weight="bold", size=12, color=INK)
    if footnote:
        figure.supxlabel(footnote, size=9, color=FAINT)
    return figure


def panels(title: str, count: int, columns: int, size: Sequence[float], **options: Any) -> Any:
    """A figure and its ``count`` axes, in rows of ``columns``.

    ``size`` has the figure's width, and the heights of its head and of a row. ``options`` go
    to ``Figure.subplots``.
    """
    rows = -(-count // columns)
    width, head, each = size
    figure = new_figure(width, head + each * rows, title)
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def picture(axes: Any, pixels: Any, limit: float | None = None, **options: Any) -> Any:
    """Pixels without ticks and grid; in signed colours from -limit to limit if it is given."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if limit is not None:
        options |= {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    return axes.imshow(pixels, **options)


def chart(axes: Any, along: Sequence[Any], surface: Any, levels: Any, **options: Any) -> Any:
    """The map of a surface over ``along``, the values of columns and of rows: filled contours."""
    filled = axes.contourf(*along, surface, levels, **options)
    axes.set(xlim=along[0][[0, -1]], ylim=along[1][[0, -1]])
    axes.grid(visible=False)
    return filled


def relief(axes: Any, along: Sequence[Any], surface: Any, view: Any, **options: Any) -> Any:
    """The surface in three dimensions, seen from (elevation, azimuth, zoom)."""
    axes.plot_surface(*np.meshgrid(*along), surface, cmap=GROWING, lw=0, **options)
    axes.view_init(*view[:2])
    axes.set_box_aspect(None, zoom=view[2])
    axes.tick_params(labelsize=7)


def _pixels(figure: Any, **options: Any) -> Any:
    """The figure as a Pillow image in RGB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    with import_extra("PIL.Image", "lab", "a picture").open(buffer) as full:
        return full.convert("RGB")


def save(figure: Any, path: str | Path) -> None:
    """Write a PNG file of few colours, a quarter of the usual size."""
    _pixels(figure).quantize(_COLOURS, kmeans=1).save(path, optimize=True)


@styled
def save_gif(frames: Iterable[Any], path: str | Path, milliseconds: Sequence[int]) -> None:
    """Write an animated GIF that repeats for ever.

    Parameters
    ----------
    frames : iterable of figures
        Or of one that changes. A generator draws in the style of the lab, since it runs here.
    path : str or path
    milliseconds : sequence of int
        How long the frames stay, and how long the last one does.
    """
    image = import_extra("PIL.Image", "lab", "an animation")
    pictures = []
    for figure in frames:
        pictures.append(_pixels(figure, dpi=_GIF_DPI))
        figure.set_layout_engine("none")  # found for the first frame: nothing moves
    # one palette, from the last frame, so that nothing flickers
    palette = pictures[-1].quantize(_GIF_COLOURS, method=image.Quantize.MAXCOVERAGE, kmeans=2)
    still = image.Dither.NONE
    first, *others = [full.quantize(palette=palette, dither=still) for full in pictures]
    each, last = milliseconds
    durations = [each] * len(others) + [last]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
