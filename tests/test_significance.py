"""p-values are scipy's and plain loops', and hold what they promise where nothing is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact

from skillneurons.finding.significance import SMALLEST, exact_p, over_trials, q_values, trial_p


def scipys(negative: int, positive: int, totals: tuple[int, int]) -> float:
    """The two-sided p of a table of side and firing."""
    table = np.array([[negative, positive], [totals[0] - negative, totals[1] - positive]])
    return float(fisher_exact(table).pvalue)


@pytest.mark.parametrize("totals", [(1, 1), (1, 9), (7, 7), (5, 12), (20, 9), (16, 17)])
def test_every_table_has_scipys_exact_p(totals: tuple[int, int]) -> None:
    negatives, positives = totals
    tables = np.array([(a, b) for a in range(negatives + 1) for b in range(positives + 1)])
    found = exact_p(tables[:, 0], tables[:, 1], totals)
    for (a, b), p in zip(tables.tolist(), found, strict=True):
        expected = scipys(a, b, totals)
        assert p == pytest.approx(expected, rel=1e-9), (a, b)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 700), st.integers(1, 700), st.data())
def test_large_tables_have_scipys_exact_p(negatives: int, positives: int, data: st.DataObject) -> None:
    a = data.draw(st.integers(0, negatives))
    b = data.draw(st.integers(0, positives))
    expected = scipys(a, b, (negatives, positives))
    found = exact_p(np.array([a]), np.array([b]), (negatives, positives))[0]
    assert found == pytest.approx(max(expected, SMALLEST), rel=1e-8)


def test_a_table_and_its_mirror_images_are_alike() -> None:
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(31), np.arange(24)))
    p = exact_p(a, b, (30, 23))
    assert exact_p(30 - a, 23 - b, (30, 23)) == pytest.approx(p, rel=1e-11)  # not fired for fired
    assert exact_p(b, a, (23, 30)) == pytest.approx(p, rel=1e-11)  # one side for the other


def test_what_cannot_be_told_is_one_and_what_is_sure_is_not_zero() -> None:
    none, everything = np.zeros(1, dtype=np.int64), np.array([3000])
    assert exact_p(none, none, (3000, 3000))[0] == 1
    assert exact_p(everything, everything, (3000, 3000))[0] == 1
    assert exact_p(none, everything, (3000, 3000))[0] == SMALLEST > 0


def test_a_trials_p_is_that_of_the_best_position_times_the_positions() -> None:
    draw = np.random.default_rng(0)
    n0, n1 = 30, 18
    fired = np.stack([draw.binomial(n0, 0.5, (6, 25)), draw.binomial(n1, 0.5, (6, 25))]).astype(np.int32)
    fired[:, :, 0] = 0  # never fires
    fired[:, :, 1] = np.array([[n0], [n1]])  # always does
    fired[:, :, 2] = 0
    fired[1, 4, 2] = n1  # tells the sides apart, at one position alone
    found = trial_p(fired, np.array([n0, n1]))
    for neuron in range(25):
        best, statistic = 1.0, -1.0
        for position in range(6):
            a, b = (int(side) for side in fired[:, position, neuron])
            row = a + b
            seen = np.array([[a, b], [n0 - a, n1 - b]], dtype=float)
            expected = np.outer([row, n0 + n1 - row], [n0, n1]) / (n0 + n1)
            chi = float(((seen - expected) ** 2 / expected).sum()) if 0 < row < n0 + n1 else 0.0
            if chi > statistic + 1e-9:
                statistic, best = chi, scipys(a, b, (n0, n1))
        assert found[neuron] == pytest.approx(min(1.0, 6 * best), rel=1e-9)
    assert found[0] == found[1] == 1
    assert found[2] == pytest.approx(6 * scipys(0, n1, (n0, n1)), rel=1e-9)


def test_over_trials_is_twice_the_median() -> None:
    p = np.random.default_rng(1).random((5, 40))
    for trials in (2, 3, 4, 5):
        for neuron in range(40):
            own = sorted(p[:trials, neuron])
            middle = (own[(trials - 1) // 2] + own[trials // 2]) / 2
            assert over_trials(p[:trials])[neuron] == pytest.approx(min(1.0, 2 * middle), rel=1e-12)
    assert np.array_equal(over_trials(p[:1]), p[0])
    assert over_trials(np.full((3, 1), 0.8))[0] == 1


def test_q_is_the_smallest_rate_at_which_a_neuron_is_found() -> None:
    p = np.concatenate([np.random.default_rng(2).random(60), [0.01, 0.01, 1.0]])
    found = q_values(p)
    for neuron, own in enumerate(p):  # over all thresholds that let it in: expected false ones / found ones
        rates = [len(p) * other / int((p <= other).sum()) for other in p if other >= own]
        assert found[neuron] == pytest.approx(min(1.0, min(rates)), rel=1e-12)


@pytest.mark.parametrize(("trials", "positions"), [(1, 1), (1, 8), (3, 4)])
def test_without_any_skill_small_p_are_no_commoner_than_they_say(trials: int, positions: int) -> None:
    """Labels that have nothing to do with firing: P(p <= alpha) <= alpha, up to what chance does to a count."""
    draw = np.random.default_rng(3)
    neurons, samples, n1 = 4000, 60, 26
    labels = np.stack([draw.permutation(samples) < n1 for _ in range(neurons)], axis=1)  # of all trials: they share dev
    p = []
    for _ in range(trials):
        fired = np.zeros((2, positions, neurons), dtype=np.int32)
        for position in range(positions):
            above = draw.random((samples, neurons)) < draw.uniform(0.1, 0.9, neurons)
            fired[0, position], fired[1, position] = (above & ~labels).sum(0), (above & labels).sum(0)
        p.append(trial_p(fired, np.array([samples - n1, n1])))
    found = over_trials(np.stack(p))
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01, 0.002):
        assert (found <= alpha).sum() <= binom.ppf(0.9999, neurons, alpha), alpha
    if positions == 1:  # and not so careful as to be of no use: the test is exact, discrete at most
        assert (found <= 0.1).mean() > 0.03
