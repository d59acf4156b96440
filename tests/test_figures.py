"""The one look: series that grey does not confuse, names that draw as they are, files that are the same every time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb

from skillneurons import figures


def test_no_two_of_many_series_look_alike() -> None:
    for series in (figures.line, figures.marker, figures.bar):
        looks = [tuple(str(value) for value in series(index).values()) for index in range(36)]
        assert len(set(looks)) == 36


def test_colour_is_never_all_that_tells_two_series_apart() -> None:
    for series, key in ((figures.line, "linestyle"), (figures.marker, "marker"), (figures.bar, "hatch")):
        assert len({str(series(index)[key]) for index in range(6)}) == 6


def test_the_first_series_differ_in_lightness() -> None:
    grey = [float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) for colour in figures.COLOURS[:4]]
    assert all(abs(one - other) > 0.1 for one, other in pairwise(grey))


def test_axes_that_are_given_are_drawn_on() -> None:
    figure, given = pyplot.subplots()
    with figures.drawing(given) as ax:
        assert ax is given
    with figures.drawing() as new:
        assert new is not given
    assert len(pyplot.get_fignums()) == 2
    pyplot.close("all")
    assert figure.axes == [given]


def test_a_drawing_that_fails_leaves_no_figure_and_no_look_behind() -> None:
    before = dict(mpl.rcParams)
    with pytest.raises(RuntimeError), figures.drawing():
        assert mpl.rcParams["axes.spines.top"] is False
        raise RuntimeError
    assert pyplot.get_fignums() == [] and dict(mpl.rcParams) == before


def test_a_histogram_is_drawn_as_it_is_given() -> None:
    edges, counts = np.array([0.0, 1.0, 3.0, 4.0]), np.array([2, 0, 5])
    with figures.drawing() as ax:
        figures.histogram(ax, edges, counts, 1, "some")
    patch = ax.patches[0]
    data = patch.get_data()  # type: ignore[attr-defined]
    assert np.array_equal(data.values, counts) and np.array_equal(data.edges, edges)
    assert patch.get_hatch() and patch.get_label() == "some"
    pyplot.close("all")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"), ("two\nlines\x1b", "two lines "), ("$x^2", r"\$x^2"), ("_hidden", " _hidden"),
        ("a" * 40, "a" * 29 + "..."), ("$" * 40, r"\$" * 29 + "..."),
    ],
)  # fmt: skip
def test_names_from_outside_are_shown_as_they_are(given: str, shown: str) -> None:
    assert figures.words(given) == shown
    with figures.drawing() as ax:
        ax.plot([0, 1], [0, 1], label=figures.words(given))
        figures.legend(ax)
    legend = ax.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == [shown]
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    pyplot.close("all")


def test_the_same_picture_gives_the_same_bytes_and_is_closed(tmp_path: Path) -> None:
    written = []
    for folder in ("one", "other"):
        with figures.drawing() as ax:
            figures.histogram(ax, np.arange(4.0), np.arange(3), 1, "hatched")
            ax.plot([0, 3], [0, 3], **figures.line(2), label="a line")
            figures.legend(ax)
        written.append(figures.save(ax, tmp_path / folder / "picture"))
        assert pyplot.get_fignums() == []
    assert [path.name for path in written[0]] == ["picture.svg", "picture.png"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    svg = written[0][0].read_text(encoding="utf-8")
    assert "hatched" in svg and "dc:date" not in svg  # words stay words
