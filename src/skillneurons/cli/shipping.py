"""The commands of a shipped model: export, bench."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ..pruning.config import BenchConfig
from .common import console

Folder = Annotated[Positional[Path], tyro.conf.arg(metavar="FOLDER")]


@dataclass(frozen=True)
class Export:
    """Write a pruned model as ONNX, beside its other files, and hold it against the original."""

    folder: Folder
    """Folder of the pruned model."""
    int8: bool = False
    """Write it with weights in int8 as well."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Export, check, say."""
        from ..pruning.artifact import load_pruned
        from ..pruning.onnx import export
        from ..pruning.session import exported

        export(load_pruned(self.folder, device="cpu"), self.folder, int8=self.int8)
        terminal = console()
        for name, own in exported(self.folder).items():
            size = (self.folder / name).stat().st_size / 1e6
            terminal.print(f"{self.folder / name}: {size:.3g} MB, logits off by {own.off:.2g} at most", soft_wrap=True)


@dataclass(frozen=True)
class Bench:
    """Time a pruned model on the CPU: the dense one, the pruned one, and what was exported of it, in turn."""

    folder: Folder
    """Folder of the pruned model."""
    dense: str | None = None
    """The dense model; without it one of random weights in its shape, as fast."""
    out: Path | None = None
    """Folder where figures and picture go; without it they are shown alone."""
    config: Annotated[BenchConfig, tyro.conf.arg(name="")] = field(default_factory=BenchConfig)
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Time, show, keep."""
        from ..figures import save
        from ..models import load_model
        from ..pruning.bench import bench

        dense = None if self.dense is None else load_model(self.dense, device="cpu")
        found = bench(self.folder, dense, config=self.config)
        terminal = console()
        terminal.print(found.screen())
        if self.out is not None:
            path = found.save(self.out)
            svg, _ = save(found.plot(), self.out / "figures" / "speed")
            terminal.print(f"\nKept: {path}, {svg}.", soft_wrap=True)
