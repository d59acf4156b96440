"""A finding beside its nulls: shuffled labels, the random-weight model, input length.

    found = nulls(model, skill, permutations=1000, null="random-model")
    found.verdict                           # one plain sentence; its rule is told in `verdict`
    found.table()                           # one row per (subtask, null)
    found.plot()                            # all neurons' predictivity, with the nulls' beside it

Shuffled labels (`permutation`) say what the best of so many neurons reaches by chance; the random-weight model, put
through the same pipeline, what any network of this shape reaches; input length (`surface`) what a ruler would. Dev
figures stand beside dev figures; the advantage over the last two is measured on test, sample by sample: correctness,
averaged over trials, of the one less that of the other, with a 95 % bootstrap interval over samples, both sides of a
multi-class task's subtask weighing the same.

A finding that has a folder keeps its nulls there (nulls.json, nulls.safetensors; the random-weight model's own run in
`random-model/`): what was tried there before stays, and is not worked out twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ...errors import SkillNeuronsError
from ...models import Backbone, load_model
from ...progress import say
from ...tuning.inputs import Inputs
from ..find import find
from ..measure import worth
from ..ranked import ranked
from ..standing import refuse_foreign
from .config import NullConfig
from .least import too_small
from .permutation import shuffled
from .result import FORMAT, Nulls
from .surface import length_rule
from .verdict import Against

if TYPE_CHECKING:
    from ..skill import SkillNeurons

RANDOM = "random-model"
"""The folder, in the finding's, of the random-weight model's run."""


def nulls(model: Backbone, skill: SkillNeurons, *, config: NullConfig | None = None, **options: Any) -> Nulls:
    """Hold a finding against its nulls; `model` is the one it was found in.

    Options are those of `NullConfig` (`permutations`, `null`, `memory`); `config` gives them all at once. Raises
    `SkillNeuronsError` for another model, a dev split too small for any significance, and more permutations than the
    memory holds.
    """
    config = config or NullConfig.make(**options)
    refuse_foreign(model, skill)
    if config.permutations and (small := too_small(skill.about)):
        raise SkillNeuronsError(
            f"shuffled labels need a dev split in which something can be significant. {' '.join(small)} Raise "
            "--dev-limit, give more data, or find again with fewer --positions."
        )
    folder, seed = skill.folder, skill.config.seed
    kept = skill.nulls
    permutations = config.permutations or (kept.about["permutations"] if kept else 0)
    tried = config.null if kept is None or config.null == RANDOM else kept.about["null"]
    about = {
        "format": FORMAT, "identity": skill.about["identity"], "model": skill.about["model"],
        "task": skill.about["task"], "subtasks": [own["name"] for own in skill.about["subtasks"]],
        "permutations": permutations, "null": tried,
    }  # fmt: skip
    if kept is not None and kept.about == about:
        return kept
    null = None
    if kept is not None and kept.about["permutations"] == permutations:
        null = kept.shuffled
    elif permutations:
        null = shuffled(
            model, skill.task, skill.prompts, skill.scores, permutations=permutations, seed=seed, memory=config.memory
        )
    other = None
    if tried == RANDOM:
        say(f"the same pipeline on the random-weight model of {model.name}")
        out = None if folder is None else folder / RANDOM
        other = find(redrawn(model), skill.task, config=skill.config, out=out)
    rule = length_rule(Inputs.beside(model, skill.task, skill.prompts[0]))

    predictivity = {"found": ranked(skill).predictivity}
    if other is not None:
        predictivity[RANDOM] = ranked(other).predictivity
    rows: list[Against] = []

    def advantage(right: Float[np.ndarray, " sample"], subtask: int) -> tuple[float, float, float]:
        return worth(right, subtask, skill.tested.labels, skill.task, seed)

    for index, name in enumerate(about["subtasks"]):
        best, right = _top(skill, index)
        if null is not None:
            threshold = float(null.threshold()[index])
            above = int((predictivity["found"][index].round(12) > threshold).sum())
            rows.append(Against(name, "shuffled labels", threshold, best, null.p_value(name, best), above))
        if other is not None:
            its, its_right = _top(other, index)
            more = advantage(right - its_right, index)
            rows.append(Against(name, "random-weight model", its, best, None, None, *more))
        more = advantage(right - rule.right[index], index)
        rows.append(Against(name, "input length", float(rule.predictivity[index]), best, None, None, *more))
    result = Nulls(about, tuple(rows), predictivity, null)
    if folder is not None:
        result.save(folder)
    return result


def redrawn(model: Backbone) -> Backbone:
    """The random-weight model of `model`: as it is, but with weights drawn from its configuration.

    Where `model` is such a one itself, another draw than that.
    """
    for seed in (0, 1):
        drawn = load_model(
            model.model, tokenizer=model.tokenizer, random_weights=True, seed=seed, sites=_pattern(model)
        )
        if drawn.fingerprint != model.fingerprint:
            break
    return replace(drawn, name=model.name)


def _top(skill: SkillNeurons, subtask: int) -> tuple[float, Float[np.ndarray, " sample"]]:
    """A subtask's top neuron: its predictivity, and how often, over the trials, it is right of each test sample."""
    name = skill.about["subtasks"][subtask]["name"]
    records = skill.results["top_neurons"]
    spot = next(place for place, own in enumerate(records) if own["subtask"] == name and own["rank"] == 1)
    return records[spot]["predictivity"], skill.tested.right(skill.task)[:, :, spot].mean(0)


def _pattern(model: Backbone) -> str | None:
    """The path of all sites with {layer} for the layer's number; None where one pattern does not fit them."""
    columns = zip(*(site.path.split(".") for site in model.sites), strict=False)
    numbers = [str(site.layer) for site in model.sites]
    pattern = ".".join("{layer}" if list(own) == numbers else own[0] for own in columns)
    fits = all(pattern.replace("{layer}", str(site.layer)) == site.path for site in model.sites)
    return pattern if fits and "{layer}" in pattern else None
