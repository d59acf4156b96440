"""One trial's candidates: what each gains is predicted, each is built, tuned and kept as soon as it is known.

    search = Search(model, skill, config, trial=0, out=folder)
    whole = search.cost(Candidate())           # multiplications
    for cost, candidate in search.ways(whole): # the fewest first
        tried = search.tried(candidate)        # tried.prompt.accuracy is that on dev
        small = search.small(candidate, tried)

Neurons are cut first, then the prompt is shortened or frozen in the cut model, then it is tuned there, or its keys and
values, by the run's own loop. Biases by position have those rows alone whose positions stay.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import digest
from ..finding.skill import SkillNeurons
from ..finding.stored import store, stored
from ..models import Backbone, NeuronSet
from ..progress import say
from ..tuning.config import TuneConfig
from ..tuning.evaluate import evaluate
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt, nothing
from .candidates import Candidate, candidates
from .config import Baseline, PruneConfig
from .cut import Means, cut, without_positions
from .head import words_alone
from .means import of_run, reestimated, staying
from .multiplications import multiplications
from .prefix import frozen_prompt, of_one, tuned
from .prefixed import prefixed
from .prune import tuned_further
from .shorter import carried, most, shortened
from .small import Small

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Tried:
    """What a candidate came to: its prompt, whose accuracy is dev's, of no positions where they are `inside`.

    `baseline`: at which means its neurons are frozen; `positions`: those of the run's prompt that stay, None for all;
    `inside`: keys and values.
    """

    prompt: Prompt
    baseline: Baseline | None = None
    positions: tuple[int, ...] | None = None
    inside: tuple[Tensor, Tensor] | None = None


class Search:
    """The candidates of one trial. With `out`, outcomes are kept there, a file each."""

    def __init__(self, model: Backbone, skill: SkillNeurons, config: PruneConfig, trial: int, out: Path | None) -> None:
        self.model, self.skill, self.config, self.trial, self.out = model, skill, config, trial, out
        self.prompt, self.task = skill.prompts[trial], skill.task
        self.inputs = Inputs.beside(model, self.task, self.prompt)
        self._means: dict[tuple[Candidate, Baseline], Means] = {}
        self._baselines: dict[Candidate, Baseline] = {}
        self._carried: Tensor | None = None

    @property
    def tokens(self) -> int:
        """The median length of dev's inputs."""
        return int(self.inputs.tokens("dev").lengths[self._median])

    @property
    def _median(self) -> int:
        lengths = self.inputs.tokens("dev").lengths
        return int(np.argsort(lengths, kind="stable")[len(lengths) // 2])

    def ways(self, whole: int) -> list[tuple[int, Candidate]]:
        """What takes fewer multiplications than `whole`, the fewest first; what cannot be done here is told."""
        found, reasons = [], []
        self.inputs.tokens("train")  # what is wrong with the disk, say, is told as such
        for candidate in candidates(self.config, self.model.layers, self.prompt.positions):
            try:
                found.append((self.cost(candidate), candidate))
            except SkillNeuronsError as error:
                reasons.append(str(error))
        for reason in dict.fromkeys(reasons):
            say(f"left out: {reason}")
        return sorted((own for own in found if own[0] < whole), key=lambda own: own[0])

    def cost(self, candidate: Candidate) -> int:
        """The multiplications for one dev sample of median length, with the head for the label words alone."""
        model, embedding = self.model, self.prompt.embedding.to(self.model.device)
        if candidate.layers:  # as large with one kind of means as with the other
            model = cut(model, self._neurons(candidate), candidate.layers, of_run(self.skill, self.trial), one=True)
        if candidate.prompt == "frozen":
            model, embedding = of_one(model, self.task, self.prompt), nothing(model)
        elif candidate.prompt != "whole":
            embedding = embedding[: candidate.prompt]
        model, _ = words_alone(model, [word.token for word in self.inputs.words])
        batch = model.place(embedding, *self.inputs.rows("dev", [self._median]))
        return multiplications(lambda: model.answer(batch))

    def identity(self, candidate: Candidate) -> str:
        """A hash of all that a candidate's outcome rests on."""
        own = self.config.model_dump(exclude={"keep", "layers"}) | asdict(candidate) | {"trial": self.trial}
        return digest(json.dumps([FORMAT, version("skillneurons"), own]), self.skill.about["identity"])

    def tried(self, candidate: Candidate) -> Tried:
        """The candidate, tuned and evaluated on dev; read, where it was before."""
        identity = self.identity(candidate)
        path = None if self.out is None else self.out / f"candidate-{identity[:12]}.safetensors"
        if path is not None and (there := _kept(path, identity)) is not None:
            return there
        unfinished = None if path is None else path.with_name(f"{path.stem}.unfinished.safetensors")
        found = self._try(candidate, unfinished, identity)
        if path is not None and unfinished is not None:
            _keep(path, identity, found)
            unfinished.unlink(missing_ok=True)
        return found

    def small(self, candidate: Candidate, found: Tried) -> Small:
        """The model that a candidate came to."""
        model = self._cut(candidate, found.baseline, found.positions)
        if found.inside is not None:
            model = prefixed(without_positions(model), *found.inside)
        kept = self._neurons(candidate) if candidate.layers else None
        retuned = self.config.tune and candidate != Candidate()
        return Small(self.model, self.skill, model, found.prompt, kept, found.baseline, retuned)

    def _try(self, candidate: Candidate, unfinished: Path | None, identity: str) -> Tried:
        baseline, positions, start = self._baseline(candidate), None, self.prompt
        if candidate.prompt == "frozen":
            return self._frozen(self._cut(candidate, baseline), baseline, unfinished)
        if candidate.prompt != "whole":
            if self._carried is None:
                self._carried = carried(self.model, self.task, self.prompt)
            stay = most(self._carried, candidate.prompt)
            start, positions = shortened(self.model, self.prompt, stay), tuple(stay.tolist())
        model = self._cut(candidate, baseline, positions)
        start = replace(start, accuracy=evaluate(model, self.task, start, "dev").accuracy)
        if not self.config.tune:
            return Tried(start, baseline, positions)
        found = tuned_further(model, self.skill, start, self.config, unfinished, identity)
        return Tried(start if found.accuracy < start.accuracy else found, baseline, positions)

    def _frozen(self, model: Backbone, baseline: Baseline | None, unfinished: Path | None) -> Tried:
        prefix = frozen_prompt(model, self.task, self.prompt)
        if self.config.tune:
            steps = {} if self.config.steps is None else {"steps": self.config.steps}
            loop = TuneConfig.make(**self.skill.config.model_dump() | steps)
            prefix = tuned(model, self.task, prefix, config=loop, out=unfinished)
        return Tried(prefix.prompt, baseline, inside=(prefix.keys, prefix.values))

    def _baseline(self, candidate: Candidate) -> Baseline | None:
        """The better one on dev beside the whole prompt, before anything is tuned; None where nothing is cut."""
        if not candidate.layers:
            return None
        ffns = replace(candidate, prompt="whole")
        if ffns not in self._baselines:
            first, *others = self.config.baselines
            on_dev = {
                own: evaluate(self._cut(ffns, own), self.task, self.prompt, "dev").accuracy
                for own in (first, *others) if others
            }  # fmt: skip
            self._baselines[ffns] = max(on_dev, key=lambda own: on_dev[own], default=first)
        return self._baselines[ffns]

    def _cut(
        self, candidate: Candidate, baseline: Baseline | None, positions: tuple[int, ...] | None = None
    ) -> Backbone:
        """The model with its FFNs as the candidate has them, for a prompt of these positions of the run's."""
        if baseline is None:
            return self.model
        kept, one, key = self._neurons(candidate), baseline == "one", (replace(candidate, prompt="whole"), baseline)
        if self.config.reestimate and key not in self._means:
            self._means[key] = reestimated(self.model, self.skill, self.trial, kept, candidate.layers, one)
        means = self._means.get(key) or of_run(self.skill, self.trial)
        if positions is not None:
            means = [own[[*positions, -2, -1]] for own in means]
        return cut(self.model, kept, candidate.layers, means, one)

    def _neurons(self, candidate: Candidate) -> NeuronSet:
        return staying(self.skill, self.config.model_copy(update={"keep": candidate.keep}), candidate.layers)


def _keep(path: Path, identity: str, found: Tried) -> None:
    inside = {} if found.inside is None else dict(zip(("keys", "values"), found.inside, strict=True))
    about = {
        "identity": identity, "prompt": found.prompt.record(), "baseline": found.baseline, "positions": found.positions,
    }  # fmt: skip
    store(path, {"prompt": found.prompt.embedding, **inside}, about)


def _kept(path: Path, identity: str) -> Tried | None:
    """What an earlier search found; None where it is not there, not whole, or of another one."""
    if not path.exists():
        return None
    try:
        tensors, about = stored(path, "")
        if about["identity"] != identity:
            return None
        prompt = Prompt.from_record(tensors["prompt"], about["prompt"])
        positions = None if about["positions"] is None else tuple(about["positions"])
        inside = (tensors["keys"], tensors["values"]) if "keys" in tensors else None
        return Tried(prompt, about["baseline"], positions, inside)
    except (SkillNeuronsError, KeyError):
        return None
