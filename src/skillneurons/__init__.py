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
    "PerturbConfig": "evidence.config", "Curves": "evidence.curves", "perturb": "evidence.curves",
    "Order": "evidence.orders", "of_run": "evidence.orders", "of_scores": "evidence.orders",
    "Importance": "evidence.importance", "importance": "evidence.importance",
    "mean_importance": "evidence.importance",
    "Correlation": "evidence.correlation", "correlate": "evidence.correlation",
    "Words": "evidence.word_result", "words": "evidence.words",
    "LabelWordSets": "evidence.label_words", "label_words": "evidence.label_words",
    "Origins": "evidence.origins", "origins": "evidence.origins",
    "AdapterConfig": "tuning.config", "BitFitConfig": "tuning.config",
    "Tuned": "tuning.tuned", "tune_weights": "tuning.tuned", "evaluate_tuned": "tuning.tuned",
    "Choices": "evidence.choices", "choices": "evidence.choices",
    "Pooled": "evidence.pooled", "pooled": "evidence.pooled",
    "Selectivity": "evidence.selectivity", "selectivity": "evidence.selectivity",
    "SteerConfig": "evidence.config", "Steering": "evidence.steering", "steer": "evidence.steering",
    "spread": "evidence.spread",
    "PruneConfig": "pruning.config", "Pruned": "pruning.pruned", "prune": "pruning.prune",
    "Shipped": "pruning.shipped", "load_pruned": "pruning.artifact",
    "Within": "pruning.budget", "within": "pruning.budget", "export": "pruning.onnx", "bench": "pruning.bench",
    "Prefix": "pruning.prefix", "frozen_prompt": "pruning.prefix", "shorter": "pruning.shorter",
    "TransferConfig": "transferring.config", "Transfer": "transferring.result", "transfer": "transferring.transfer",
    "StudyResult": "study.result", "run_study": "study.study",
}  # fmt: skip

__all__ = [
    "AdapterConfig", "Agreement", "Backbone", "Baseline", "BitFitConfig", "Choices", "Correlation", "Curves",
    "Evaluation", "Importance", "LabelWordSets", "NeuronSet", "Noise", "NullConfig", "Nulls", "Order",
    "Origins", "PeerConfig", "Peers", "PerturbConfig", "Pooled", "Portrait", "Prefix", "Prompt", "PruneConfig",
    "Pruned", "Push", "Scale", "Selectivity", "Shipped", "SkillNeurons", "SkillNeuronsError", "SteerConfig",
    "Steering", "StudyResult", "Subtask", "Task", "Tokens", "Transfer", "TransferConfig", "TrialScores", "TuneConfig",
    "Tuned", "Within", "Words", "Zero", "bench", "by_token", "choices", "compare", "correlate", "draw", "evaluate",
    "evaluate_tuned", "export", "find", "frozen_prompt", "importance", "label_words", "load_model",
    "load_pruned", "load_task", "mean_importance", "nulls", "of_run", "of_scores", "origins", "peers", "perturb",
    "pooled", "portrait", "portraits", "prune", "run_study", "score", "selectivity", "shorter", "spread", "stability",
    "steer", "transfer", "tune", "tune_weights", "within", "words",
]  # fmt: skip

if TYPE_CHECKING:
    from .errors import SkillNeuronsError
    from .evidence.choices import Choices, choices
    from .evidence.config import PerturbConfig, SteerConfig
    from .evidence.correlation import Correlation, correlate
    from .evidence.curves import Curves, perturb
    from .evidence.importance import Importance, importance
    from .evidence.label_words import LabelWordSets, label_words
    from .evidence.orders import Order, of_run, of_scores
    from .evidence.origins import Origins, origins
    from .evidence.pooled import Pooled, pooled
    from .evidence.selectivity import Selectivity, selectivity
    from .evidence.spread import spread
    from .evidence.steering import Steering, steer
    from .evidence.word_result import Words
    from .evidence.words import words
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
    from .pruning.artifact import load_pruned
    from .pruning.bench import bench
    from .pruning.budget import Within, within
    from .pruning.config import PruneConfig
    from .pruning.onnx import export
    from .pruning.prefix import Prefix, frozen_prompt
    from .pruning.prune import prune
    from .pruning.pruned import Pruned
    from .pruning.shipped import Shipped
    from .pruning.shorter import shorter
    from .study.result import StudyResult
    from .study.study import run_study
    from .tasks import Subtask, Task, load_task
    from .transferring.config import TransferConfig
    from .transferring.result import Transfer
    from .transferring.transfer import transfer
    from .tuning.config import AdapterConfig, BitFitConfig, TuneConfig
    from .tuning.evaluate import Evaluation, evaluate
    from .tuning.prompt import Prompt
    from .tuning.tune import tune
    from .tuning.tuned import Tuned, evaluate_tuned, tune_weights


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
