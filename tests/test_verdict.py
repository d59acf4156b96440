"""What experiments say of their claims: each of the outcomes, on figures made for it."""

from __future__ import annotations

import pytest

from skillneurons.errors import SkillNeuronsError
from skillneurons.evidence.groupings import Grouped
from skillneurons.evidence.verdict import joint, judged, of_kinds, points, verdict

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.001, 0.3, "holds"), (0.001, 0.005, "holds"),
        (-0.005, 0.01, "fails"), (-0.3, -0.1, "fails"), (0.0, 0.0, "fails"),
        (-0.1, 0.1, "open"), (0.0, 0.011, "open"), (NAN, NAN, "open"),
    ],
)  # fmt: skip
def test_an_interval_is_judged(low: float, high: float, outcome: str) -> None:
    assert judged(low, high) == outcome


def test_what_is_too_little_may_be_told() -> None:
    assert judged(-0.1, 0.02) == "open" and judged(-0.1, 0.02, within=0.02) == "fails"


def test_one_that_fails_is_enough() -> None:
    assert joint(["holds", "holds"]) == "holds"
    assert joint(["holds", "open"]) == "open"
    assert joint(["holds", "open", "fails"]) == "fails"


def test_the_sentence() -> None:
    figures = points(0.031, -0.002, 0.064)
    assert figures == "+3.1 (-0.2 to +6.4) points"
    said = {outcome: verdict(outcome, "it is so", "it is not", figures) for outcome in ("holds", "fails", "open")}
    assert said == {
        "holds": f"Holds: it is so; {figures}.",
        "fails": f"Does not hold: it is not; {figures}.",
        "open": f"Cannot be told with this much data: whether it is so; {figures}.",
    }


@pytest.mark.parametrize(
    ("difference", "p", "groupings", "first"),
    [
        (0.3, 1 / 105, 105, "Holds: they are alike; same kind 0.50, other kind 0.20; p 0.0095 over 105 groupings."),
        (0.3, 0.05, 105, "Holds"),
        (0.1, 0.06, 105, "Cannot be told with this much data: whether they are alike"),
        (0.1, 0.5, 105, "Does not hold: they are not"),
        (-0.1, 0.4, 105, "Does not hold"),
        (0.3, 1 / 3, 3, "Cannot be told with this much data: whether they are alike"),
        (-0.3, 1.0, 3, "Cannot be told"),
        (NAN, 1.0, 105, "Cannot be told"),
        (0.3, 1 / 20, 20, "Holds"),
    ],
)
def test_kinds_are_judged(difference: float, p: float, groupings: int, first: str) -> None:
    found = Grouped(0.2 + difference, 0.2, difference, p, groupings, True)
    said = of_kinds(lambda: found, "they are alike", "they are not")
    assert said.startswith(first)
    assert ("it takes more tasks" in said) == (groupings < 20)


def test_tasks_without_a_kind_are_told() -> None:
    def test() -> Grouped:
        raise SkillNeuronsError("every task of this test has a kind; without one: imdb. Tell it.")

    said = of_kinds(test, "they are alike", "they are not")
    assert said.startswith("Cannot be told: there is no test over kinds") and "without one: imdb. Tell it." in said
