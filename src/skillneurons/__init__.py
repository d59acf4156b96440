"""Find the neurons of a pretrained Transformer that carry the skill a task needs.

    import skillneurons as sn

    task = sn.load_task("sst2")
    model = sn.load_model("roberta-base")
    skill = sn.find(model, task, trials=5)
    skill.top(100)

Names are loaded when used: importing the package costs nothing, torch comes with the first call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "SkillNeuronsError": "errors",
    "Subtask": "tasks", "Task": "tasks", "load_task": "tasks",
    "Backbone": "models", "NeuronSet": "models", "load_model": "models",
    "Baseline": "models", "Noise": "models", "Push": "models", "Scale": "models", "Zero": "models",
    "TuneConfig": "tuning.config", "Prompt": "tuning.prompt", "tune": "tuning.tune",
    "Evaluation": "tuning.evaluate", "evaluate": "tuning.evaluate",
    "SkillNeurons": "finding.skill", "TrialScores": "finding.score", "find": "finding.find", "score": "finding.score",
    "NullConfig": "finding.nulls.config", "Nulls": "finding.nulls.result", "nulls": "finding.nulls.nulls",
    "Agreement": "finding.agreement", "compare": "finding.agreement", "stability": "finding.agreement",
    "PeerConfig": "finding.peers.peers", "Peers": "finding.peers.result", "peers": "finding.peers.peers",
    "Portrait": "finding.portraits.portrait", "portrait": "finding.portraits.portrait",
    "portraits": "finding.portraits.portrait",
    "Tokens": "finding.portraits.by_token", "by_token": "finding.portraits.by_token", "draw": "finding.pictures",
}  # fmt: skip

__all__ = [
    "Agreement", "Backbone", "Baseline", "Evaluation", "NeuronSet", "Noise", "NullConfig", "Nulls",
    "PeerConfig", "Peers", "Portrait", "Prompt", "Push", "Scale", "SkillNeurons", "SkillNeuronsError", "Subtask",
    "Task", "Tokens", "TrialScores", "TuneConfig", "Zero", "by_token", "compare", "draw", "evaluate", "find",
    "load_model", "load_task", "nulls", "peers", "portrait", "portraits", "score", "stability", "tune",
]  # fmt: skip

if TYPE_CHECKING:
    from .errors import SkillNeuronsError
    from .finding.agreement import Agreement, compare, stability
    from .finding.find import find
    from .finding.nulls.config import NullConfig
    from .finding.nulls.nulls import nulls
    from .finding.nulls.result import Nulls
    from .finding.peers.peers import PeerConfig, peers
    from .finding.peers.result import Peers
    from .finding.pictures import draw
    from .finding.portraits.by_token import Tokens, by_token
    from .finding.portraits.portrait import Portrait, portrait, portraits
    from .finding.score import TrialScores, score
    from .finding.skill import SkillNeurons
    from .models import Backbone, Baseline, NeuronSet, Noise, Push, Scale, Zero, load_model
    from .tasks import Subtask, Task, load_task
    from .tuning.config import TuneConfig
    from .tuning.evaluate import Evaluation, evaluate
    from .tuning.prompt import Prompt
    from .tuning.tune import tune


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
