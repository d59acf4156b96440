"""Write the page of a folder, a run's or a study's.

report("runs/sst2")                # runs/sst2/report.html
"""

from __future__ import annotations

from pathlib import Path

from ..errors import SkillNeuronsError
from ..finding.run import Run
from ..finding.skill import SkillNeurons
from ..study.result import NAME, StudyResult
from . import of_run, of_study


def report(folder: str | Path) -> Path:
    """Write the page of a run or a study into its folder, in place of an earlier one; returns its path.

    Raises `SkillNeuronsError` for a folder that is neither, one of another version, and one that cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SkillNeuronsError(f"a report is of a folder; there is no {folder}. Give that of a run or of a study.")
    if (folder / NAME).exists():
        return of_study.publish(StudyResult.load(folder))
    if (folder / "run.json").exists() or Run(folder).unfinished.exists():
        return of_run.publish(SkillNeurons.load(folder))
    raise SkillNeuronsError(
        f"a report is of a run, which has a run.json, or of a study, which has a {NAME}; {folder} has neither. Give "
        "the folder that `skillneurons find` or `skillneurons study` has written."
    )
