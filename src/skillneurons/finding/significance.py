"""How surprising a neuron's accuracy is: exact p-values over trials, q-values over neurons.

In a trial: the two-sided exact test (Fisher) on the 2 x 2 table of side and firing, at the position where the
chi-square statistic is largest, times the number of positions. Over trials, which share dev and so are not
independent: twice the median (one trial: itself). Capped at 1. q: Benjamini and Hochberg over the neurons.

Nearly every neuron of a pretrained model is associated with the labels a little; read effect sizes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln
from scipy.stats import false_discovery_control

SMALLEST = float(np.finfo(np.float64).tiny)
"""p-values below this are given as this, 2.2e-308."""


def exact_p(
    negative: Int[np.ndarray, " neuron"], positive: Int[np.ndarray, " neuron"], totals: tuple[int, int]
) -> Float[np.ndarray, " neuron"]:
    """Two-sided exact p-values of tables with the same totals.

    `negative`, `positive`: samples that fired on each side; `totals`: samples of each side. The sum of the
    probabilities of all tables with the same margins that are no likelier than the one seen.
    """
    negatives, positives = totals
    everything = negatives + positives
    logs = gammaln(np.arange(everything + 2))  # logs[n] = log (n-1)!

    def choose(n: int, k: np.ndarray | int) -> Any:
        k = np.asarray(k)
        return logs[n + 1] - logs[k + 1] - logs[n - k + 1]

    result = np.empty(len(positive))
    fired = negative + positive
    order = np.argsort(fired, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(fired[order])) + 1):
        if not len(group):
            continue
        margin = int(fired[group[0]])
        least, most = max(0, margin - negatives), min(margin, positives)
        cells = np.arange(least, most + 1)
        likely = choose(positives, cells) + choose(negatives, margin - cells) - choose(everything, margin)
        rising = np.sort(likely)
        # as in scipy, equal probabilities that rounding has parted count as equal
        upto = np.searchsorted(rising, likely[positive[group] - least] + 1e-7, side="right")
        with np.errstate(under="ignore"):
            result[group] = np.cumsum(np.exp(rising))[upto - 1]
    return np.clip(result, SMALLEST, 1.0)


def trial_p(fired: Int[np.ndarray, "2 position neuron"], totals: Int[np.ndarray, " 2"]) -> Float[np.ndarray, " neuron"]:
    """One trial's p-value of each neuron of a subtask: exact at its best position, times the positions."""
    negative, positive = fired.astype(np.int64)
    n0, n1 = (int(total) for total in totals)
    margin = negative + positive
    spread = np.maximum(margin * (n0 + n1 - margin), 1)  # 0 where nothing or everything fires: no association
    chi_square = (positive * n0 - negative * n1).astype(np.float64) ** 2 / spread
    best = chi_square.argmax(0)
    columns = np.arange(fired.shape[2])
    p = exact_p(negative[best, columns], positive[best, columns], (n0, n1))
    return np.minimum(p * fired.shape[1], 1.0)


def over_trials(p: Float[np.ndarray, "trial neuron"]) -> Float[np.ndarray, " neuron"]:
    """Twice the median over trials, capped at 1; a single trial's p-values stay."""
    return p[0] if len(p) == 1 else np.minimum(2 * np.median(p, axis=0), 1.0)


def q_values(p: Float[np.ndarray, " neuron"]) -> Float[np.ndarray, " neuron"]:
    """Benjamini-Hochberg adjusted p-values."""
    return false_discovery_control(p, method="bh")
