"""The steps of a study, drafted from its file and from what its tasks are like.

    steps = draft(study, {"sst2": Sizes(54_000, 13_000, 872)})       # plan.py gives them keys

Names tell what a step is of: `tune/sst2/0`, `score/sst2/0`, `rank/sst2`; then `<experiment>/<task>`, or `<experiment>`
where it is of all tasks together; at last `draw/<experiment>`, its tables and figures. Costs are what a step asks of
the model at most: where tuning stops early it is less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from ..config import Config
from ..evidence.config import PerturbConfig
from ..pruning.config import PruneConfig
from ..tasks import Task
from ..tuning.tune import RATES, ROUNDS
from .config import TOGETHER, Experiment, StudyConfig
from .step import Cost, Step

CURVES_OF: Mapping[Experiment, tuple[Experiment, ...]] = {
    "importance": ("perturbation",),
    "importance-relative": ("perturbation-relative",),
    "importance-tuned": ("adapter", "bitfit"),
}


@dataclass(frozen=True)
class Sizes:
    """What a task is like, as far as its steps' costs go: samples, labels, hard prompts."""

    train: int
    dev: int
    test: int
    labels: int = 2
    hard: int = 1

    @classmethod
    def of(cls, task: Task) -> Sizes:
        """Those of a task that is loaded."""
        return cls(**task.sizes, labels=len(task.labels), hard=max(1, len(task.prompts)))


def draft(study: StudyConfig, tasks: Mapping[str, Sizes], biases: bool = True) -> list[Step]:
    """The steps of a study on these tasks; without `biases` in the model's layers, none of BitFit."""
    return list(_Draft(study, tasks, biases).steps())


@dataclass(frozen=True)
class _Draft:
    """The study and its tasks, while their steps are made."""

    study: StudyConfig
    tasks: Mapping[str, Sizes]
    biases: bool

    def wanted(self, *names: Experiment) -> list[Experiment]:
        """Those of the experiments that are to be, in this order."""
        chosen = [name for name in self.study.chosen if name != "bitfit" or self.biases]
        return [name for name in names if name in chosen]

    def steps(self) -> Iterator[Step]:
        """All steps."""
        for task, sizes in self.tasks.items():
            yield from self.finding(task, sizes)
        for task, sizes in self.tasks.items():
            yield from self.of_task(task, sizes)
        yield from self.together()
        yield from self.drawn()

    def finding(self, task: str, sizes: Sizes) -> Iterator[Step]:
        """Tune, score, rank."""
        tuning = self.study.tuning
        own = _plain(tuning)
        del own["trials"]
        first = f"tune/{task}/0"
        for start in range(0, tuning.trials, tuning.together):
            group = list(range(start, min(start + tuning.together, tuning.trials)))
            name = f"tune/{task}/{start}"
            inputs = (first,) if start and tuning.lr == "auto" else ()
            rate = 0 if start or tuning.lr != "auto" else _rate_steps() * tuning.batch
            costs = (self.tuned(sizes, len(group)), Cost(tuning.positions, 0, rate))
            yield Step(name, "tune", {"tuning": own, "trials": group}, (task,), inputs, costs)
            for trial in group:
                cost = Cost(tuning.positions, sizes.train + sizes.dev)
                yield Step(f"score/{task}/{trial}", "score", {"trial": trial}, (task,), (name,), (cost,))
        scores = tuple(f"score/{task}/{trial}" for trial in range(tuning.trials))
        yield Step(f"rank/{task}", "rank", _plain(tuning), (task,), scores, (self.measured(sizes, tuning.trials),))

    def of_task(self, task: str, sizes: Sizes) -> Iterator[Step]:
        """The experiments on a single task."""
        study, tuning, run = self.study, self.study.tuning, (f"rank/{task}",)
        trials, positions = tuning.trials, tuning.positions
        watched = trials * sizes.dev

        def step(kind: Experiment, config: Config | None, *costs: Cost) -> Iterator[Step]:
            if self.wanted(kind):
                yield Step(f"{kind}/{task}", kind, {} if config is None else _plain(config), (task,), run, costs)

        shuffles = 2 if study.nulls.permutations else 0
        again = () if study.nulls.null == "none" else self.found(sizes, trials)
        yield from step("nulls", study.nulls, Cost(positions, shuffles * watched), *again)
        yield from step("selectivity", None, Cost(positions, watched))
        yield from step("pooled", None, Cost(0, sizes.train + sizes.dev))
        yield from step("choices", None)
        yield from step("words", study.words, Cost(positions, getattr(sizes, study.words.split)))
        words = study.label_word_options
        several = [own for _ in range(words.sets + words.seeds) for own in self.found(sizes, words.trials)]
        yield from step("label-words", words, *several)
        untuned = [own for _ in range(2) for own in self.found(sizes, trials, tuned=False)]
        hard = self.found(sizes, min(trials, sizes.hard), tuned=False)
        yield from step("origins", None, *untuned, *hard)
        pushes = 2 * len(study.steering.doses) * (1 + study.steering.draws)
        yield from step(
            "steering", study.steering, Cost(positions, pushes * trials * getattr(sizes, study.steering.split))
        )
        yield from step("prune", study.prune, *self.pruned(study.prune, sizes))
        yield from self.curves("perturbation", task, sizes, study.perturbation)
        yield from self.curves("perturbation-relative", task, sizes, study.perturbation_relative)
        for method in self.methods():
            own = study.adapter if method == "adapter" else study.bitfit
            tuned, options = f"tuned-{method}/{task}", {"method": _plain(own), "tuning": _plain(tuning)}
            yield Step(tuned, "tune-method", options, (task,), (), (self.tuned(sizes, trials, 0),))
            yield from self.curves(method, task, sizes, study.perturbation_relative, tuned)

    def curves(
        self, name: Experiment, task: str, sizes: Sizes, config: PerturbConfig, tuned: str | None = None
    ) -> Iterator[Step]:
        """Curves, where they are asked for or what rests on them is."""
        resting = [own for own, of in CURVES_OF.items() if name in of]
        if not self.wanted(name, *resting):
            return
        others = tuple(other for other in self.tasks if other != task) if self.wanted(*resting) else ()
        inputs = [f"rank/{own}" for own in (task, *others)]
        if tuned is None and self.wanted("selectivity"):
            inputs.append(f"selectivity/{task}")
        elif tuned is not None:
            inputs.append(tuned)
        samples = getattr(sizes, config.split)
        samples = min(samples, config.limit or samples)
        orders = len(inputs) + config.bottom + config.draws - (tuned is not None)
        trials = self.study.tuning.trials
        cost = Cost(
            self.study.tuning.positions if tuned is None else 0,
            trials * (1 + orders * (len(config.shares) - 1)) * samples + (trials * sizes.dev if config.relative else 0),
        )
        yield Step(f"{name}/{task}", "curves", _plain(config), (task, *others), tuple(inputs), (cost,))

    def together(self) -> Iterator[Step]:
        """The experiments on all tasks."""
        tasks, runs = tuple(self.tasks), tuple(f"rank/{task}" for task in self.tasks)
        for name in self.wanted("importance", "importance-relative", "importance-tuned"):
            of = self.methods() if name == "importance-tuned" else list(CURVES_OF[name])
            inputs = tuple(f"{own}/{task}" for own in of for task in tasks)
            yield Step(name, "importance", {"of": of}, tasks, runs + inputs)
        for name in self.wanted("correlation"):
            yield Step(name, "correlation", {}, tasks, runs)
        for name in self.wanted("transfer"):
            passed = (len(tasks) - 1) * self.study.tuning.trials * sum(own.test for own in self.tasks.values())
            cost = Cost(self.study.tuning.positions, passed)
            yield Step(name, "transfer", _plain(self.study.transfer), tasks, runs, (cost,))

    def drawn(self) -> Iterator[Step]:
        """Tables and figures."""
        tasks = tuple(self.tasks)
        for name in ("findings", *self.wanted(*self.study.chosen)):
            of = "rank" if name in ("findings", "stability") else name
            inputs = (name,) if name in TOGETHER else tuple(f"{of}/{task}" for task in tasks)
            if name == "selectivity" and (noise := self.wanted("perturbation-relative", "perturbation")):
                inputs += tuple(f"{noise[0]}/{task}" for task in tasks)
            yield Step(f"draw/{name}", "draw", {"experiment": name}, tasks, inputs)

    def methods(self) -> list[Experiment]:
        """The other ways of tuning."""
        found = [own for own in CURVES_OF["importance-tuned"] if self.wanted(own, "importance-tuned")]
        return [own for own in found if own != "bitfit" or self.biases]

    def tuned(self, sizes: Sizes, trials: int, positions: int | None = None) -> Cost:
        """Some trials' tuning, with their evaluations."""
        own = self.study.tuning
        steps = ceil(own.epochs * sizes.train / own.batch)
        steps = min(steps, own.steps or steps)
        passed = ceil(steps / own.evaluate_every) * sizes.dev
        return Cost(own.positions if positions is None else positions, trials * passed, trials * steps * own.batch)

    def measured(self, sizes: Sizes, trials: int) -> Cost:
        """What a finding is worth on test, and a regression on train where labels are several."""
        return Cost(self.study.tuning.positions, trials * (sizes.test + (sizes.train if sizes.labels > 2 else 0)))

    def found(self, sizes: Sizes, trials: int, tuned: bool = True) -> tuple[Cost, ...]:
        """A whole finding."""
        scored = Cost(self.study.tuning.positions, trials * (sizes.train + 2 * sizes.dev))
        rest = (scored, self.measured(sizes, trials))
        return (self.tuned(sizes, trials), *rest) if tuned else rest

    def pruned(self, config: PruneConfig, sizes: Sizes) -> Iterator[Cost]:
        """Pruning by each of its baselines, and the tuning after it."""
        own = self.study.tuning
        tried = len(config.baselines) * (sizes.dev + sizes.test + (sizes.train if config.reestimate else 0))
        yield Cost(own.positions, own.trials * tried)
        if config.tune:
            tuned = self.tuned(sizes, own.trials)
            share = 1.0 if config.steps is None else min(1.0, config.steps * own.batch * own.trials / tuned.tuned)
            yield Cost(own.positions, int(share * tuned.passed) + own.trials * sizes.test, int(share * tuned.tuned))


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _rate_steps() -> int:
    """Steps that the search for a learning rate takes."""
    (first, kept), (second, _) = ROUNDS
    return len(RATES) * first + kept * second
