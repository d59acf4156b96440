"""The steps of a study, drafted from its file and from what its tasks are like.

    steps = draft(study, {"sst2": Sizes(54_000, 13_000, 872)})       # plan.py gives them keys

Names tell what a step is of: `tune/sst2/0`, `score/sst2/0`, `rank/sst2`; then `<experiment>/<task>`, before it its
parts (`perturbation/sst2/own`, `label-words/sst2/seed-1`), or `<experiment>` where it is of all tasks together; at last
`draw/<experiment>`, its tables and figures. Costs are what a step asks of the model at most: where tuning stops early
it is less. A configuration has what its step goes by and no more: the limit of a split that it does not read would
have it done anew for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from ..config import Config
from ..evidence.config import PerturbConfig
from ..evidence.label_words import tuning_of
from ..evidence.origins import DRAWN, HARD, PROMPTS, RANDOM
from ..pruning.config import PruneConfig
from ..tasks import Task
from ..tuning.config import TuneConfig
from ..tuning.tune import RATES, ROUNDS
from ..tuning.tuned import OF_PROMPTS
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
        own, limits = _only_tuning(tuning), {"train": tuning.train_limit, "dev": tuning.dev_limit}
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
                yield Step(f"score/{task}/{trial}", "score", {"trial": trial} | limits, (task,), (name,), (cost,))
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
        if self.wanted("label-words"):
            yield from self.label_words(task, sizes)
        if self.wanted("origins"):
            yield from self.origins(task, sizes)
        pushes = 2 * len(study.steering.doses) * (1 + study.steering.draws)
        yield from step(
            "steering", study.steering, Cost(positions, pushes * trials * getattr(sizes, study.steering.split))
        )
        yield from step("prune", study.prune, *self.pruned(study.prune, sizes))
        yield from self.curves("perturbation", task, sizes, study.perturbation)
        yield from self.curves("perturbation-relative", task, sizes, study.perturbation_relative)
        for method in self.methods():
            own = study.adapter if method == "adapter" else study.bitfit
            loop = {name: value for name, value in _only_tuning(tuning).items() if name not in OF_PROMPTS}
            tuned, options = f"tuned-{method}/{task}", {"method": _plain(own), "tuning": loop | {"trials": trials}}
            yield Step(tuned, "tune-method", options, (task,), (), (self.tuned(sizes, trials, 0),))
            yield from self.curves(method, task, sizes, study.perturbation_relative, tuned)

    def label_words(self, task: str, sizes: Sizes) -> Iterator[Step]:
        """A finding for each set of words and each seed, then all of them side by side."""
        config = self.study.label_word_options
        runs = [(f"words-{place + 1}", place, {"set": place, "seed": config.seed}) for place in range(config.sets)]
        runs += [(f"seed-{place + 1}", place, {}) for place in range(config.seeds)]
        for name, place, words in runs:
            own = {"tuning": _plain(tuning_of(config, config.seed + place)), "words": words}
            costs = self.found(sizes, config.trials)
            yield Step(f"label-words/{task}/{name}", "finding", own, (task,), (), costs)
        inputs = tuple(f"label-words/{task}/{name}" for name, _, _ in runs)
        yield Step(f"label-words/{task}", "label-words", _plain(config), (task,), inputs)

    def origins(self, task: str, sizes: Sizes) -> Iterator[Step]:
        """A finding for each kind of prompts that are not tuned, one in a random model, then all side by side."""
        tuning, inputs = self.study.tuning, [f"rank/{task}"]
        for origin in (RANDOM, HARD, DRAWN):
            prompt = PROMPTS.get(origin, "random")
            own = {"tuning": _plain(tuning.model_copy(update={"prompt": prompt})), "random_model": origin == DRAWN}
            trials = min(tuning.trials, sizes.hard) if origin == HARD else tuning.trials
            inputs.append(f"origins/{task}/{origin.replace(' ', '-')}")
            yield Step(inputs[-1], "finding", own, (task,), (), self.found(sizes, trials, tuned=False))
        yield Step(f"origins/{task}", "origins", {}, (task,), tuple(inputs))

    def curves(
        self, name: Experiment, task: str, sizes: Sizes, config: PerturbConfig, tuned: str | None = None
    ) -> Iterator[Step]:
        """Curves, where they are asked for or what rests on them is: the points of each order, then all of them."""
        resting = [own for own, of in CURVES_OF.items() if name in of]
        if not self.wanted(name, *resting):
            return
        others = [other for other in self.tasks if other != task] if self.wanted(*resting) else []
        by = [f"rank/{task}", *([] if tuned is None else [tuned])]  # whose prompts, or what else, answer
        start, own = f"{name}/{task}/start", f"{name}/{task}/own"
        orders: dict[str, tuple[str, tuple[str, ...]]] = {
            f"{name}/{task}/of-{other}": (f"rank/{other}", (task, other)) for other in others
        }
        if tuned is None and self.wanted("selectivity"):
            orders[f"{name}/{task}/by-index"] = (f"selectivity/{task}", (task,))
        trials, positions = self.study.tuning.trials, self.study.tuning.positions if tuned is None else 0
        samples = getattr(sizes, config.split)
        samples = trials * min(samples, config.limit or samples)
        points = (len(config.shares) - 1) * samples

        def part(step: str, which: str, tasks: tuple[str, ...], inputs: list[str], passed: int) -> Step:
            options = {"part": which, "curves": _plain(config)}
            return Step(step, "points", options, tasks, (*by, *inputs), (Cost(positions, passed),))

        yield part(start, "start", (task,), [], samples + (trials * sizes.dev if config.relative else 0))
        yield part(own, "own", (task,), [start], (1 + config.bottom + config.draws) * points)
        for step, (order, tasks) in orders.items():
            yield part(step, "others", tasks, [order, start], points)
        inputs = (*by, *(order for order, _ in orders.values()), start, own, *orders)
        yield Step(f"{name}/{task}", "curves", _plain(config), (task, *others), inputs)

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


def _only_tuning(config: TuneConfig) -> dict[str, Any]:
    """What a trial's tuning goes by: neither how many trials there are, nor test."""
    return {name: value for name, value in _plain(config).items() if name not in ("trials", "test_limit")}


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _rate_steps() -> int:
    """Steps that the search for a learning rate takes."""
    (first, kept), (second, _) = ROUNDS
    return len(RATES) * first + kept * second
