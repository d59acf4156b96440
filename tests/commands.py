"""The command line in processes of its own, as quick as a fork, and killed as nothing but a kill does it.

    done = run("find", MODEL, TASK, "--out", RUN)         # done.status, done.out, done.err
    run(..., kill_after=0.3)                              # SIGKILL from outside, seconds after it began
    run(..., kill_at=2)                                   # SIGKILL just before its third file takes its place
    run(..., interrupt_at=2)                              # Ctrl-C there
    run(..., file_limit=20_000)                           # no file may grow beyond these bytes, as on a full disk

A server imports what is needed once; each command is a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

tqdm.get_lock()  # made here, in the server too, the semaphore in it is no killed command's to leave behind
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["tests.commands", "skillneurons.cli", "skillneurons.finding", "transformers.models.bert.modeling_bert"]


@dataclass(frozen=True)
class Done:
    """A finished command: its status (minus the signal where one ended it), and what it printed."""

    status: int
    out: str
    err: str


def run(
    *arguments: str | Path,
    kill_after: float | None = None,
    kill_at: int | None = None,
    interrupt_at: int | None = None,
    file_limit: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Run `skillneurons` with these arguments to its end."""
    FORKS.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = FORKS.Process(
            target=_command,
            args=(
                [str(given) for given in arguments],
                out,
                err,
                kill_at,
                interrupt_at,
                file_limit,
                dict(environment or {}),
            ),
        )
        process.start()
        assert process.pid is not None
        process.join(kill_after)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, out.read_text(), err.read_text())


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but log.json, which may differ; hidden and unfinished ones too."""
    kept = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def _command(
    arguments: list[str],
    out: Path,
    err: Path,
    kill_at: int | None,
    interrupt_at: int | None,
    file_limit: int | None,
    environment: Mapping[str, str],
) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    import torch

    from skillneurons.cli import main

    torch.set_num_threads(1)
    if kill_at is not None:
        signal_at(kill_at, signal.SIGKILL)
    if interrupt_at is not None:
        signal_at(interrupt_at, signal.SIGINT)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.exit(main(arguments))


def signal_at(number: int, which: signal.Signals) -> None:
    """Be sent a signal at the rename that gives the file after the first `number` ones its name."""
    replace, renames = Path.replace, 0

    def counted(path: Path, target: Path) -> Path:
        nonlocal renames
        if renames == number:
            os.kill(os.getpid(), which)
        renames += 1
        return replace(path, target)

    Path.replace = counted  # type: ignore[method-assign, assignment]
