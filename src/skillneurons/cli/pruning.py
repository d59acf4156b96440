"""The commands of pruning: prune, predict."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Literal

import tyro
from tyro.conf import Positional

from ..pruning.config import PruneConfig
from .common import console
from .evidence import OfRun

LONGEST = 1 << 20
"""Bytes of a line that are read; no model takes as many tokens."""


@dataclass(frozen=True)
class Prune(OfRun):
    """Keep a run's skill neurons, freeze the others, tune the prompts further, write a folder to ship."""

    out: Path | None = None
    """Folder of what comes of it; without it RUN/pruned. The same command goes on with it after a kill."""
    trial: int | None = None
    """The trial that is shipped; without it the best on dev."""
    config: Annotated[PruneConfig, tyro.conf.arg(name="")] = field(default_factory=PruneConfig)

    def run(self) -> None:
        """Prune, show, keep, ship."""
        from ..figures import save
        from ..pruning.prune import prune

        model, skill = self.read()
        out = self.out or self.folder / "pruned"
        found = prune(model, skill, config=self.config, out=out)
        terminal = console()
        terminal.print(found.screen())
        svg, _ = save(found.plot(), out / "figures" / "costs")
        shipped = found.save(out / "model", self.trial)
        terminal.print(f"\nKept in {out}: costs.json, {svg.relative_to(out)}. To ship: {shipped}.", soft_wrap=True)
        terminal.print(f"  skillneurons predict {shipped} < lines.txt", soft_wrap=True)


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
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Answer line by line, in their order."""
        from ..progress import say
        from ..pruning.artifact import load_pruned
        from ..pruning.shipped import WINDOW

        model = load_pruned(self.folder, device=self.device)
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


def _lines(given: IO[bytes], pairs: bool) -> Iterator[str | list[str]]:
    """Each line's text, or its columns; bytes that are no UTF-8 become what a prediction's note tells of."""
    while line := given.readline(LONGEST):
        rest = line
        while not rest.endswith(b"\n") and (rest := given.readline(LONGEST)):
            pass
        text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        yield text.split("\t") if pairs else text
