"""How a prompt is made: configuration, soft, random and hard prompts, one training loop, evaluation."""

from .config import PRESETS, TuneConfig
from .evaluate import Evaluation, evaluate, evaluate_inputs
from .inputs import Inputs, SplitName
from .prompt import Evaluated, Prompt, hard_prompts, seed_of
from .tune import limited, trials, tune, tune_trial

__all__ = [
    "PRESETS", "Evaluated", "Evaluation", "Inputs", "Prompt", "SplitName", "TuneConfig",
    "evaluate", "evaluate_inputs", "hard_prompts", "limited", "seed_of", "trials", "tune", "tune_trial",
]  # fmt: skip
