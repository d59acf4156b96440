"""Pictures of single neurons: activations by label (Figure 1 of the paper), two neurons beside each other (Figure 2).

    by_label(edges, counts, labels, positive, baseline, of="neuron 120 of layer 3")
    token_bars(tokens)

What is drawn comes as arrays, from `portrait` or `pictures`; `ax` are axes to draw on, else there are new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from ...figures import FAINT, INK, bar, drawing, histogram, legend, marker, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .by_token import Tokens

WIDE = (7.2, 3.8)
LABELS = 6
"""Labels that are told apart at most."""
ENDS = 0.005
"""The share of the samples, at either end, that may be left out."""
BINS = 40
"""Bars of a histogram at most."""
MANY = 2000
"""Points beyond which an SVG holds them as an image."""
TOKENS = 60
"""Tokens that are drawn at most."""


def by_label(
    edges: Float[np.ndarray, " edge"],
    counts: Int[np.ndarray, "label bin"],
    labels: Sequence[str],
    positive: Sequence[str],
    baseline: float,
    of: str,
    ax: Axes | None = None,
) -> Axes:
    """A histogram of a neuron's activations for each label, in shares of its samples, with the baseline.

    `of` names the neuron. With more than `LABELS` labels, those of the `positive` side stand against the others. Where
    1 % of the samples would stretch the axis to more than twice its length they are left out, and counted below it.
    """
    names, group = groups(labels, [positive])
    merged = np.stack([counts[group == index].sum(0) for index in range(len(names))])
    shown, kept, beyond = _coarser(*_central(edges, merged))
    with drawing(ax, WIDE) as ax:
        for index, name in enumerate(names):
            if merged[index].any():
                histogram(ax, shown, kept[index] / merged[index].sum(), index, words(name))
        ax.axvline(baseline, color=INK, linestyle="--", linewidth=1.4, label=f"baseline, {baseline:.3g}")
        ax.set_xlabel(f"activation of {of}{_told(beyond)}")
        ax.set_ylabel("share of the label's samples" if len(names) == len(labels) else "share of the group's samples")
        legend(ax)
    return ax


def two_neurons(
    activations: Float[np.ndarray, "sample 2"],
    codes: Int[np.ndarray, " sample"],
    labels: Sequence[str],
    positives: Sequence[Sequence[str]],
    baselines: Sequence[float],
    of: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """A point for each sample at its activations of two neurons, by label, with both baselines dashed.

    `codes` are the samples' labels as numbers, `of` names the neurons, `positives` are the labels on the positive side
    of each neuron's subtask, which stand for themselves where there are more than `LABELS` labels. Samples far off are
    left out as in `by_label`.
    """
    names, group = groups(labels, positives)
    inside = np.ones(len(activations), dtype=bool)
    for own in activations.T:
        low, high = _range(own)
        inside &= (own >= low) & (own <= high)
    with drawing(ax, (6.8, 4.4)) as ax:
        for index, name in enumerate(names):
            own = activations[inside & (group[codes] == index)]
            if len(own):
                ax.scatter(
                    own[:, 0], own[:, 1], s=14, alpha=0.55, linewidths=0, label=words(name),
                    rasterized=len(activations) > MANY, **marker(index),
                )  # fmt: skip
        ax.axvline(baselines[0], color=INK, linestyle="--", linewidth=1.2, label="baselines")
        ax.axhline(baselines[1], color=INK, linestyle="--", linewidth=1.2)
        ax.set_xlabel(f"activation of {of[0]}{_told(int((~inside).sum()))}")
        ax.set_ylabel(f"activation of {of[1]}")
        legend(ax)
    return ax


def token_bars(tokens: Tokens, ax: Axes | None = None) -> Axes:
    """A bar for each token of an input, the first `TOKENS`, with the mean over all training samples' input tokens."""
    shown = tokens.tokens[:TOKENS]
    with drawing(ax, (max(4.0, 1.6 + 0.24 * len(shown)), 3.4)) as ax:
        ax.bar(range(len(shown)), tokens.inputs[: len(shown)], **bar(0), width=0.8)
        ax.axhline(tokens.usual.inputs, color=INK, linestyle="--", linewidth=1.2, label="mean over train")
        ax.axhline(0, color=FAINT, linewidth=0.8)
        ax.set_xticks(range(len(shown)), [words(token.strip(), 14) for token in shown], rotation=90, fontsize=8)
        ax.grid(False, axis="x")
        ax.set_ylabel("activation")
        more = f", the first {TOKENS} of {len(tokens.tokens)} tokens" if len(tokens.tokens) > TOKENS else ""
        ax.set_title(f"Neuron {tokens.neuron} of layer {tokens.layer}, trial {tokens.trial}{more}")
        legend(ax)
    return ax


def groups(labels: Sequence[str], positives: Sequence[Sequence[str]]) -> tuple[list[str], Int[np.ndarray, " label"]]:
    """What is told apart in a picture, and which of it each label belongs to: every label, where there are few.

    Else the labels of each of the `positives`, as far as they are not in one before, and the others.
    """
    if len(labels) <= LABELS:
        return list(labels), np.arange(len(labels))
    names: list[str] = []
    group = np.full(len(labels), -1)
    for positive in positives:
        own = [index for index, label in enumerate(labels) if label in positive and group[index] < 0]
        if own:
            group[own] = len(names)
            names.append(", ".join(labels[index] for index in own))
    group[group < 0] = len(names)
    return [*names, "the others"], group


def _range(values: Float[np.ndarray, " sample"]) -> tuple[float, float]:
    """From the lowest to the highest value; without the 1 % at the ends where these take up more than half of it."""
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, [ENDS, 1 - ENDS], method="nearest")
    far = high - low > 2 * (inner[1] - inner[0]) > 0
    return (float(inner[0]), float(inner[1])) if far else (low, high)


def _central(
    edges: Float[np.ndarray, " edge"], counts: Int[np.ndarray, "group bin"]
) -> tuple[Float[np.ndarray, " edge"], Int[np.ndarray, "group bin"], int]:
    """The part of a histogram that is shown, as in `_range`, and how many samples are beyond it."""
    numbers = np.arange(counts.shape[1]).repeat(counts.sum(0))
    if not len(numbers):
        return edges, counts, 0
    low, high = (int(number) for number in _range(numbers))
    kept = counts[:, low : high + 1]
    return edges[low : high + 2], kept, int(counts.sum() - kept.sum())


def _coarser(
    edges: Float[np.ndarray, " edge"], counts: Int[np.ndarray, "group bin"], beyond: int
) -> tuple[Float[np.ndarray, " edge"], Int[np.ndarray, "group bin"], int]:
    """The same with at most `BINS` bins, each made of equally many old ones; the last one may reach further."""
    together = -(-counts.shape[1] // BINS)
    starts = np.arange(0, counts.shape[1], together)
    wide = (edges[1] - edges[0]) * together
    return edges[0] + wide * np.arange(len(starts) + 1), np.add.reduceat(counts, starts, axis=1), beyond


def _told(beyond: int) -> str:
    return f"   ({beyond} sample{'s' if beyond > 1 else ''} beyond)" if beyond else ""
