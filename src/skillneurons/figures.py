"""The one look of every picture: matplotlib, readable in grey and by the colour-blind, SVG and PNG.

    def plot(self, ax=None):
        with drawing(ax) as ax:
            ax.plot(x, y, **line(0), label="tuned prompt")
        return ax

    save(result.plot(), folder / "figures" / "predictivity")     # predictivity.svg and predictivity.png

Colours are Okabe and Ito's (2008), in an order in which their lightness alternates; each series has a line style, a
marker and a hatch of its own beside its colour, so that nothing is told by colour alone. An SVG tells its numbers where
the mouse rests (`marks.py`). Saved files hold no date: the same figure gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Real

from .files import replacing
from .marks import marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#222222"
FAINT = "#9a9a9a"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "^", "s", "D", "v", "P")
HATCHES = ("", "//", "\\\\", "..", "xx", "++")

LOOK: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "skillneurons",
}


@contextmanager
def drawing(ax: Axes | None = None, size: tuple[float, float] = (6.4, 3.8)) -> Iterator[Axes]:
    """Axes in the look while the block draws: those given, or new ones of `size`, in inches."""
    from matplotlib import pyplot, rc_context

    with rc_context(LOOK):
        if ax is not None:
            yield ax
            return
        figure, ax = pyplot.subplots(figsize=size, layout="constrained")
        try:
            yield ax
        except BaseException:
            pyplot.close(figure)
            raise


@contextmanager
def panels(count: int, columns: int = 3, size: tuple[float, float] = (4.6, 3.2)) -> Iterator[list[Axes]]:
    """`count` axes side by side in one new figure, each of `size` in inches, while the block draws on them."""
    columns = min(columns, count)
    rows = -(-count // columns)
    with drawing(size=(size[0] * columns, size[1] * rows)) as first:
        figure = first.get_figure(root=True)
        assert figure is not None
        first.remove()
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for ax in grid[count:]:
            ax.remove()
        yield list(grid[:count])


def line(index: int) -> dict[str, Any]:
    """Colour and style of the line of series `index`, from 0; 36 series differ."""
    return {"color": _nth(COLOURS, index), "linestyle": _turned(LINES, index)}


def marker(index: int) -> dict[str, Any]:
    """Colour and marker of the points of series `index`, from 0; 36 series differ."""
    return {"color": _nth(COLOURS, index), "marker": _turned(MARKERS, index)}


def bar(index: int) -> dict[str, Any]:
    """Face, edge and hatch of the bars or areas of series `index`, from 0; 36 series differ."""
    return {
        "facecolor": _nth(COLOURS, index),
        "edgecolor": INK,
        "linewidth": 0.6,
        "hatch": _turned(HATCHES, index),
    }


def histogram(
    ax: Axes, edges: Float[np.ndarray, " edge"], counts: Real[np.ndarray, " bin"], index: int, label: str
) -> None:
    """Draw series `index` as an outlined, hatched area through which the others show.

    `counts` are counts or shares, one between each two of the ascending `edges`.
    """
    colour = _nth(COLOURS, index)
    ax.stairs(
        counts, edges, fill=True, label=label, facecolor=(colour, 0.25), edgecolor=colour, linewidth=1.4,
        linestyle=_turned(LINES, index), hatch=_turned(HATCHES, index),
    )  # fmt: skip


def intervals(
    ax: Axes, index: int, of: int, label: str, values: Float[np.ndarray, " row"], bounds: Float[np.ndarray, "row 2"]
) -> None:
    """Draw series `index` of `of`: a point in every row, the first at the top, with its interval."""
    at = np.arange(len(values)) + 0.7 * ((index + 0.5) / of - 0.5)
    reach = np.abs(bounds.T - values)
    ax.errorbar(values, at, xerr=reach, linestyle="", capsize=3, label=label, **marker(index))


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of `intervals`."""
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def legend(ax: Axes, title: str | None = None) -> None:
    """Name the series on the right of the axes, where nothing is hidden by it."""
    columns = -(-len(ax.get_legend_handles_labels()[1]) // 14)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, title=title, alignment="left", ncols=columns
    )


def words(text: str, most: int = 32) -> str:
    """A name from outside as a picture can show it: on one line, `most` signs long at most, and no formula."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    cut = line if len(line) <= most else line[: most - 3] + "..."
    # matplotlib leaves what begins with an underscore out of a legend
    return (f" {cut}" if cut.startswith("_") else cut).replace("$", r"\$")


def save(ax: Axes, path: Path) -> list[Path]:
    """Write the figure of `ax` as `path`.svg and `path`.png, and close it."""
    from matplotlib import pyplot, rc_context

    figure = ax.get_figure(root=True)
    assert figure is not None
    written = []
    with rc_context(LOOK):
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            target = path.with_name(path.name + suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata)
                if suffix == ".svg":
                    svg = temporary.read_text(encoding="utf-8")
                    temporary.write_text(marked(svg, figure), encoding="utf-8")
            written.append(target)
    pyplot.close(figure)
    return written


def _nth(values: Sequence[Any], index: int) -> Any:
    return values[index % len(values)]


def _turned(values: Sequence[Any], index: int) -> Any:
    """As `_nth`, one further on in each round, so that a colour of the next round meets another style."""
    return values[(index + index // len(values)) % len(values)]
