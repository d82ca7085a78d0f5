"""The table of experiments, and what is made of it: pictures, a page of them, docs/gallery.md.

The classes of the results name their pictures; captions are the docstrings of the methods
that draw. Functions that several pictures share run once.
"""

from __future__ import annotations

import html
import inspect
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from ..errors import import_extra, unknown_name
from ..kernels.loader import load as load_engine
from . import backprop, curves, descent, digits, landscape, outputs, style, universal

#: How long a frame of an animation stays, and the last one, in milliseconds.
_FRAME = (120, 2500)


class Picture(NamedTuple):
    """A file, the function whose result it shows, and how that is drawn."""

    file: str  #: "….png", or "….gif" for an animation
    function: Callable[..., Any]
    draw: Callable[[Any], Any]  #: of the result: its figure, or the frames of an animation

    def texts(self) -> tuple[str, str]:
        """What is to be seen, and the caption in Markdown, which may be empty."""
        seen, _, caption = inspect.cleandoc(self.draw.__doc__ or "").partition("\n")
        return seen.rstrip("."), " ".join(caption.replace("``", "`").split())


class Experiment:
    """A title, and the pictures of the results of some functions."""

    def __init__(self, title: str, *functions: Callable[..., Any]) -> None:
        self.title = title
        self.pictures = [
            Picture(file, function, draw)
            for function in functions
            for file, draw in get_type_hints(function)["return"].pictures.items()
        ]


EXPERIMENTS: dict[str, Experiment] = {
    "random-networks": Experiment("Random networks", curves.random_networks),
    "more-examples": Experiment("More and more examples", curves.more_examples),
    "architectures": Experiment("Which networks can", curves.architectures),
    "landscape": Experiment(
        "The loss landscape",
        descent.learning_rates,
        landscape.two_weights,
        landscape.real_network,
        descent.mini_batches,
        landscape.stuck_starts,
    ),
    "solutions": Experiment("Different but equivalent", curves.equivalent_solutions),
    "towers": Experiment("Towers", universal.towers_by_hand, universal.approximation),
    "digits": Experiment("Handwritten digits", digits.read_digits),
    "backprop": Experiment("Backpropagation, opened", backprop.chain, backprop.nudges),
    "outputs": Experiment("Classes and numbers", outputs.softmax_cross_entropy, outputs.diabetes),
}


def run(
    names: Iterable[str],
    folder: str | Path,
    engine: str = "auto",
    arguments: Mapping[Callable[..., Any], Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Run experiments, write their pictures, and a page that shows them; the files written.

    Parameters
    ----------
    names : iterable of str
        Of ``EXPERIMENTS``.
    folder : str or path
        Made if it is not there; gets the pictures and ``index.html``.
    arguments : mapping, optional
        Function -> keyword arguments, for other than the full size.
    say : callable
        Gets a line for each function that has run.

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
    for picture in (picture for name in chosen for picture in EXPERIMENTS[name].pictures):
        function, path = picture.function, folder / picture.file
        if function not in results:
            start = time.perf_counter()
            results[function] = function(engine=engine, **(arguments or {}).get(function, {}))
            seconds = time.perf_counter() - start
            say(f"{function.__name__}, {seconds:.1f} s: {results[function].summary()}")
        drawn = picture.draw(results[function])
        if path.suffix == ".gif":
            style.save_gif(drawn, path, _FRAME)
        else:
            style.save(drawn, path)
        files.append(path)
    page = folder / "index.html"
    page.write_text(_html(chosen, results), encoding="utf-8")
    return [*files, page]


_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #20262b; max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem } img { max-width: 100%; height: auto }
figure { margin: 1rem 0 2.5rem } .figures { color: #5b656d; font-size: 0.9em }"""


def _html(names: Iterable[str], results: Mapping[Callable[..., Any], Any]) -> str:
    """All pictures with their captions and figures."""
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>fastnn lab</title><style>{_STYLE}</style></head><body>",
        "<h1>The learning lab</h1>",
    ]
    told = set()
    for name in names:
        lines.append(f'<h2 id="{name}">{html.escape(EXPERIMENTS[name].title)}</h2>')
        for picture in EXPERIMENTS[name].pictures:
            seen, caption = (html.escape(text.replace("`", "")) for text in picture.texts())
            lines.append(f'<figure><img src="{picture.file}" alt="{seen}"><figcaption>')
            lines.append(caption or seen)
            if picture.function not in told:
                told.add(picture.function)
                figures = html.escape(results[picture.function].summary())
                lines.append(f'<div class="figures">{figures}</div>')
            lines.append("</figcaption></figure>")
    return "\n".join([*lines, "</body></html>", ""])


def markdown() -> str:
    """All pictures with their captions, for docs/gallery.md."""
    parts = []
    for name, experiment in EXPERIMENTS.items():
        parts.append(f"## {experiment.title}")
        for picture in experiment.pictures:
            seen, caption = picture.texts()
            parts.append(f"![{seen}](gallery/{picture.file})")
            if caption:
                caption += f" (`lab.{picture.function.__name__}`)"
                parts.append(textwrap.fill(caption, 100, break_on_hyphens=False))
        program = f"examples/lab/{name.replace('-', '_')}.py"
        parts.append(f"Try it: [{program}](../{program})")
    return "\n\n".join(parts)


def write_gallery(page: str | Path) -> None:
    """Put ``markdown()`` between the two markers of a page."""
    page = Path(page)
    start, end = "<!-- pictures -->", "<!-- /pictures -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no {start} and {end} to write between")
    page.write_text(f"{before}{start}\n\n{markdown()}\n\n{end}{after}", encoding="utf-8")
