"""Bytes are said to three digits, in the unit that leaves one to three of them before the point."""

from __future__ import annotations

import pytest

from skillneurons.units import in_bytes


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"), (7, "7 B"), (999, "999 B"), (1000, "1 kB"), (20_992, "21 kB"), (999_499, "999 kB"),
        (999_500, "1 MB"), (790_700_000, "791 MB"), (1.18e9, "1.18 GB"), (252e9, "252 GB"), (3.4e12, "3.4 TB"),
    ],
)  # fmt: skip
def test_bytes_are_said_in_their_unit(count: float, said: str) -> None:
    assert in_bytes(count) == said


def test_what_is_said_is_right_to_three_digits() -> None:
    units = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    for exponent in range(1, 300):
        number, unit = in_bytes(10 ** (exponent / 20)).split()
        assert float(number) * units[unit] == pytest.approx(10 ** (exponent / 20), rel=0.005)
        assert "e" not in number
