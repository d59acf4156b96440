"""The numbers of a figure, in its SVG: over each point, bar, bin and cell lies an unseen shape with a title.

    figure.savefig("accuracy.svg")
    marked(svg, figure)                     # <circle ...><title>sst2: share 5 %, accuracy 88.1 %</title></circle>

A browser shows a title where the mouse rests. What is said is what the axes say: the series' label, the axes' labels,
the numbers as their ticks are written. Series of more than `MANY` points are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MANY = 200
"""The most points of a series that are told."""
CELLS = 1000
"""The most cells of an image that are told."""
REACH = 5.0
"""How near to a point the mouse must come, in points of the typesetter."""


@dataclass(frozen=True)
class Mark:
    """What a place of the axes tells: two corners in pixels of the figure (one for a point), and the words."""

    corners: Float[np.ndarray, "corner 2"]
    text: str
    kind: str = "mark"


def marked(svg: str, figure: Figure) -> str:
    """The SVG that was just written of a figure, with its marks."""
    found = [mark for ax in figure.axes if ax.get_label() != "<colorbar>" for mark in _of_axes(ax)]
    if not found:
        return svg
    scale, top = 72 / figure.dpi, 72 * figure.get_figheight()
    shapes = "\n".join(_shape(mark, scale, top) for mark in found)
    head, end, tail = svg.rpartition("</svg>")
    return f'{head}<g id="marks" fill-opacity="0">\n{shapes}\n</g>\n{end}{tail}'


def _shape(mark: Mark, scale: float, top: float) -> str:
    corners = mark.corners * scale * (1, -1) + (0, top)
    title = f"<title>{escape(mark.text)}</title>"
    if len(corners) == 1:
        [(x, y)] = corners
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{REACH:g}">{title}</circle>'
    (x, y), (right, bottom) = corners.min(0), corners.max(0)
    if mark.kind == "line":  # too thin to be met
        (x, y), (right, bottom) = (x - 2, y - 2), (right + 2, bottom + 2)
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(right - x, 1):.1f}" height="{max(bottom - y, 1):.1f}"'
    return f'<rect class="{mark.kind}" {box}>{title}</rect>'


def _of_axes(ax: Axes) -> Iterator[Mark]:
    """Areas first and points last, which come to lie on top."""
    for image in ax.images:
        yield from _cells(ax, image)
    yield from _bins(ax)
    yield from _bars(ax)
    yield from _spans(ax)
    yield from _points(ax)


def _cells(ax: Axes, image: AxesImage) -> Iterator[Mark]:
    values = image.get_array()
    if values is None or values.ndim != 2 or values.size > CELLS:
        return
    bar = image.colorbar
    for row, column in zip(*np.nonzero(np.isfinite(np.ma.filled(values.astype(float), np.nan))), strict=True):
        value = float(values[row, column])
        told = f"{value:.3g}" if bar is None else _said(bar.ax.yaxis, value)
        place = f"{_said(ax.yaxis, row)}, {_said(ax.xaxis, column)}"
        corners = np.array([[column - 0.5, row - 0.5], [column + 0.5, row + 0.5]])
        yield Mark(ax.transData.transform(corners), f"{place}: {told}", "cell")


def _bins(ax: Axes) -> Iterator[Mark]:
    """Histograms: a column for each bin, with what all series of the same edges have there."""
    from matplotlib.patches import StepPatch

    shared: dict[tuple[float, ...], list[tuple[object, np.ndarray]]] = {}
    for patch in ax.patches:
        if isinstance(patch, StepPatch) and patch.orientation == "vertical":
            values, edges, _ = patch.get_data()
            shared.setdefault(tuple(edges.tolist()), []).append((patch.get_label(), values))
    bottom = ax.get_ylim()[0]
    for spans, series in shared.items():
        if len(spans) > MANY:
            continue
        for place, (low, high) in enumerate(pairwise(spans)):
            most = max(values[place] for _, values in series)
            if most == 0:
                continue
            told = [f"{_named(label)}{_said(ax.yaxis, float(values[place]))}" for label, values in series]
            span = f"{_said(ax.xaxis, low)} to {_number(ax.xaxis, high)}"
            corners = ax.transData.transform(np.array([[low, bottom], [high, max(most, bottom)]]))
            yield Mark(corners, "\n".join([span, *told]))


def _bars(ax: Axes) -> Iterator[Mark]:
    from matplotlib.container import BarContainer

    for bars in ax.containers:
        if not isinstance(bars, BarContainer) or len(bars.patches) > MANY:
            continue
        for patch in bars.patches:
            box = patch.get_bbox()
            upright = bars.orientation == "vertical"
            x, y = ((box.x0 + box.x1) / 2, box.y1) if upright else (box.x1, (box.y0 + box.y1) / 2)
            yield Mark(ax.transData.transform(box.get_points()), _told(ax, bars.get_label(), x, y))


def _spans(ax: Axes) -> Iterator[Mark]:
    """Lines across the axes, and segments such as those of `vlines`."""
    from matplotlib.collections import LineCollection

    for line in ax.lines:
        if line.get_transform() != ax.transData and not str(line.get_label()).startswith("_"):
            yield Mark(line.get_transform().transform(line.get_xydata()), _plain(line.get_label()), "line")
    apart = {id(bars) for container in _errors(ax) for bars in container[2]}
    for lines in ax.collections:
        if not isinstance(lines, LineCollection) or id(lines) in apart or len(segments := lines.get_segments()) > MANY:
            continue
        for segment in segments:
            (x, y), (to_x, to_y) = segment[0], segment[-1]
            end = f" to {_number(ax.yaxis, to_y)}" if x == to_x else f" to {_number(ax.xaxis, to_x)}"
            first, second = _said(ax.xaxis, x), _said(ax.yaxis, y)
            told = f"{first}, {second}{end}" if x == to_x else f"{second}, {first}{end}"
            yield Mark(ax.transData.transform(segment[[0, -1]]), f"{_named(lines.get_label())}{told}", "line")


def _points(ax: Axes) -> Iterator[Mark]:
    """Points of lines and clouds, those of `errorbar` with their intervals."""
    from matplotlib.collections import PathCollection

    drawn = set()
    for container in _errors(ax):
        line, caps, bars = container
        drawn |= {id(own) for own in (line, *caps)}
        if line is not None:
            yield from _series(ax, container.get_label(), line.get_xydata(), [own.get_segments() for own in bars])
    for line in ax.lines:
        if id(line) not in drawn and line.get_transform() == ax.transData:
            yield from _series(ax, line.get_label(), np.asarray(line.get_xydata()), [])
    for cloud in ax.collections:
        if isinstance(cloud, PathCollection):
            yield from _series(ax, cloud.get_label(), np.ma.filled(cloud.get_offsets(), np.nan), [])


def _series(
    ax: Axes, label: object, points: Float[np.ndarray, "point 2"], bars: Sequence[Sequence[np.ndarray]]
) -> Iterator[Mark]:
    if len(points) > MANY:
        return
    for place, (x, y) in enumerate(points):
        if not np.isfinite([x, y]).all():
            continue
        reach = ""
        for segments in bars:
            (low_x, low_y), (high_x, high_y) = segments[place][[0, -1]]
            axis, low, high = (ax.xaxis, low_x, high_x) if low_y == high_y else (ax.yaxis, low_y, high_y)
            reach = f" ({_number(axis, low)} to {_number(axis, high)})" if np.isfinite([low, high]).all() else ""
        yield Mark(ax.transData.transform([[x, y]]), _told(ax, label, x, y) + reach)


def _errors(ax: Axes) -> list[Any]:
    from matplotlib.container import ErrorbarContainer

    return [own for own in ax.containers if isinstance(own, ErrorbarContainer)]


def _told(ax: Axes, label: object, x: float, y: float) -> str:
    """The words of a point; of named rows, the row first."""
    first, second = _said(ax.xaxis, x), _said(ax.yaxis, y)
    if _names(ax.yaxis):
        first, second = second, first
    return f"{_named(label)}{first}, {second}"


def _named(label: object) -> str:
    """A series' label before what it says, nothing for one that has none."""
    text = _plain(label)
    return "" if text.startswith("_") else f"{text}: "


def _said(axis: Axis, value: float) -> str:
    """A value with the axis' label before it."""
    return f"{_plain(axis.get_label_text())} {_number(axis, value)}".strip()


def _number(axis: Axis, value: float) -> str:
    """A value as the axis writes it: a tick's name where ticks have names, four digits of a plain number."""
    if names := _names(axis):
        near = min(names, key=lambda at: abs(at - value))
        return names[near] if abs(near - value) < 0.5 else f"{value:g}"
    told = axis.get_major_formatter().format_data_short(value).strip()
    try:
        float(told.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return told
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.6g}"


def _names(axis: Axis) -> dict[float, str]:
    """Where ticks have names: place and name. Such ticks are written where they stand and nowhere else."""
    places = [float(place) for place in axis.get_majorticklocs()]
    formatter = axis.get_major_formatter()
    if not places or formatter(places[0] + 1e-6) != "":
        return {}
    written = zip(places, formatter.format_ticks(places), strict=True)
    return {place: _plain(name) for place, name in written if name}


def _plain(text: object) -> str:
    """A text of the figure without what is there for the typesetter."""
    return str(text).replace("\\", "").replace("\n", ", ").strip()
