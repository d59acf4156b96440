"""A finding: which neurons carry the skill, how sure that is, and what it rests on.

skill = find(model, task, trials=5)
skill                                              # prints the answer
skill.table()                                      # one row per (subtask, layer, neuron)
skill.top(fraction=0.05, scope="layer")            # a NeuronSet; also top(100), bottom(...), random(...)
skill.save("runs/sst2"); SkillNeurons.load("runs/sst2")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from ..errors import SkillNeuronsError
from ..files import write_json
from ..models import NeuronSet
from ..tasks import Task, load_task
from ..tuning.config import TuneConfig
from ..tuning.prompt import Prompt
from ..tuning.tune import limited
from .beside import there
from .measure import Tested
from .run import TASK, Run
from .score import TrialScores
from .selection import Order, Scope, select
from .show import as_html, as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .agreement import Agreement
    from .nulls.result import Nulls
    from .peers.result import Peers


@dataclass(frozen=True, eq=False)
class SkillNeurons:
    """The neurons of one model ranked for one task.

    `about` is run.json's content; `prompts` and `scores` have one entry a trial; `tested` is what became of the test
    split; `log` is what may differ between two runs of the same work; `folder` is the run's, where it was read from
    one.
    """

    about: dict[str, Any]
    neurons: pa.Table = field(repr=False)
    prompts: Sequence[Prompt] = field(repr=False)
    scores: Sequence[TrialScores] = field(repr=False)
    tested: Tested = field(repr=False)
    log: dict[str, Any] = field(default_factory=dict, repr=False)
    folder: Path | None = field(default=None, repr=False)
    _task: Task | None = field(default=None, repr=False)

    @property
    def config(self) -> TuneConfig:
        """The options that it was found with."""
        return TuneConfig.make(**self.about["config"])

    @property
    def results(self) -> dict[str, Any]:
        """The figures in short, as `results` of run.json."""
        return dict(self.about["results"])

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of neurons of each layer of the model."""
        return tuple(self.about["layers"])

    @cached_property
    def task(self) -> Task:
        """The task with the samples that were used; loaded again, from its source or the run, where the finding was.

        Raises `SkillNeuronsError` where the source is gone or its data have changed.
        """
        if self._task is not None:
            return self._task
        source = self.about["source"]["task"]
        if source is None:  # it was made in memory, and written with the run
            source = (self.folder or Path()) / TASK
        return self._same(load_task(source), source)

    def with_task(self, task: Task) -> SkillNeurons:
        """This finding with its task from where it has moved to. Raises `SkillNeuronsError` where its data differ."""
        return replace(self, _task=self._same(task, task.source))

    def _same(self, task: Task, source: object) -> Task:
        task = limited(task, self.config)
        if task.fingerprint != self.about["fingerprints"]["data"]:
            raise SkillNeuronsError(
                f"the data of task {task.name} ({source}) are no longer those of this run. Restore them, or run `find` "
                "again."
            )
        return task

    @property
    def nulls(self) -> Nulls | None:
        """What the finding was held against, where its folder keeps that; see `skillneurons.nulls`."""
        from .nulls.result import NAME, Nulls

        return Nulls.load(self.folder) if self.folder is not None and there(self.folder, NAME) else None

    @property
    def peers(self) -> Peers | None:
        """Other orders of the neurons, where its folder keeps them; see `skillneurons.peers`."""
        from .peers.result import NAME, Peers

        return Peers.load(self.folder) if self.folder is not None and there(self.folder, NAME) else None

    @cached_property
    def agreement(self) -> Agreement | None:
        """How alike the trials rank the neurons; None for a single trial."""
        from .agreement import stability

        return stability(self) if len(self.scores) > 1 else None

    def table(self) -> pd.DataFrame:
        """One row per (subtask, layer, neuron), sorted by subtask and rank.

        Columns: subtask, layer, neuron, predictivity (Eq. 6, on dev), std (over trials), p_value, q_value, rank,
        position and sign (lists, one value a trial). A multi-class task has a ranking of its own, under its name.
        """
        return self._frame.copy()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return self.neurons.to_pandas()

    def top(
        self,
        count: int | None = None,
        *,
        fraction: float | None = None,
        scope: Scope = "model",
        subtask: str | None = None,
    ) -> NeuronSet:
        """The most predictive neurons: `count` or `fraction` of all, or of each layer with `scope="layer"`."""
        return self._select("top", count, fraction, scope, subtask)

    def bottom(
        self,
        count: int | None = None,
        *,
        fraction: float | None = None,
        scope: Scope = "model",
        subtask: str | None = None,
    ) -> NeuronSet:
        """The least predictive neurons, the least of all first."""
        return self._select("bottom", count, fraction, scope, subtask)

    def random(
        self, count: int | None = None, *, fraction: float | None = None, scope: Scope = "model", seed: int = 0
    ) -> NeuronSet:
        """Neurons drawn at random by `seed`."""
        return self._select("random", count, fraction, scope, None, seed)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The histogram of predictivity, on `ax` or on new axes."""
        from .pictures import predictivity

        return predictivity(self, ax=ax)

    def save(self, folder: str | Path) -> None:
        """Write the run's directory (docs/run-directory.md). Trials that are there already are kept."""
        run = Run(Path(folder))
        run.begin(self.about)
        identity = self.about["identity"]
        each = zip(trial_identities(self.about), self.prompts, self.scores, strict=True)
        for trial, (own, prompt, scores) in enumerate(each):
            if run.read_trial(trial, own) is None:
                run.write_trial(trial, own, prompt, scores)
        if self.about["source"]["task"] is None:
            self.task.save(run.folder / TASK)
        run.write_neurons(self.neurons)
        run.write_test(identity, self.tested)
        write_json(run.folder / "log.json", self.log)
        write_json(run.folder / "run.json", self.about)
        run.end()

    @classmethod
    def load(cls, folder: str | Path) -> SkillNeurons:
        """Read a run's directory. Scores are read from their files when asked for.

        Raises `SkillNeuronsError` for a folder that holds no finished run, one of another version, or broken files.
        """
        run = Run(Path(folder))
        about = run.read()
        trials = [run.read_trial(trial, own) for trial, own in enumerate(trial_identities(about))]
        gone = [run.trial(trial).name for trial, found in enumerate(trials) if found is None]
        if gone:
            raise SkillNeuronsError(
                f"{run.folder} lacks {', '.join(gone)}, or holds another run's. Restore the files, or remove run.json "
                "and run the same `find` command again."
            )
        found = [trial for trial in trials if trial is not None]
        prompts, scores = [prompt for prompt, _ in found], [scores for _, scores in found]
        tested = run.read_test(about["identity"])
        return cls(about, run.read_neurons(), prompts, scores, tested, run.read_log(), run.folder.absolute())

    def __repr__(self) -> str:
        return as_text(self.about, self.nulls)

    def _repr_html_(self) -> str:
        return as_html(self.about, self.nulls, peers=self.peers)

    def _select(
        self, order: Order, count: int | None, fraction: float | None, scope: Scope, subtask: str | None, seed: int = 0
    ) -> NeuronSet:
        parts = [own["name"] for own in self.about["subtasks"]]
        name = subtask or self.about["task"]
        if name not in {*parts, self.about["task"]}:
            raise SkillNeuronsError(f"a subtask is one of {', '.join(parts)}; given: {subtask!r}.")
        return select(
            self._frame, self.widths, order, count=count, fraction=fraction, scope=scope, subtask=name,
            parts=[name] if name in parts else parts, seed=seed,
        )  # fmt: skip


def trial_identities(about: dict[str, Any]) -> list[str]:
    """The identity in each trial's file: the run's own, unless its trials were made before it, for a study."""
    return about.get("trial_identities", [about["identity"]] * about["trials"])


def plan_of(about: dict[str, Any]) -> dict[str, Any]:
    """What makes a run the same run: of run.json's content, the part that is known before any work."""
    return {key: about[key] for key in ("format", "version", "config", "fingerprints")}
