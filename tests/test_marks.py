"""The numbers in a figure's SVG: each stands where it is drawn, and says what the axes say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from skillneurons import figures
from skillneurons.marks import MANY, REACH

SVG = "{http://www.w3.org/2000/svg}"


def saved(ax: Axes, folder: Path) -> ElementTree.Element:
    """The figure of some axes as it is written."""
    return ElementTree.fromstring(figures.save(ax, folder / "picture")[0].read_text(encoding="utf-8"))


def marks(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Its marks."""
    return [own for group in root.iter(f"{SVG}g") if group.get("id") == "marks" for own in group]


def told(root: ElementTree.Element) -> list[str]:
    """What its marks say."""
    return [own.findtext(f"{SVG}title") or "" for own in marks(root)]


def test_a_mark_lies_where_its_point_is_drawn(tmp_path: Path) -> None:
    """Oracle: where matplotlib itself puts the markers."""
    with figures.panels(3, 2) as axes:
        for index, ax in enumerate(axes):
            ax.plot([0, 1, 4], [2, 0.5, index], **figures.marker(0), label="some")
    root = saved(axes[0], tmp_path)
    drawn = [
        (float(own.get("x", "")), float(own.get("y", "")))
        for group in root.iter(f"{SVG}g")
        if group.get("clip-path")
        for own in group.iter(f"{SVG}use")
    ]
    found = [(float(own.get("cx", "")), float(own.get("cy", ""))) for own in marks(root)]
    assert len(found) == len(drawn) == 9
    assert np.array(sorted(found)) == pytest.approx(np.array(sorted(drawn)), abs=0.1)
    assert {own.get("r") for own in marks(root)} == {f"{REACH:g}"}


def test_a_line_says_series_axes_and_numbers_as_their_ticks_do(tmp_path: Path) -> None:
    with figures.drawing() as ax:
        ax.plot([0.05, 0.1], [0.881, 0.5], label=figures.words("in $x_1$"))
        ax.axhline(0.4, label="commonest label, 40 %")
        ax.axhline(0.2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        ax.set(xlabel="share", ylabel="accuracy\non test")
    assert told(saved(ax, tmp_path)) == [
        "commonest label, 40 %",
        "in $x_1$: share 5 %, accuracy, on test 0.881",
        "in $x_1$: share 10 %, accuracy, on test 0.5",
    ]


def test_rows_with_names_say_them_first_and_the_interval_last(tmp_path: Path) -> None:
    with figures.drawing() as ax:
        figures.intervals(ax, 0, 2, "here", np.array([0.5, 0.25]), np.array([[0.4, 0.7], [0.2, 0.3]]))
        figures.name_rows(ax, ["films", "news"])
        ax.set_xlabel("accuracy")
    assert told(saved(ax, tmp_path)) == [
        "here: films, accuracy 0.5 (0.4 to 0.7)", "here: news, accuracy 0.25 (0.2 to 0.3)",
    ]  # fmt: skip


def bars(ax: Axes) -> None:
    """Two bars with names."""
    ax.bar([0, 1], [3, 0.25], label="all")
    ax.set_xticks([0, 1], ["one", "other"])
    ax.set_ylabel("neurons")


def bins(ax: Axes) -> None:
    """Two histograms of the same edges, one bin of which is empty in both."""
    for index, counts in enumerate(([1, 0, 2], [0, 0, 3])):
        figures.histogram(ax, np.array([0.0, 0.5, 1.0, 1.5]), np.array(counts), index, f"series {index}")
    ax.set(xlabel="predictivity", ylabel="neurons")


def segments(ax: Axes) -> None:
    """An upright segment and one that lies."""
    ax.vlines([2], [0.25], [0.5], label="90 %")
    ax.hlines([0.75], [1], [3])
    ax.set(xlabel="layer", ylabel="y")


def cells(ax: Axes) -> None:
    """An image with an empty cell, and what its colours mean."""
    image = ax.imshow(np.array([[0.5, np.nan], [-0.25, 1.0]]))
    ax.set_xticks([0, 1], ["left", "right"])
    ax.set_yticks([0, 1], ["up", "down"])
    ax.figure.colorbar(image, ax=ax, label="correlation")


def cloud(ax: Axes) -> None:
    """A few points, and more than are told."""
    ax.scatter([1], [2], label="few")
    ax.scatter(np.arange(MANY + 1), np.arange(MANY + 1), label="many")
    ax.plot(np.arange(MANY + 1), np.arange(MANY + 1))


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (bars, ["all: one, neurons 3", "all: other, neurons 0.25"]),
        (
            bins,
            [
                "predictivity 0 to 0.5\nseries 0: neurons 1\nseries 1: neurons 0",
                "predictivity 1 to 1.5\nseries 0: neurons 2\nseries 1: neurons 3",
            ],
        ),
        (segments, ["90 %: layer 2, y 0.25 to 0.5", "y 0.75, layer 1 to 3"]),
        (cells, ["up, left: correlation 0.5", "down, left: correlation -0.25", "down, right: correlation 1"]),
        (cloud, ["few: 1, 2"]),
    ],
)  # fmt: skip
def test_areas_and_clouds(draw: Callable[[Axes], None], expected: list[str], tmp_path: Path) -> None:
    with figures.drawing() as ax:
        draw(ax)
    assert told(saved(ax, tmp_path)) == expected


def test_a_bar_is_covered_by_its_mark(tmp_path: Path) -> None:
    with figures.drawing() as ax:
        ax.bar([0, 1], [1, 2], width=1, color=["#010203", "#040506"])
    root = saved(ax, tmp_path)
    for own, colour in zip(marks(root), ("#010203", "#040506"), strict=True):
        [path] = [path.get("d", "") for path in root.iter(f"{SVG}path") if colour in path.get("style", "")]
        drawn = np.array([float(word) for word in path.replace("M", "").replace("L", "").replace("z", "").split()])
        x, y, width, height = (float(own.get(side, "")) for side in ("x", "y", "width", "height"))
        xs, ys = drawn[::2], drawn[1::2]
        assert (x, y, width, height) == pytest.approx((xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)), abs=0.2)


def test_nothing_is_added_where_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with figures.drawing() as ax:
        ax.axvline(0.5)
    assert marks(saved(ax, tmp_path)) == []
