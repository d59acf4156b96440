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
    "Backbone": "models", "NeuronSet": "models", "Scale": "models", "Zero": "models", "load_model": "models",
    "TuneConfig": "tuning.config", "Prompt": "tuning.prompt", "tune": "tuning.tune",
    "Evaluation": "tuning.evaluate", "evaluate": "tuning.evaluate",
    "SkillNeurons": "finding", "TrialScores": "finding", "find": "finding", "score": "finding",
}  # fmt: skip

__all__ = [
    "Backbone", "Evaluation", "NeuronSet", "Prompt", "Scale", "SkillNeurons", "SkillNeuronsError", "Subtask", "Task",
    "TrialScores", "TuneConfig", "Zero", "evaluate", "find", "load_model", "load_task", "score", "tune",
]  # fmt: skip

if TYPE_CHECKING:
    from .errors import SkillNeuronsError
    from .finding import SkillNeurons, TrialScores, find, score
    from .models import Backbone, NeuronSet, Scale, Zero, load_model
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
