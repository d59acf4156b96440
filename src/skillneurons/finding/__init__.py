"""Which neurons carry the skill: scores, ranking, significance, selection, the run."""

from .find import find
from .score import TrialScores, score
from .show import as_text, screen
from .skill import SkillNeurons
from .statistics import scoring_bytes

__all__ = ["SkillNeurons", "TrialScores", "as_text", "find", "score", "scoring_bytes", "screen"]
