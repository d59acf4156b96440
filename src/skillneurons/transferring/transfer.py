"""A guide to transfer: which task's prompts to start from for another task (paper, section 6.2).

    found = transfer(model, sst2, imdb, mnli, out="runs/transfer")
    found.suggest("sst2")

Two matrices [target, source] are held against each other. ON says which of the target's skill neurons both tasks'
prompts activate without an input (`overlap`). Zero-shot transfer is the accuracy of the source's prompts on the
target's test samples, with the target's label words, over that of the target's own prompts:

    relative(target, source) = mean over i of A(target, source's prompt i) / mean over j of A(target, own prompt j)

How well ON tells it is in `indicator`, the result in `result`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from ..errors import SkillNeuronsError
from ..evidence.result import told
from ..finding.agreement import comparable
from ..finding.measure import interval
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..models import Backbone
from .asked import Asked
from .config import TransferConfig
from .overlap import indices, overlaps
from .result import Transfer


def transfer(
    model: Backbone,
    *skills: SkillNeurons,
    config: TransferConfig | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Transfer:
    """ON and zero-shot transfer between the tasks of several runs of `model`, and how well the one tells the other.

    Options are those of `TransferConfig`, or `config` gives them all at once. With `out` every answer is kept there as
    soon as it is known, and the result at last: the same call goes on where a killed one stopped, and one with a run
    more asks for what is new. Raises `SkillNeuronsError` for fewer than two runs, for one that is given twice, where a
    run is of another model, and where `out` is the folder of a run.
    """
    config = config or TransferConfig.make(**options)
    names = comparable(skills)
    _refuse_twice(names, skills)
    refuse_foreign(model, skills[0])
    folder = None if out is None else Path(out)
    if folder is not None and (folder / "run.json").exists():
        raise SkillNeuronsError(f"transfer between runs is kept in a folder of its own; {folder} holds a run.")
    asked = Asked(model, skills, names, folder, config.limit)
    asked.ask()
    states = asked.states()
    chosen = [indices(skill.top(fraction=config.fraction, scope=config.scope)) for skill in skills]
    on, restricted = overlaps(states), overlaps(states, chosen)
    right = [[asked.right(target, source) for source in range(len(names))] for target in range(len(names))]
    accuracy = np.array([[own.mean() for own in row] for row in right])
    own = np.diag(accuracy)[:, None]
    relative = np.divide(accuracy, own, out=np.full_like(accuracy, np.nan), where=own > 0)
    matrices = {"on": on, "on_restricted": restricted, "accuracy": accuracy, "relative": relative}
    rows = [
        {
            "target": names[target], "source": names[source],
            **{name: _known(values[target, source]) for name, values in matrices.items()},
            "difference": float(accuracy[target, source] - accuracy[target, target]),
            **_spread(right[target][source], config.seed),
        }
        for target, source in np.ndindex(accuracy.shape)
    ]  # fmt: skip
    about = told(Transfer.version, config, *skills) | {
        "model": skills[0].about["model"], "tasks": names, "kinds": [skill.about["kind"] for skill in skills],
        "majority": [goal.majority("test") for goal in asked.goals],
    }  # fmt: skip
    found = Transfer(about, rows, {name: torch.from_numpy(values) for name, values in matrices.items()})
    if folder is not None:
        found.save(folder)
    return found


def _refuse_twice(names: Sequence[str], skills: Sequence[SkillNeurons]) -> None:
    first: dict[str, str] = {}
    for name, skill in zip(names, skills, strict=True):
        twin = first.setdefault(skill.about["identity"], name)
        if twin != name:
            raise SkillNeuronsError(
                f"transfer is between different runs; {twin} and {name} are the same finding. Leave one out."
            )


def _spread(right: Bool[np.ndarray, "trial sample"], seed: int) -> dict[str, float | None]:
    """The std of an accuracy over trials, and its 95 % interval over samples."""
    std = float(right.mean(1).std(ddof=1)) if len(right) > 1 else None
    return {"std": std, **interval([right.mean(0)], seed)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
