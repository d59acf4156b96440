"""Prune a model to the skill neurons of a run, and tune the run's prompts further on it (section 6.1).

    small = prune(model, skill, keep=0.02, layers=range(3, 12))
    small                                       # what it costs; small.table(), small.verdict, small.plot()
    evaluate(small.model(0), skill.task, small.prompts[0])
    small.save("small")                         # the trial that is best on dev, as a folder to ship

Each trial is frozen at its own means, beside its own prompt. With `baseline="auto"` both kinds of means are tried on
the run's prompts as they are, and the one that answers better on dev, over trials, goes on. A prompt that is tuned
further begins as the run left it, and is kept as it was where nothing better on dev was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from ..errors import SkillNeuronsError
from ..evidence.result import told
from ..files import digest
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..finding.stored import Stored, store, stored
from ..models import Backbone, NeuronSet
from ..progress import say
from ..tuning.config import TuneConfig
from ..tuning.evaluate import evaluate_inputs
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt
from ..tuning.train import Job, train
from ..tuning.tune import choose_rate
from .config import Baseline, PruneConfig
from .costs import DENSE, Costs
from .cut import Means, cut, parameters
from .means import of_run, reestimated, staying
from .pruned import Pruned

FORMAT = 1


def prune(
    model: Backbone,
    skill: SkillNeurons,
    *,
    config: PruneConfig | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Pruned:
    """Keep the skill neurons of a run in some layers of its model, and freeze the others at their means.

    Options are those of `PruneConfig`. With `out` every finished trial is kept there: the same call goes on where a
    killed one stopped, and runs nothing where all is there. Raises `SkillNeuronsError` where the run is of another
    model, for layers that it does not have, and where its FFNs cannot be cut.
    """
    config = config or PruneConfig.make(**options)
    refuse_foreign(model, skill)
    layers = config.chosen(model.layers)
    work = _Work(model, skill, config, staying(skill, config, layers), layers, None if out is None else Path(out))
    trials = range(len(skill.prompts))
    tried: dict[Baseline, list[_Tried]] = {
        baseline: [work.frozen(trial, baseline) for trial in trials] for baseline in config.baselines
    }
    on_dev = {baseline: float(np.mean([own.prompt.accuracy for own in found])) for baseline, found in tried.items()}
    better = max(config.baselines, key=lambda baseline: on_dev[baseline])  # a tie goes to the smaller one
    if len(on_dev) > 1:
        both = ", ".join(f"{100 * own:.1f} % with {baseline}" for baseline, own in on_dev.items())
        say(f"baseline {better}: accuracy on dev {both}")
    last = [work.tuned(trial, better, tried[better][trial]) for trial in trials] if config.tune else []
    costs = _costs(work, tried, better, last)
    if out is not None:
        costs.save(out)
    return Pruned(
        costs, model, skill, work.kept, layers, tuple(own.prompt for own in last or tried[better]),
        {trial: own.means for trial, own in enumerate(tried[better]) if own.means is not None},
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Tried:
    """One trial's model with one baseline: the prompt, with its accuracy on dev beside this model, and test."""

    prompt: Prompt
    right: Bool[np.ndarray, " sample"]
    parameters: int
    means: Means | None = None


class _Work:
    """What is tried, each once, kept in a file as soon as it is known."""

    def __init__(
        self, model: Backbone, skill: SkillNeurons, config: PruneConfig, kept: NeuronSet, layers: Sequence[int],
        out: Path | None,
    ) -> None:  # fmt: skip
        self.model, self.skill, self.config, self.kept, self.layers, self.out = model, skill, config, kept, layers, out
        own = config.model_dump(include={"keep", "scope", "reestimate"}) | {"layers": list(layers)}
        self.identity = digest(json.dumps([FORMAT, version("skillneurons"), own]), skill.about["identity"])

    def frozen(self, trial: int, baseline: Baseline) -> _Tried:
        """The model with all others frozen, the prompt as the run left it."""
        path, identity = self._path(trial, baseline), self.identity
        if (there := self._kept(path, identity)) is not None:
            return there
        means, prompt, task = None, self.skill.prompts[trial], self.skill.task
        if self.config.reestimate:
            means = reestimated(self.model, self.skill, trial, self.kept, self.layers, baseline == "one")
        small = self._cut(trial, baseline, means)
        label = f"trial {trial + 1}: pruned, dev"
        dev = evaluate_inputs(Inputs.beside(small, task, prompt), prompt.embedding, "dev", label)
        return self._keep(path, identity, self._tested(small, replace(prompt, accuracy=dev.accuracy), means))

    def tuned(self, trial: int, baseline: Baseline, before: _Tried) -> _Tried:
        """The same with the prompt tuned further."""
        path = self._path(trial, f"{baseline}-tuned")
        identity = digest(self.identity, json.dumps([self.config.steps, self.config.lr]))
        if (there := self._kept(path, identity)) is not None:
            return there
        small, start = self._cut(trial, baseline, before.means), before.prompt
        checkpoint = None if path is None else path.with_name(f"{path.stem}.unfinished.safetensors")
        prompt = tuned_further(small, self.skill, start, self.config, checkpoint, identity)
        found = replace(before, means=None) if prompt.accuracy < start.accuracy else self._tested(small, prompt)
        self._keep(path, identity, found)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        return found

    def _cut(self, trial: int, baseline: Baseline, means: Means | None) -> Backbone:
        return cut(self.model, self.kept, self.layers, means or of_run(self.skill, trial), baseline == "one")

    def _tested(self, small: Backbone, prompt: Prompt, means: Means | None = None) -> _Tried:
        label = f"trial {prompt.trial + 1}: pruned, test"
        found = evaluate_inputs(Inputs.beside(small, self.skill.task, prompt), prompt.embedding, "test", label)
        return _Tried(prompt, found.correct, parameters(small), means)

    def _path(self, trial: int, what: str) -> Path | None:
        return None if self.out is None else self.out / f"trial-{trial}-{what}.safetensors"

    def _keep(self, path: Path | None, identity: str, found: _Tried) -> _Tried:
        if path is not None:
            tensors = {"prompt": found.prompt.embedding, "right": torch.from_numpy(found.right)}
            tensors |= {f"mean.{layer}": mean for layer, mean in enumerate(found.means or ())}
            about = {"identity": identity, "prompt": found.prompt.record(), "parameters": found.parameters}
            store(path, tensors, about)
        return found

    def _kept(self, path: Path | None, identity: str) -> _Tried | None:
        """What an earlier call found; None where it is not there, not whole, or of another pruning."""
        if path is None or not path.exists():
            return None
        try:
            tensors, about = stored(path, "")
            if about["identity"] != identity:
                return None
            prompt = Prompt.from_record(tensors["prompt"], about["prompt"])
            return _Tried(prompt, tensors["right"].numpy(), about["parameters"], _means(tensors))
        except (SkillNeuronsError, KeyError):
            return None


def tuned_further(
    model: Backbone,
    skill: SkillNeurons,
    prompt: Prompt,
    config: PruneConfig,
    checkpoint: Path | None = None,
    identity: str = "",
) -> Prompt:
    """A run's prompt, tuned further beside a pruned model by the run's own loop; what stands in a table stays."""
    inputs = Inputs.beside(model, skill.task, prompt)
    options = skill.config.model_dump() | {"prompt": "soft", "positions": prompt.positions, "lr": prompt.lr}
    given = {"steps": config.steps, "lr": config.lr}
    options |= {name: value for name, value in given.items() if value is not None}
    tuning = TuneConfig.make(**options | ({"lr": skill.config.lr} if options["lr"] is None else {}))
    lr = choose_rate(inputs, tuning) if tuning.lr == "auto" else tuning.lr
    [found] = train([Job(inputs, prompt.trial, lr, start=prompt.embedding)], tuning, checkpoint, identity)
    return found


def _means(tensors: Stored) -> Means | None:
    names = [name for name in tensors if name.startswith("mean.")]
    return [tensors[f"mean.{layer}"] for layer in range(len(names))] or None


def _costs(work: _Work, tried: Mapping[Baseline, Sequence[_Tried]], better: Baseline, last: Sequence[_Tried]) -> Costs:
    skill, whole = work.skill, parameters(work.model)
    dense = [
        _Tried(prompt, predicted == skill.tested.labels, whole)
        for prompt, predicted in zip(skill.prompts, skill.tested.predicted, strict=True)
    ]
    found = [(DENSE, False, dense), *((name, False, own) for name, own in tried.items()), (better, True, last)]
    rows = [
        {
            "trial": trial, "baseline": name, "retuned": retuned, "dev": own.prompt.accuracy,
            "test": float(own.right.mean()), "parameters": own.parameters, "share": own.parameters / whole,
        }
        for name, retuned, each in found
        for trial, own in enumerate(each)
    ]  # fmt: skip
    right = np.stack([own.right for _, _, each in found for own in each]).astype(np.uint8)
    about = told(Costs.version, work.config, skill) | {
        "model": skill.about["model"], "task": skill.about["task"], "trials": len(dense), "seed": skill.config.seed,
        "majority": skill.about["majority"], "layers": list(work.layers), "neurons": len(work.kept),
        "baseline": better, "retuned": bool(last),
    }  # fmt: skip
    return Costs(about, rows, {"right": torch.from_numpy(right)})
