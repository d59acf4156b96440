"""Small studies for the tests, in processes that may be killed.

    file = write_study(folder, ["choices"], tasks=("single",), tuning={"trials": 1})
    begin(file, kill_at=5).join()                 # SIGKILL just before the sixth file takes its place
    results(file.parent)                          # every file of the study's folder and of its outputs

A study keeps its store and its folder beside its file, in `store` and `out`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.study.result import StudyResult
from skillneurons.study.study import run_study

from .commands import FORKS, PRELOADED, files, signal_at
from .families import save_tiny
from .makings import make

SMALL: dict[str, dict[str, Any]] = {
    "model": {"source": "./model", "dtype": "float64"},
    "tuning": {"trials": 2, "positions": 3, "steps": 4, "lr": 0.05, "init_std": 0.5},
    "perturbation": {"most": 0.5, "step": 0.5, "draws": 2},
    "perturbation-relative": {"most": 0.5, "step": 0.5, "draws": 2, "std": 1.0, "relative": True},
    "label-words": {"sets": 2, "seeds": 2},
    "nulls": {"permutations": 19},
    "words": {"least": 2},
    "steering": {"doses": [-1.0, 1.0], "draws": 1},
}


def write_study(
    folder: Path, experiments: Sequence[str] | None = None, tasks: Sequence[str] = ("single", "three"), **sections: Any
) -> Path:
    """A study's file, with its model and tasks; `sections` change those of `SMALL`, None for all experiments."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        save_tiny("bert", folder / "model")
    for form in tasks:
        make(form, train=30, dev=20, test=20, kind=form).save(folder / form)  # type: ignore[arg-type]
    top: dict[str, Any] = {"name": "small", "tasks": [f"./{form}" for form in tasks]}
    top |= {} if experiments is None else {"experiments": list(experiments)}
    lines = [f"{name} = {_toml(value)}" for name, value in top.items()]
    for name in dict.fromkeys([*SMALL, *sections]):
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in (SMALL.get(name, {}) | sections.get(name, {})).items()]
    file = folder / "study.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def run(file: Path, **options: Any) -> StudyResult:
    """Run a study here."""
    return run_study(file, store=file.parent / "store", out=file.parent / "out", **options)


def begin(file: Path, out: str = "out", kill_at: int | None = None) -> Any:
    """Run a study in a process of its own, which has begun."""
    FORKS.set_forkserver_preload([*PRELOADED, "skillneurons.study.study"])
    process = FORKS.Process(target=_study, args=(file, out, kill_at))
    process.start()
    return process


def results(folder: Path) -> Mapping[str, bytes]:
    """Every file of the study's folder and of its store; not what a kill left under a hidden name in the former."""
    out = {name: own for name, own in files(folder / "out").items() if not Path(name).name.startswith(".")}
    return out | files(folder / "store" / "steps") | files(folder / "store" / "objects")


def _study(file: Path, out: str, kill_at: int | None) -> None:
    os.chdir(file.parent)
    import torch

    from skillneurons.progress import quiet

    torch.set_num_threads(1)
    quiet()
    if kill_at is not None:
        signal_at(kill_at, signal.SIGKILL)
    sys.exit(not run_study(file.name, store="store", out=out).whole)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
