"""The command that gives a part of a page by itself, as a line to copy.

    command("perturb", "runs/sst2", config)          # skillneurons perturb runs/sst2 --relative --std 1.0
    of_experiment(study, "origins", ["sst2"])         # one for each task
    of_run(about, "runs/sst2", nulls, peers)          # the `find` that made a run

An option stands in the line where it differs from its default, whatever the configuration.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..config import Config
from ..finding.nulls.config import NullConfig
from ..study.config import TOGETHER, StudyConfig
from ..tuning.config import TuneConfig


def command(*parts: str | Config, only: Collection[str] | None = None, **given: Any) -> str:
    """A line of `skillneurons`: words as they stand, then the options of configurations, then those `given`.

    `only` names the options that the command has, where it has not all of its configuration's. An option `given` is
    left out where it is None or False.
    """
    words = [part for part in parts if isinstance(part, str)]
    for part in parts:
        if isinstance(part, Config):
            words += _options(part, only)
    for name, value in given.items():
        if value is not None and value is not False:
            words += _option(name, value)
    return shlex.join(["skillneurons", *words])


def _options(config: Config, only: Collection[str] | None) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if value != field.get_default(call_default_factory=True) and (only is None or name in only):
            yield from _option(name, value)


def _option(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *(str(own) for own in (value if isinstance(value, (tuple, list)) else [value]))]


def of_run(about: Mapping[str, Any], folder: str, nulls: NullConfig | None = None, peers: bool = False) -> str:
    """The `find` command of a run, from its run.json; where its task was in memory, on the copy in its `folder`."""
    source = about["source"]
    return command(
        "find", source["model"], source["task"] or f"{folder}/task", TuneConfig.make(**about["config"]),
        *([] if nulls is None else [nulls]), peers=peers, random_weights=source["random_weights"],
        dtype=None if source["dtype"] == "float32" else source["dtype"],
    )  # fmt: skip


def of_experiment(study: StudyConfig, experiment: str, names: Sequence[str]) -> tuple[str, ...]:
    """The commands that give an experiment of a study by itself, one for each task or one for all.

    `names` are the tasks', in the study's order; runs are taken to be where `find` puts them.
    """
    runs = [f"runs/{name}" for name in names]
    if experiment in TOGETHER:
        return tuple(_of_all(study, experiment, runs))
    found = zip(study.tasks, names, runs, strict=True)
    return tuple(_of_one(study, experiment, task, name, run) for task, name, run in found)


def _of_all(study: StudyConfig, experiment: str, runs: Sequence[str]) -> Iterator[str]:
    if experiment == "correlation":
        yield command("correlate", *runs)
    elif experiment == "transfer":
        yield command("transfer", *runs, study.transfer)
    elif experiment == "importance":
        yield command("importance", *runs, study.perturbation)
    elif experiment == "importance-relative":
        yield command("importance", *runs, study.perturbation_relative)
    else:
        for by in ("adapter", "bitfit"):
            yield command("importance", *runs, study.perturbation_relative, by=by, out=f"runs/importance-{by}")


def _of_one(study: StudyConfig, experiment: str, task: str, name: str, run: str) -> str:
    model, tuning = study.model, study.tuning
    dtype = None if model.dtype == "float32" else model.dtype
    made = (model.source, task, tuning)
    match experiment:
        case "perturbation":
            return command("perturb", run, study.perturbation)
        case "perturbation-relative":
            return command("perturb", run, study.perturbation_relative)
        case "adapter" | "bitfit":
            return command("perturb", run, study.perturbation_relative, by=experiment)
        case "words":
            return command("words", run, study.words, only=("split", "least"))
        case "steering":
            return command("steer", run, study.steering)
        case "prune":
            return command("prune", run, study.prune)
        case "pooled" | "choices" | "selectivity":
            return command(experiment, run)
        case "origins":
            return command("origins", *made, out=f"{run}-origins", dtype=dtype, sites=model.sites)
        case "label-words":
            return command("label-words", model.source, task, study.label_word_options, dtype=dtype, sites=model.sites)
        case "nulls":
            return command("find", *made, study.nulls, out=run, dtype=dtype, sites=model.sites)
        case _:  # findings, stability
            return command("find", *made, out=run, dtype=dtype, sites=model.sites)
