"""Findings as steps: tune, score, rank; those under other conditions; what stands them side by side.

    tune(work); score(work); rank(work)               # by trials, by trials, then a run of them all
    finding(work)                                     # a whole one in a step, kept in short
    other_words(work); by_origin(work)

A run is made under its step's key, by the versions of the kinds that made it, and not under this package's version and
source as `find` does: the same step gives the same bytes under newer code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..evidence import label_words
from ..evidence.origins import DRAWN, HARD, RANDOM, TUNED, compared
from ..files import write_json
from ..finding.find import concluded, find, planned
from ..finding.nulls.nulls import redrawn
from ..finding.run import Run
from ..finding.score import score_trial
from ..finding.skill import SkillNeurons
from ..finding.stored import store, stored
from ..tuning.config import TuneConfig
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt
from ..tuning.tune import limited, tune_group
from .work import REMEDY, Work


def tune(work: Work) -> None:
    """Prompts of the trials that are tuned together; a rate that the first trial found serves the others."""
    trials: Sequence[int] = work.step.config["trials"]
    config = TuneConfig.make(**work.step.config["tuning"] | {"trials": work.bench.study.tuning.trials})  # to be told
    lr = [_prompt(folder, 0).lr for folder in work.inputs.values()]
    task, checkpoint = limited(work.task, config), work.state / "trials.safetensors"
    made = tune_group(work.model, task, config, trials, lr[0] if lr else None, checkpoint, work.state.name)
    for prompt in made:
        store(work.out / f"prompt-{prompt.trial}.safetensors", {"prompt": prompt.embedding}, prompt.record())


def score(work: Work) -> None:
    """A trial's prompt and scores, as a run keeps them."""
    [folder] = work.inputs.values()
    own = work.step.config
    prompt, task = _prompt(folder, own["trial"]), work.task.limited(train=own["train"], dev=own["dev"])
    found = score_trial(Inputs.beside(work.model, task, prompt), prompt)
    Run(work.out).write_trial(prompt.trial, work.key, prompt, found)


def rank(work: Work) -> None:
    """A run of all trials, whose files are those of the scores, byte for byte; without a log."""
    config = work.options(TuneConfig)
    task = limited(work.task, config)
    found = [Run(folder).read_trial(trial) for trial, folder in enumerate(work.inputs.values())]
    prompts, scores = zip(*(own for own in found if own is not None), strict=True)
    about = _by_key(work, planned(work.model, task, config), "tune", "score", "rank")
    about["trial_identities"] = [work.plan.keys[name] for name in work.inputs]
    concluded(work.model, task, config, about, prompts, scores, {"seconds": {}}).save(work.out)
    (work.out / "log.json").unlink()


def finding(work: Work) -> None:
    """A finding under other prompts, in a random model, or with other label words; in short: without its trials."""
    own = work.step.config
    config, words, task = TuneConfig.make(**own["tuning"]), own.get("words"), work.task
    if words:
        drawn = label_words.drawn_words(work.model, task, words["set"] + 1, words["seed"])[-1]
        task = replace(task, words=drawn, source=None)
    model = redrawn(work.model) if own.get("random_model") else work.model
    skill = find(model, task, config=config, out=work.state)
    run = Run(work.out)
    run.write_neurons(skill.neurons)
    run.write_test(work.key, skill.tested)
    write_json(work.out / "run.json", _by_key(work, skill.about, "finding"))


def other_words(work: Work) -> None:
    """Findings under other label words, side by side."""
    config = work.options(label_words.LabelWordConfig)
    skills = [_finding(folder) for folder in work.inputs.values()]
    label_words.compared(config, label_words.runs_of(work.model, work.task, config), skills).save(work.out)


def by_origin(work: Work) -> None:
    """Findings by their origins, side by side."""
    task = work.skill().task
    found = [work.skill(), *(_finding(folder) for folder in list(work.inputs.values())[1:])]
    named = zip((TUNED, RANDOM, HARD, DRAWN), found, strict=True)
    compared({origin: skill.with_task(task) for origin, skill in named}).save(work.out)


def _prompt(folder: Path, trial: int) -> Prompt:
    tensors, record = stored(folder / f"prompt-{trial}.safetensors", REMEDY)
    return Prompt.from_record(tensors["prompt"], record)


def _finding(folder: Path) -> SkillNeurons:
    """What `finding` wrote."""
    run = Run(folder)
    about = run.read()
    return SkillNeurons(about, run.read_neurons(), (), (), run.read_test(about["identity"]))


def _by_key(work: Work, about: Mapping[str, Any], *kinds: str) -> dict[str, Any]:
    """A run as made by these kinds' versions, under the step's key: the same under newer code."""
    made = ", ".join(f"{kind} {work.plan.versions[kind]}" for kind in kinds)
    prints = about["fingerprints"] | {"code": made}
    return {**about, "version": made, "fingerprints": prints, "identity": work.key}
