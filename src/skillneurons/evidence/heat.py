"""A heat map of tasks against tasks: cells with numbers, tasks of one kind side by side, lines between the kinds.

    order = by_kind(["sentiment", "topic", "sentiment", None])       # 0, 2, 1, 3
    heat(ax, values, names, kinds, label="Spearman's rank correlation")

Colours run from light to dark (with `centred`, from one colour over white at 0 to another), and the numbers say the
same, so that it reads in grey. The cells of a task with itself are left empty unless `diagonal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..figures import FAINT, INK, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_kind(kinds: Sequence[str | None]) -> list[int]:
    """The tasks' places, those of one kind together, kinds as they first come; one without a kind stands alone."""
    groups = _groups(kinds)
    return sorted(range(len(kinds)), key=lambda place: groups.index(groups[place]))


def heat(
    ax: Axes,
    values: Float[np.ndarray, "row column"],
    names: Sequence[str],
    kinds: Sequence[str | None],
    *,
    label: str,
    span: tuple[float, float] | None = None,
    centred: bool = False,
    diagonal: bool = False,
    key: bool = True,
) -> None:
    """Draw `values` on `ax`, rows and columns both named by `names` and grouped by `kinds`.

    `label` names what the cells hold, beside the `key` of colours; `span` are the values of the lightest and the
    darkest colour, without it the lowest and highest that are drawn. What is NaN stays empty.
    """
    order = by_kind(kinds)
    shown = values[np.ix_(order, order)].astype(float)
    if not diagonal:
        np.fill_diagonal(shown, np.nan)
    told = shown[~np.isnan(shown)]
    low, high = span or ((float(told.min()), float(told.max())) if len(told) else (0.0, 1.0))
    if centred:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    image = ax.imshow(shown, cmap="PuOr_r" if centred else "Blues", vmin=low, vmax=high)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.set_xticks(range(len(order)), [words(names[place], 16) for place in order], rotation=45, ha="right")
    ax.set_yticks(range(len(order)), [words(names[place], 16) for place in order])
    for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
        value = shown[row, column]
        share = (value - low) / ((high - low) or 1.0)
        dark = abs(share - 0.5) > 0.35 if centred else share > 0.6
        ax.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else INK
        )  # fmt: skip
    groups = [_groups(kinds)[place] for place in order]
    for place in (place for place in range(1, len(order)) if groups[place] != groups[place - 1]):
        ax.axhline(place - 0.5, color=INK, linewidth=1.2)
        ax.axvline(place - 0.5, color=INK, linewidth=1.2)
    if key:
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, label=label)
        bar.outline.set_edgecolor(FAINT)


def _groups(kinds: Sequence[str | None]) -> list[str | int]:
    return [place if kind is None else kind for place, kind in enumerate(kinds)]
