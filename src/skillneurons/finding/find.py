"""Find the skill neurons of a model for a task: tune, score, rank, test.

skill = find(model, task, trials=5)
skill = find(model, task, preset="quick", trials=3, out="runs/sst2")    # written as it goes; goes on after a kill
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import digest
from ..models import Backbone
from ..progress import say
from ..tasks import Task
from ..tuning.config import TuneConfig
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt, hard_prompts
from ..tuning.tune import groups, limited, trials, tune_group
from .measure import measure
from .ranking import rank, reduce_trial
from .run import FORMAT, Run
from .score import TrialScores, score_trial
from .sides import side_counts
from .skill import SkillNeurons, plan_of


def find(
    model: Backbone,
    task: Task,
    *,
    config: TuneConfig | None = None,
    preset: str = "paper",
    out: str | Path | None = None,
    **options: Any,
) -> SkillNeurons:
    """Find the skill neurons of `model` for `task`.

    Options are those of `TuneConfig` (`trials`, `positions`, `steps`, `seed` ...), on top of a `preset`; `config`
    gives them all at once. With `out` every finished step is kept there: the same call goes on where a killed one
    stopped, and returns at once where the run is whole. Raises `SkillNeuronsError` where `out` holds another run.
    """
    config = config or TuneConfig.preset(preset, **options)
    task = limited(task, config)
    if not task.binary:  # whose subtasks are measured with both sides weighing the same
        side_counts(task, "test")
    about = planned(model, task, config)
    run = None if out is None else Run(Path(out))
    if run is not None:
        run.begin(about)
        if run.finished:
            say(f"{run.folder} holds this run already, finished.")
            return SkillNeurons.load(run.folder)
    log: dict[str, Any] = {"environment": _environment(model), "seconds": {}}
    prompts: list[Prompt] = []
    scores: list[TrialScores] = []
    for group in groups(task, config):
        for prompt, own in _trials(model, task, config, group, about["identity"], run, prompts, log):
            prompts.append(prompt)
            scores.append(own)
    skill = concluded(model, task, config, about, prompts, scores, log)
    if run is None:
        return skill
    skill.save(run.folder)
    return SkillNeurons.load(run.folder)


def concluded(
    model: Backbone,
    task: Task,
    config: TuneConfig,
    about: Mapping[str, Any],
    prompts: Sequence[Prompt],
    scores: Sequence[TrialScores],
    log: dict[str, Any],
) -> SkillNeurons:
    """What the trials of a finding come to: ranked, and measured on test; `about` and `task` as `planned` has them."""
    names = [subtask.name for subtask in task.subtasks]
    table = rank([reduce_trial(own) for own in scores], model.widths, names, task.name, config.seed)
    inputs = [Inputs.beside(model, task, prompt) for prompt in prompts]
    with _timed(log, "test"):
        results, tested = measure(inputs, prompts, scores, table.to_pandas(), config.seed)
    whole = {
        **about,
        "positions": prompts[0].positions,
        "cut": {split: inputs[0].tokens(split).cut for split in ("train", "dev", "test")},
        "totals": scores[0].totals.tolist(),
        "tuning": [prompt.record() for prompt in prompts],
        "results": results,
    }
    return SkillNeurons(whole, table, prompts, scores, tested, log, _task=task)


def _trials(
    model: Backbone, task: Task, config: TuneConfig, group: Sequence[int], identity: str, run: Run | None,
    earlier: Sequence[Prompt], log: dict[str, Any],
) -> Iterator[tuple[Prompt, TrialScores]]:  # fmt: skip
    """The trials of a group, from their files where these are whole."""
    kept = {trial: None if run is None else run.read_trial(trial, identity) for trial in group}
    lr = earlier[0].lr if earlier else None
    prompts: Sequence[Prompt | None] = [None] * len(group)
    if None in kept.values():
        checkpoint = None if run is None else run.checkpoint(group[0])
        with _timed(log, f"{_named(group)}: tuning"):
            prompts = tune_group(model, task, config, group, lr, checkpoint, identity)
    for trial, prompt in zip(group, prompts, strict=True):
        if (there := kept[trial]) is not None:
            yield there
            continue
        assert prompt is not None
        with _timed(log, f"trial {trial}: scoring"):
            scores = score_trial(Inputs.beside(model, task, prompt), prompt, f"/{trials(task, config)}")
        if run is None:
            yield prompt, scores
            continue
        run.write_trial(trial, identity, prompt, scores)
        written = run.read_trial(trial, identity)
        assert written is not None
        yield written


def _named(group: Sequence[int]) -> str:
    return f"trial {group[0]}" if len(group) == 1 else f"trials {group[0]} to {group[-1]}"


def planned(model: Backbone, task: Task, config: TuneConfig) -> dict[str, Any]:
    """What run.json says before any work, of a task that is limited already; the same for the same work."""
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": version("skillneurons"),
        "model": model.name,
        "task": task.name,
        "kind": task.kind,
        "trials": trials(task, config),
        "labels": list(task.labels),
        "words": {word.label: word.form for word in model.label_words(task.words)},
        "majority": task.majority("test"),
        "sizes": dict(task.sizes),
        "seeds": {"trials": config.seed, "split": task.seed},
        "subtasks": [
            {"name": own.name, "positive": list(own.positive), "negative": list(own.negative)} for own in task.subtasks
        ],
        "layers": list(model.widths),
        "config": config.model_dump(),
        "source": {
            "model": str(Path(model.name).resolve()) if Path(model.name).exists() else model.name,
            "random_weights": model.random,
            "dtype": str(model.model.dtype).removeprefix("torch."),
            "task": task.source,
        },
        "fingerprints": {
            "model": model.fingerprint,
            "data": task.fingerprint,
            "split": task.split_fingerprint,
            "code": code(),
        },
    }
    if config.prompt == "hard":
        about["fingerprints"]["prompts"] = digest(*hard_prompts(task))
    return about | {"identity": digest(repr(plan_of(about)))}


def code() -> str:
    """A hash of this package's own source."""
    root = Path(__file__).parents[1]
    return digest(*(part for path in sorted(root.rglob("*.py")) for part in (path.name, path.read_bytes())))


def _environment(model: Backbone) -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "scikit-learn", "safetensors")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in packages},
    }


@contextmanager
def _timed(log: dict[str, Any], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    log["seconds"][what] = float(np.round(time.perf_counter() - began, 2))
