"""Timing works in turn: A B C A B C ..., in one process, so that what changes on the machine meets them all.

    seconds = turns({"plain": plain, "ours": ours}, repeats=5, device=device)
    seconds["ours"]                  # one a turn

Each work runs once beforehand, untimed but for how often it has to be called to take a quarter of a second; a turn
then calls it as often. On a GPU the clock waits for the device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from math import ceil

import torch

LEAST = 0.25
"""Seconds that a work takes in a turn, at least."""


def turns(
    works: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, label: str = "", least: float = LEAST
) -> dict[str, list[float]]:
    """Seconds of one call of each work, one value a turn."""
    calls = {name: max(1, ceil(least / seconds(work, 1, device))) for name, work in works.items()}
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats):
        for name, work in works.items():
            found[name].append(seconds(work, calls[name], device))
        print(f"{label}: turn {turn + 1} of {repeats}", file=sys.stderr)
    return found


def seconds(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """The seconds of one call, as the mean of several."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return (time.perf_counter() - began) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
