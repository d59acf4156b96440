"""The commands of pruning: prune, predict."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from ..errors import SkillNeuronsError
from ..pruning.config import PruneConfig, Runtime
from .common import console
from .evidence import OfRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 1 << 20
"""Bytes of a line that are read; no model takes as many tokens."""


@dataclass(frozen=True)
class Prune(OfRun):
    """Keep a run's skill neurons, freeze the others, tune the prompts further, write a folder to ship."""

    out: Path | None = None
    """Folder of what comes of it; without it RUN/pruned, or RUN/budget. The same command goes on after a kill."""
    trial: int | None = None
    """The trial that is shipped; without it the best on dev."""
    budget: str | None = None
    """As "accuracy -1.0": look for the fastest model that loses no more points on dev, of the best trial."""
    int8: bool = False
    """Within a budget, then try int8 weights as well; needs the extra onnx."""
    config: Annotated[PruneConfig, tyro.conf.arg(name="")] = field(default_factory=PruneConfig)

    def run(self) -> None:
        """Prune, show, keep, ship."""
        from ..pruning.prune import prune

        if self.budget is not None:
            self._within(self.budget)
            return
        if self.int8:
            raise SkillNeuronsError(
                "--int8 goes with --budget, which it has to stay within; there is none. Give one, or make int8 of any "
                "pruned model: skillneurons export FOLDER --int8."
            )
        model, skill = self.read()
        out = self.out or self.folder / "pruned"
        found = prune(model, skill, config=self.config, out=out)
        console().print(found.screen())
        _ship(found.save(out / "model", self.trial), out, "costs", found.plot())

    def _within(self, budget: str) -> None:
        from ..pruning.budget import within

        model, skill = self.read()
        out = self.out or self.folder / "budget"
        found = within(model, skill, budget=budget, trial=self.trial, config=self.config, out=out)
        console().print(found.screen())
        shipped = found.save(out / "model")
        if self.int8:
            from ..pruning.int8 import in_int8

            console().print(f"{in_int8(found, shipped)}.", soft_wrap=True)
        _ship(shipped, out, "walk", found.plot())


@dataclass(frozen=True)
class Predict:
    """Label the texts on standard input, one a line (of pairs two, a tab between), with a pruned model."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the pruned model."""
    format: Literal["tsv", "jsonl"] = "tsv"
    """tsv: label, each label's probability, note, under a line of names; jsonl: an object a line."""
    window: int | None = None
    """Lines that are answered together, 1024 unless told; 1 where they come one by one, as on a terminal."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    runtime: Runtime = "torch"
    """What computes: torch, or one of what `export` wrote, on the CPU: onnx, onnx-int8."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Answer line by line, in their order."""
        from ..progress import say
        from ..pruning.artifact import load_pruned
        from ..pruning.shipped import WINDOW

        model = load_pruned(self.folder, device=self.device, runtime=self.runtime)
        live = sys.stdin.isatty()
        if live:
            say("one text a line; Ctrl-D ends them")
        table = csv.writer(sys.stdout, "excel-tab", lineterminator="\n")
        if self.format == "tsv":
            table.writerow(["label", *model.labels, "note"])
        lines = _lines(sys.stdin.buffer, pairs=model.about.texts == 2)
        for found in model.stream(lines, window=self.window or (1 if live else WINDOW)):
            if self.format == "tsv":
                probabilities = [f"{value:.6f}" for value in found.probabilities.values()]
                table.writerow([found.label, *probabilities, found.note])
            else:
                own = {"label": found.label, "probabilities": dict(found.probabilities), "note": found.note}
                sys.stdout.write(json.dumps(own, ensure_ascii=False) + "\n")
            sys.stdout.flush()


def _ship(shipped: Path, out: Path, name: str, ax: Axes) -> None:
    """Save the picture, and say where everything is."""
    from ..figures import save

    svg, _ = save(ax, out / "figures" / name)
    console().print(f"\nKept in {out}: {name}.json, {svg.relative_to(out)}. To ship: {shipped}.", soft_wrap=True)
    console().print(f"  skillneurons predict {shipped} < lines.txt", soft_wrap=True)


def _lines(given: IO[bytes], pairs: bool) -> Iterator[str | list[str]]:
    """Each line's text, or its columns; bytes that are no UTF-8 become what a prediction's note tells of."""
    while line := given.readline(LONGEST):
        rest = line
        while not rest.endswith(b"\n") and (rest := given.readline(LONGEST)):
            pass
        text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        yield text.split("\t") if pairs else text
