"""What several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Console

if TYPE_CHECKING:
    from ..finding.skill import SkillNeurons
    from ..models import Backbone

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


def load(name: str, device: str, dtype: str, random_weights: bool, sites: str | None) -> Backbone:
    """The model that a command names."""
    from ..models import load_model

    return load_model(name, device=device, dtype=dtype, random_weights=random_weights, sites=sites)


def of_run(
    skill: SkillNeurons, model: str | None, task: str | None, device: str, sites: str | None
) -> tuple[Backbone, SkillNeurons]:
    """The model that a run was found in and the run with its task, each from where it has moved to, if it has."""
    from ..tasks import load_task

    if task is not None:
        skill = skill.with_task(load_task(task))
    source = skill.about["source"]
    return load(model or source["model"], device, source["dtype"], source["random_weights"], sites), skill


def console() -> Console:
    """Where answers go."""
    return Console(highlight=False)
