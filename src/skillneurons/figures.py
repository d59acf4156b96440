"""The one look of every picture: matplotlib, readable in grey and by the colour-blind, SVG and PNG.

    def plot(self, ax=None):
        with drawing(ax) as ax:
            ax.plot(x, y, **line(0), label="tuned prompt")
        return ax

    save(result.plot(), folder / "figures" / "predictivity")     # predictivity.svg and predictivity.png

Colours are Okabe and Ito's (2008), in an order in which their lightness alternates; each series has a line style, a
marker and a hatch of its own beside its colour, so that nothing is told by colour alone. Saved files hold no date: the
same figure gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .files import replacing

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
        yield pyplot.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def line(index: int) -> dict[str, Any]:
    """Colour and style of the line of series `index`, from 0."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


def marker(index: int) -> dict[str, Any]:
    """Colour and marker of the points of series `index`, from 0."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def bar(index: int) -> dict[str, Any]:
    """Face, edge and hatch of the bars or areas of series `index`, from 0."""
    return {
        "facecolor": COLOURS[index % len(COLOURS)],
        "edgecolor": INK,
        "linewidth": 0.6,
        "hatch": HATCHES[index % len(HATCHES)],
    }


def histogram(
    ax: Axes, edges: Float[np.ndarray, " bin+1"], counts: Float[np.ndarray, " bin"], index: int, label: str
) -> None:
    """Draw series `index` as an outlined, hatched area through which the others show.

    `counts` are counts or shares, one between each two of the ascending `edges`.
    """
    colour = COLOURS[index % len(COLOURS)]
    ax.stairs(
        counts, edges, fill=True, label=label, facecolor=(colour, 0.25), edgecolor=colour, linewidth=1.4,
        linestyle=LINES[index % len(LINES)], hatch=HATCHES[index % len(HATCHES)],
    )  # fmt: skip


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
            written.append(target)
    pyplot.close(figure)
    return written
