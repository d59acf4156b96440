"""The ratios that are kept, and which of a new run's fall behind them.

    kept = read(path)                          # {"cpu": Run, "cuda": Run}
    behind = fallen(run, kept["cpu"])          # a line each
    write(path, kept | {"cpu": merged(kept["cpu"], run)})

A ratio, share or correlation has fallen behind where its median is worse than the kept one by more than noise: more
than the two ranges between the quartiles of the turns together, this run's and the kept one's, and more than 2 % of
what was kept. Seconds and hours are not compared, and nothing is with a run of another machine, number of threads or
shape: such ratios are no promise there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .figure import Figure, Run

LEAST = 0.02
SAME = ("device", "processor", "threads", "shape")


def read(path: Path) -> dict[str, Run]:
    """The kept runs by kind of device; none where there is no file yet."""
    if not path.exists():
        return {}
    return {kind: Run.of(own) for kind, own in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, runs: Mapping[str, Run]) -> None:
    """Keep these runs."""
    records = {kind: runs[kind].record() for kind in sorted(runs)}
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def alike(run: Run, kept: Run) -> bool:
    """Whether the ratios of both may be compared."""
    return all(run.machine[key] == kept.machine[key] for key in SAME)


def merged(kept: Run | None, run: Run) -> Run:
    """The run with those kept rows, of the same machine, that it did not measure itself."""
    if kept is None or not alike(run, kept):
        return run
    rows = {row.name: row for row in (*kept.rows, *run.rows)}
    return Run(run.machine, tuple(rows.values()))


def fallen(run: Run, kept: Run) -> list[str]:
    """What fell behind, a line each."""
    lines = []
    for row in run.rows:
        before = kept.row(row.name)
        for own in row.figures:
            old = before.figure(own.name) if before else None
            if old is not None and behind(own, old):
                lines.append(
                    f"{row.name}, {own.name}: {own.value:.4g} ({own.low:.4g} to {own.high:.4g}), "
                    f"kept {old.value:.4g} ({old.low:.4g} to {old.high:.4g})"
                )
    return lines


def behind(own: Figure, old: Figure) -> bool:
    """Whether a figure is worse than the kept one by more than noise."""
    if own.unit not in ("", "times"):
        return False
    worse = old.value - own.value if own.better == "more" else own.value - old.value
    noise = (own.high - own.low) + (old.high - old.low)
    return worse > max(noise, LEAST * old.value)
