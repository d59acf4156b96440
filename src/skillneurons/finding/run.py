"""The directory of one finding (section 4.4 of the design; docs/run-directory.md).

While a finding is under way its folder holds `unfinished/`, with the plan and the tuning's state; finished trials
stand beside it, each whole or absent. What belongs together is told by `identity`, a hash of the configuration,
model, data, split and code: a run goes on only with the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import read_json, replacing, unwritable, write_json
from ..tuning.prompt import Prompt
from .score import TrialScores

FORMAT = 1
TASK = "task"
"""The folder of a run's task that was made in memory."""
_KEY = "skillneurons"  # one key of metadata, as safetensors writes several in no fixed order


class Stored(Mapping[str, Tensor]):
    """A safetensors file's tensors, read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        with _opened(path) as file:
            self._names = sorted(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with _opened(self.path) as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
        """The finding is whole: its state of work is no longer needed, nor what a killed writer left."""
        for left in self.folder.glob(".*"):
            if left.name.startswith((".trial-", ".neurons.parquet.", ".log.json.", ".run.json.")):
                left.unlink(missing_ok=True)
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def write_trial(self, trial: int, identity: str, prompt: Prompt, scores: TrialScores) -> None:
        """Write a trial's prompt and scores."""
        about = {
            "format": FORMAT, "identity": identity, "prompt": prompt.record(), "totals": scores.totals.tolist(),
            "weighted": scores.weighted, "layers": scores.layers,
        }  # fmt: skip
        tensors = {"prompt": prompt.embedding, **scores.tensors}
        path = self.trial(trial)
        with replacing(path) as temporary:
            try:
                save_file(
                    {name: tensor.contiguous() for name, tensor in tensors.items()},
                    temporary,
                    {_KEY: json.dumps(about)},
                )
            except SafetensorError as error:
                raise unwritable(path, error) from error

    def read_trial(self, trial: int, identity: str | None = None) -> tuple[Prompt, TrialScores] | None:
        """A trial's prompt and scores; None where there is no such file, or one that `identity` does not fit."""
        path = self.trial(trial)
        if not path.exists():
            return None
        tensors = Stored(path)
        with _opened(path) as file:
            metadata = file.metadata() or {}
        try:
            about = json.loads(metadata[_KEY])
            if about["format"] != FORMAT:
                raise _other_version(path, about["format"])
            if identity is not None and about["identity"] != identity:
                return None
            prompt = Prompt.from_record(tensors["prompt"], about["prompt"])
            return prompt, TrialScores(tensors, np.array(about["totals"]), about["weighted"], about["layers"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise _foreign(path) from error

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
            raise SkillNeuronsError(
                f"{path} cannot be read ({error}). Remove it and run.json, and run the same `find` command again: it "
                "is made anew from the trials."
            ) from error

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


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except FileNotFoundError:
        raise SkillNeuronsError(f"{path} is missing from its run; restore it, or run `find` again elsewhere.") from None
    except (OSError, SafetensorError) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> SkillNeuronsError:
    return SkillNeuronsError(
        f"{path} is truncated, or no trial's file. Remove it and run the same `find` command: it makes that trial anew."
    )


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
