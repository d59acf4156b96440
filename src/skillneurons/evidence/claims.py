"""Tests of claims: the same samples under two conditions, and what stands behind a difference.

    paired(right_one - right_other, seed=0)      # Paired(difference, low, high, p)

A sample's value is averaged over trials first: trials share their samples, so that samples are what varies. The
interval is a bootstrap over samples; p comes from flipping the sign of each sample's difference at random, which is
as likely as not where the two conditions are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import permutation_test

from ..finding.measure import interval

FLIPS = 9999


@dataclass(frozen=True)
class Paired:
    """A mean difference with its 95 % interval, and its two-sided p, which cannot be below 1 / 10000."""

    difference: float
    low: float
    high: float
    p: float


def paired(differences: Float[np.ndarray, " sample"], seed: int) -> Paired:
    """The mean of the samples' differences, and whether it could be chance."""
    bounds = interval([differences], seed)
    if not differences.any():
        return Paired(0.0, 0.0, 0.0, 1.0)
    found = permutation_test(
        (differences, np.zeros_like(differences)), lambda one, other, axis: (one - other).mean(axis),
        permutation_type="samples", n_resamples=FLIPS, vectorized=True, batch=200, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Paired(float(differences.mean()), bounds["low"], bounds["high"], float(found.pvalue))
