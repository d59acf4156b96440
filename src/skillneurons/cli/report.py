"""The command that writes a page: report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from .common import console


@dataclass(frozen=True)
class Report:
    """Write the page of a run or a study anew: one file, to be opened from disk."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|STUDY")]
    """Folder of the run, or of the study."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Write, say where."""
        from ..report.report import report

        console().print(f"To look at: {report(self.folder)}", soft_wrap=True)
