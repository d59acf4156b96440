"""Which labels stand on which side of a subtask, how many samples that are, and what each of them weighs.

    subtask_sides(task)[0, 1]               # 1 for every label on the first subtask's positive side
    side_counts(task, "dev")                # [subtask, 2], negative and positive samples
    class_weights(task, "train")            # [subtask, class], of Eq. 3

Native binary tasks count every sample once (Eq. 3 and 4 as they stand); a subtask of a multi-class task weighs both of
its sides equally, and the labels inside a side by their count.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ..errors import SkillNeuronsError
from ..tasks import Task
from ..tuning.inputs import SplitName


def subtask_sides(task: Task) -> Int[np.ndarray, "subtask 2 class"]:
    """1 where a label belongs to the negative (0) or positive (1) side of a subtask."""
    members = [
        [[int(label in side) for label in task.labels] for side in (sub.negative, sub.positive)]
        for sub in task.subtasks
    ]
    return np.array(members, dtype=np.int64)


def side_counts(task: Task, split: SplitName) -> Int[np.ndarray, "subtask 2"]:
    """Samples of a split on the negative and on the positive side of each subtask.

    Raises `SkillNeuronsError` where a side has none.
    """
    labels = getattr(task, split).labels
    counts = np.einsum("skc,c->sk", subtask_sides(task), np.bincount(labels, minlength=len(task.labels)))
    for subtask, (negative, positive) in zip(task.subtasks, counts, strict=True):
        if not (negative and positive):
            side = subtask.negative if not negative else subtask.positive
            raise SkillNeuronsError(
                f"both sides of a subtask need samples; {split} of {task.name} has none labelled {' or '.join(side)} "
                f"(subtask {subtask.name}). Raise --{split}-limit, or give more data."
            )
    return counts


def class_weights(task: Task, split: SplitName) -> Float[np.ndarray, "subtask class"]:
    """What a sample of each label weighs in a subtask's mean over a split; the weights of all samples add up to 1.

    A binary task's samples weigh the same; otherwise both sides of a subtask do, and the samples inside a side.
    Raises `SkillNeuronsError` where a side has no samples.
    """
    totals = side_counts(task, split)
    if task.binary:
        return np.full((1, 2), 1 / totals.sum())
    return np.einsum("skc,sk->sc", subtask_sides(task), 0.5 / totals)
