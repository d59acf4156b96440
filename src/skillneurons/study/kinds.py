"""What each kind of step does, and the version of its results.

    KINDS["score"].does(work)               # writes its output into work.out
    VERSIONS["score"]

Whoever changes what a kind gives raises its version, and steps of this kind and all that rest on them are done anew.
A step is a pure function of its configuration, the model, its tasks and its inputs: nothing else may reach its output,
neither times nor places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..evidence.choices import choices
from ..evidence.config import PerturbConfig, SteerConfig
from ..evidence.correlation import correlate
from ..evidence.curves import Curves, perturb
from ..evidence.importance import Importance, mean_importance, of_curves
from ..evidence.label_words import LabelWordConfig, label_words
from ..evidence.orders import Order, of_run, of_scores
from ..evidence.origins import origins
from ..evidence.pooled import pooled
from ..evidence.selectivity import Selectivity, selectivity
from ..evidence.steering import steer
from ..evidence.words import WordConfig, words
from ..finding.find import find, planned
from ..finding.nulls.config import NullConfig
from ..finding.nulls.nulls import nulls
from ..finding.run import Run
from ..finding.score import score_trial
from ..finding.stored import store, stored
from ..pruning.config import PruneConfig
from ..pruning.prune import prune
from ..transferring.config import TransferConfig
from ..transferring.transfer import transfer
from ..tuning.config import AdapterConfig, BitFitConfig, TuneConfig
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt
from ..tuning.tune import tune_group
from ..tuning.tuned import Method, Tuned, tune_weights
from .drawing import draw
from .work import Work

METHODS: Mapping[str, type[Method]] = {"adapter": AdapterConfig, "bitfit": BitFitConfig}
_REMEDY = "Run `skillneurons store verify`, and the study again."


@dataclass(frozen=True)
class Kind:
    """A kind of step: the version of its results, and the function that makes them."""

    version: int
    does: Callable[[Work], None]


def tune(work: Work) -> None:
    """Prompts of the trials that are tuned together; a rate that the first trial found serves the others."""
    trials: Sequence[int] = work.step.config["trials"]
    config = TuneConfig.make(**work.step.config["tuning"])
    lr = [_prompt(folder, 0).lr for folder in work.inputs.values()]
    made = tune_group(
        work.model, work.task, config, trials, lr[0] if lr else None, work.state / "trials.safetensors", work.state.name
    )
    for prompt in made:
        store(work.out / f"prompt-{prompt.trial}.safetensors", {"prompt": prompt.embedding}, prompt.record())


def score(work: Work) -> None:
    """A trial's prompt and scores, as a run keeps them."""
    [folder] = work.inputs.values()
    prompt = _prompt(folder, work.step.config["trial"])
    found = score_trial(Inputs.beside(work.model, work.task, prompt), prompt)
    Run(work.out).write_trial(prompt.trial, "", prompt, found)


def rank(work: Work) -> None:
    """A run of all trials, without its log."""
    config = work.options(TuneConfig)
    identity = planned(work.model, work.task, config)["identity"]
    for trial, folder in enumerate(work.inputs.values()):
        found = Run(folder).read_trial(trial)
        assert found is not None
        Run(work.out).write_trial(trial, identity, *found)
    find(work.model, work.task, config=config, out=work.out)
    (work.out / "log.json").unlink()


def curves(work: Work) -> None:
    """Perturbation curves in the task's order, those of the other tasks, and by index; by what was tuned, if given."""
    config, own, *others = work.options(PerturbConfig), *work.step.tasks
    skill = work.skill()
    orders: list[Order] = [of_run(other, work.skill(other), config.scope) for other in others]
    if (folder := work.inputs.get(f"selectivity/{own}")) is not None:
        by_index = Selectivity.load(folder).orders()
        orders += [of_scores(name, own, skill.widths, config.seed, config.scope) for name, own in by_index.items()]
    tuned = [
        Tuned.load(path)
        for name, folder in work.inputs.items()
        if name.startswith("tuned-")
        for path in sorted(folder.glob("*.safetensors"), key=lambda path: int(path.stem.rpartition("-")[2]))
    ]
    perturb(work.model, skill, orders=orders, tuned=tuned, config=config, out=work.state).save(work.out)


def tune_method(work: Work) -> None:
    """Adapters or biases of all trials."""
    method = METHODS[work.step.config["method"]["method"]].make(**work.step.config["method"])
    config = TuneConfig.make(**work.step.config["tuning"])
    for trial, tuned in enumerate(tune_weights(work.model, work.task, method, config=config, out=work.state)):
        tuned.save(work.out / f"{method.method}-{trial}.safetensors")


def importance(work: Work) -> None:
    """The importance that curves tell; of several ways of tuning, their mean."""
    found: list[Importance] = []
    for of in work.step.config["of"]:
        own = {task: Curves.load(work.inputs[f"{of}/{task}"]) for task in work.step.tasks}
        found.append(of_curves(own, *work.skills()))
    (found[0] if len(found) == 1 else mean_importance(*found)).save(work.out)


def held(work: Work) -> None:
    """A finding beside its nulls; what takes long is kept as it goes."""
    nulls(work.model, replace(work.skill(), folder=work.state), config=work.options(NullConfig)).save(work.out)


def other_words(work: Work) -> None:
    """Findings under other label words, side by side."""
    label_words(work.model, work.task, config=work.options(LabelWordConfig), out=work.state).save(work.out)


def _prompt(folder: Path, trial: int) -> Prompt:
    tensors, record = stored(folder / f"prompt-{trial}.safetensors", _REMEDY)
    return Prompt.from_record(tensors["prompt"], record)


KINDS: Mapping[str, Kind] = {
    "tune": Kind(1, tune),
    "score": Kind(1, score),
    "rank": Kind(1, rank),
    "nulls": Kind(1, held),
    "curves": Kind(1, curves),
    "tune-method": Kind(1, tune_method),
    "importance": Kind(1, importance),
    "correlation": Kind(1, lambda work: correlate(*work.skills()).save(work.out)),
    "selectivity": Kind(1, lambda work: selectivity(work.model, work.skill()).save(work.out)),
    "pooled": Kind(1, lambda work: pooled(work.model, work.skill()).save(work.out)),
    "choices": Kind(1, lambda work: choices(work.skill()).save(work.out)),
    "words": Kind(
        1, lambda work: words(work.model, work.skill(), config=work.options(WordConfig)).save(work.out)
    ),
    "label-words": Kind(1, other_words),
    "origins": Kind(
        1, lambda work: origins(work.model, work.task, skill=work.skill(), out=work.state).save(work.out)
    ),
    "steering": Kind(1, lambda work: steer(work.model, work.skill(), config=work.options(SteerConfig)).save(work.out)),
    "prune": Kind(
        1,
        lambda work: prune(
            work.model, work.skill(), config=work.options(PruneConfig), out=work.state
        ).costs.save(work.out),
    ),
    "transfer": Kind(
        1,
        lambda work: transfer(
            work.model, *work.skills(), config=work.options(TransferConfig), out=work.state
        ).save(work.out),
    ),
    "draw": Kind(1, draw),
}  # fmt: skip
VERSIONS: Mapping[str, int] = {name: kind.version for name, kind in KINDS.items()}
