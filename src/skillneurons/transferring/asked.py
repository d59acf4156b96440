"""What the model is asked: each prompt's states, and the answers of every prompt on every other task, each once.

    asked = Asked(model, skills, out)
    asked.states()                     # each run's [trial, neuron]
    asked.right(target, source)        # [trial, sample]: which of the target's test samples the source's prompts got

A source's prompt answers the target's test samples with the target's label words; a task's own answers are in its run.
The samples are cut as the target's run has it, and further only where the source's prompt leaves less room.

With `out`, all is kept there under the identities of the runs: whatever runs are given next time, what is known of them
is not asked again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import SkillNeuronsError
from ..finding.skill import SkillNeurons
from ..finding.stored import store, stored
from ..models import Backbone
from ..progress import progress, say
from ..tuning.evaluate import evaluate_inputs
from ..tuning.inputs import Inputs
from .overlap import states

FILE = "transfer-answers.safetensors"
UNKEPT = 1.0
"""Seconds of answers that a kill may cost, for a file takes longer to write than a small model to answer."""
_ABOUT = {"format": 1}


class Asked:
    """States and answers of some runs; `names` tells them apart on the screen.

    `limit`: the most test samples of each target.
    """

    def __init__(
        self, model: Backbone, skills: Sequence[SkillNeurons], names: Sequence[str], out: Path | None,
        limit: int | None = None,
    ) -> None:  # fmt: skip
        self.model, self.skills, self.names = model, skills, names
        self.goals = [skill.task.limited(test=limit) for skill in skills]
        self.some = [skill.task.some("test", limit) for skill in skills]
        self.path = None if out is None else out / FILE
        self.known = self._read()
        self.written, self.when = len(self.known), time.monotonic()

    def ask(self) -> None:
        """Ask what is not known yet, and keep it however this ends."""
        try:
            self._ask_states()
            self._ask_answers()
        finally:
            self._write()

    def states(self) -> list[Bool[np.ndarray, "_ neuron"]]:
        """Of each run, every trial's states [trial, neuron]."""
        return [
            np.stack([self.known[_key(skill, trial=trial)].numpy() for trial in range(len(skill.prompts))])
            for skill in self.skills
        ]

    def right(self, target: int, source: int) -> Bool[np.ndarray, "trial sample"]:
        """Which of the target's test samples each of the source's prompts answers rightly."""
        if target == source:
            tested = self.skills[target].tested
            return (tested.predicted == tested.labels)[:, self.some[target]]
        trials = len(self.skills[source].prompts)
        return np.stack([self.known[self._pair(target, source, trial)].numpy() for trial in range(trials)])

    def _ask_states(self) -> None:
        for skill in self.skills:
            for trial, prompt in enumerate(skill.prompts):
                if (key := _key(skill, trial=trial)) not in self.known:
                    self._keep(key, torch.from_numpy(states(self.model, prompt)))

    def _ask_answers(self) -> None:
        """Every prompt on every other task."""
        every = [
            (target, source, trial)
            for target, source in permutations(range(len(self.skills)), 2)
            for trial in range(len(self.skills[source].prompts))
        ]
        left = [
            (target, source, trial)
            for target, source, trial in every
            if self._pair(target, source, trial) not in self.known
        ]
        sizes = [len(some) for some in self.some]
        total, todo = (sum(sizes[target] for target, _, _ in some) for some in (every, left))
        if left:
            say(f"zero-shot transfer: {len(left)} times a prompt on another task's test samples, {todo} answers")
        with progress("zero-shot transfer", total, "answers", done=total - todo) as advance:
            for target, source, trial in left:
                skill = self.skills[source]
                prompt = skill.prompts[trial]
                cut = self.skills[target].config.input_limit
                inputs = Inputs(self.model, self.goals[target], prompt.positions, cut)
                label = f"{self.names[target]}, prompt {trial + 1} of {self.names[source]}"
                found = evaluate_inputs(inputs, prompt.embedding, "test", label)
                self._keep(self._pair(target, source, trial), torch.from_numpy(found.correct))
                last = trial == len(skill.prompts) - 1
                advance(sizes[target], note=f"{label}: {found.accuracy:.3f}" if last else None)

    def _pair(self, target: int, source: int, trial: int) -> str:
        """The key of the answers of one of the source's prompts; those of fewer samples have one of their own."""
        key, size = _key(self.skills[target], self.skills[source], trial=trial), len(self.some[target])
        return key if size == len(self.skills[target].tested.labels) else f"{key}/{size}"

    def _keep(self, key: str, found: Tensor) -> None:
        self.known[key] = found
        if time.monotonic() > self.when + UNKEPT:
            self._write()

    def _write(self) -> None:
        if self.path is not None and len(self.known) > self.written:
            store(self.path, self.known, _ABOUT)
            self.written, self.when = len(self.known), time.monotonic()

    def _read(self) -> dict[str, Tensor]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            tensors, about = stored(self.path, "")
            return dict(tensors) if about == _ABOUT else {}
        except SkillNeuronsError:
            return {}  # half a file costs what is in it and no more


def _key(*runs: SkillNeurons, trial: int) -> str:
    """Of a run's states, or of the target's samples under the source's prompt."""
    return "/".join([*(skill.about["identity"] for skill in runs), str(trial)])
