"""The directory of one finding (section 4.4 of the design; docs/run-directory.md).

While a finding is under way its folder holds `unfinished/`, with the plan and the tuning's state; finished trials
stand beside it, each whole or absent. What belongs together is told by `identity`, a hash of the configuration,
model, data, split and code: a run goes on only with the same.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import SkillNeuronsError
from ..files import read_json, replacing, write_json
from ..tuning.prompt import Prompt
from .measure import Tested
from .score import TrialScores
from .stored import foreign, store, stored

FORMAT = 1
TASK = "task"
"""The folder of a run's task that was made in memory."""
TEST = "test.safetensors"
"""The test split as the prompts and the best neurons answered it."""


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the finding in it is whole."""
        return (self.folder / "run.json").exists() and not self.unfinished.exists()

    @property
    def unfinished(self) -> Path:
        """The folder of work under way."""
        return self.folder / "unfinished"

    def trial(self, trial: int) -> Path:
        """The file of one trial."""
        return self.folder / f"trial-{trial}.safetensors"

    def checkpoint(self, trial: int) -> Path:
        """The state of a trial's tuning."""
        return self.unfinished / f"trial-{trial}.safetensors"

    def begin(self, about: Mapping[str, Any]) -> None:
        """Set the folder up for a finding, or go on with the same one; refuse another's folder.

        `about` is what of run.json is known before any work.
        """
        path = self.unfinished / "plan.json"
        for file in (path, self.folder / "run.json"):
            if file.exists():
                differ = _differences(_ours(file, "Choose another --out, or remove the folder."), about)
                if differ:
                    raise SkillNeuronsError(
                        f"{self.folder} holds another run: it differs in {', '.join(differ)}. Choose another --out, or "
                        "remove the folder."
                    )
                return
        write_json(path, about)

    def end(self) -> None:
        """The finding is whole: its state of work is no longer needed."""
        self.tidy()
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what killed writers left: files that had not yet been given their names."""
        for left in self.folder.glob(".*"):
            if _UNNAMED.fullmatch(left.name):
                left.unlink(missing_ok=True)

    def write_trial(self, trial: int, identity: str, prompt: Prompt, scores: TrialScores) -> None:
        """Write a trial's prompt and scores."""
        about = {
            "format": FORMAT, "identity": identity, "prompt": prompt.record(), "totals": scores.totals.tolist(),
            "weighted": scores.weighted, "layers": scores.layers,
        }  # fmt: skip
        store(self.trial(trial), {"prompt": prompt.embedding, **scores.tensors}, about)

    def read_trial(self, trial: int, identity: str | None = None) -> tuple[Prompt, TrialScores] | None:
        """A trial's prompt and scores; None where there is no such file, or one that `identity` does not fit."""
        path = self.trial(trial)
        if not path.exists():
            return None
        tensors, about = stored(path, _AGAIN)
        try:
            if about["format"] != FORMAT:
                raise _other_version(path, about["format"])
            if identity is not None and about["identity"] != identity:
                return None
            prompt = Prompt.from_record(tensors["prompt"], about["prompt"])
            return prompt, TrialScores(tensors, np.array(about["totals"]), about["weighted"], about["layers"])
        except (KeyError, TypeError) as error:
            raise foreign(path, _AGAIN) from error

    def write_test(self, identity: str, tested: Tested) -> None:
        """Write what became of the test split."""
        store(self.folder / TEST, tested.tensors(), {"format": FORMAT, "identity": identity})

    def read_test(self, identity: str) -> Tested:
        """What became of the test split."""
        path = self.folder / TEST
        tensors, about = stored(path, _ANEW)
        try:
            if about["identity"] != identity:
                raise foreign(path, _ANEW)
            return Tested.of(tensors)
        except (KeyError, TypeError) as error:
            raise foreign(path, _ANEW) from error

    def write_neurons(self, table: pa.Table) -> None:
        """Write the rankings."""
        with replacing(self.folder / "neurons.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def read_neurons(self) -> pa.Table:
        """The rankings, a row for every (subtask, layer, neuron)."""
        path = self.folder / "neurons.parquet"
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise SkillNeuronsError(f"{path} cannot be read ({error}). {_ANEW}") from error

    def read(self) -> dict[str, Any]:
        """run.json, of this version."""
        if self.unfinished.exists():
            raise SkillNeuronsError(f"{self.folder} holds an unfinished run; the same `find` command goes on with it.")
        path = self.folder / "run.json"
        about = _ours(path, "A run is a folder that `skillneurons find ... --out` has finished.")
        if about.get("format") != FORMAT:
            raise _other_version(path, about.get("format"))
        if "results" not in about:
            raise SkillNeuronsError(f"{path} is not whole. Remove it and run the same `find` command again.")
        return about

    def read_log(self) -> dict[str, Any]:
        """log.json, empty where it is gone: nothing rests on it."""
        path = self.folder / "log.json"
        return dict(read_json(path, "Remove it: nothing rests on it.")) if path.exists() else {}


_UNNAMED = re.compile(r"\.((trial-\d+|test|nulls|peers)\.safetensors|neurons\.parquet|\w+\.json|report\.html)\.\w{8}")
_AGAIN = "Remove it and run the same `find` command: it makes that trial anew."
_ANEW = "Remove it and run.json, and run the same `find` command again: it is made anew from the trials."


def _other_version(path: Path, found: object) -> SkillNeuronsError:
    return SkillNeuronsError(
        f"{path} is of format {found}, this version of skillneurons reads format {FORMAT}. Use the version that wrote "
        "it, or run `find` again into another --out."
    )


def _ours(path: Path, remedy: str) -> dict[str, Any]:
    about = read_json(path, remedy)
    if not isinstance(about, dict) or not all(isinstance(about.get(key), dict) for key in ("config", "fingerprints")):
        raise SkillNeuronsError(f"{path} was not written by skillneurons. {remedy}")
    return about


def _differences(held: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Each option and fingerprint in which the run that is held is another one, with both values."""
    pairs = {key: (held.get(key), about[key]) for key in ("format", "version")}
    for part in ("config", "fingerprints"):
        pairs |= {key: (held[part].get(key), here) for key, here in about[part].items()}
    named = {"model": "model", "data": "task"}  # fingerprints say more beside the name of what they are of
    return [
        f"{key} ({there} there, {here} here)"
        if key not in named
        else f"{key} ({held.get(named[key])}, {there} there; {about[named[key]]}, {here} here)"
        for key, (there, here) in pairs.items()
        if there != here
    ]
