"""Progress that people like: a bar with a rate and a time left on a terminal, plain lines elsewhere.

    with progress("scoring", total=4000, unit="samples") as advance:
        for batch in batches:
            ...
            advance(len(batch))

On a terminal there are bars that go when they are done; in a file or a pipe a line every ten seconds; after `quiet()`
nothing. Everything goes to standard error, so that standard output holds the answer alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_console = Console(stderr=True, highlight=False)
_quiet = False
_bars: Progress | None = None  # the terminal's bars while there are any
_EVERY = 10.0  # seconds between plain lines


def quiet(on: bool = True) -> None:
    """Silence progress and remarks (errors still speak)."""
    global _quiet
    _quiet = on


def say(message: str, style: str | None = None) -> None:
    """One remark on standard error, above the bar if there is one."""
    if not _quiet:
        _console.print(message, style=style, soft_wrap=True, markup=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.4g} {task.fields['unit']}/s" if task.speed else "", style="dim")


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note=None)`, which moves the bar and sets the note beside it.

    A bar begun inside another stands below it until it is done.
    """
    global _bars
    if _quiet:
        yield lambda count=1, note=None: None
        return
    if not _console.is_terminal:
        yield _plain(label, total, unit, done)
        return
    outermost = _bars is None
    bars = _bars = _bars or Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
        _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"),
        console=_console, transient=True,
    )  # fmt: skip
    bar = bars.add_task(label, total=total, completed=done, unit=unit, note="")

    def advance(count: int = 1, note: str | None = None) -> None:
        bars.update(bar, advance=count)
        if note is not None:
            bars.update(bar, note=note)

    try:
        with bars if outermost else contextlib.nullcontext():
            yield advance
    finally:
        bars.remove_task(bar)
        if outermost:
            _bars = None


def _plain(label: str, total: int, unit: str, done: int) -> Callable[..., None]:
    began = last = time.monotonic()
    first = current = done

    def advance(count: int = 1, note: str | None = None) -> None:
        nonlocal current, last
        current += count
        now = time.monotonic()
        if now - last >= _EVERY or note is not None:
            last = now
            rate = (current - first) / (now - began)
            left = (total - current) / rate if rate else 0.0
            say(f"{label}: {current}/{total} {unit}, {rate:.4g}/s, {left:.0f} s left{'; ' + note if note else ''}")

    return advance
