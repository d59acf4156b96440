"""The last step of a search within a budget: int8 weights, kept where the model stays within the budget so.

    folder = found.save("small")
    tried = in_int8(found, folder)             # needs the extra `onnx`
    tried.within; load_pruned(folder, runtime="onnx-int8")

int8 takes no multiplication away, it makes each of them cheaper: how much is for `bench` to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ..evidence.claims import Paired, paired
from ..evidence.verdict import points
from ..tasks import Task
from ..tuning.inputs import SplitName
from .artifact import load_pruned
from .budget import Within
from .config import obeys
from .onnx import export
from .shipped import Shipped


@dataclass(frozen=True)
class Int8:
    """A model in int8: its accuracies, the difference on dev to the dense one's, the loss on test paired with it."""

    dev: float
    difference: float
    within: bool
    test: float
    loss: Paired

    def __str__(self) -> str:
        test = points(-self.loss.difference, -self.loss.high, -self.loss.low)
        return (
            f"int8 is {'within' if self.within else 'beyond'} the budget: dev {100 * self.dev:.1f} % "
            f"({100 * self.difference:+.1f}); test {100 * self.test:.1f} %, {test} against the dense model"
        )


def in_int8(found: Within, folder: Path) -> Int8:
    """Export what `found` saved in a folder, also in int8, and keep that there if it is within the budget on dev.

    Raises `SkillNeuronsError` where the extra `onnx` is not installed or the model cannot be exported.
    """
    shipped, walk, skill = load_pruned(folder, device="cpu"), found.walk, found.small.skill
    path = export(shipped, folder, int8=True)
    small = load_pruned(folder, device="cpu", runtime="onnx-int8")
    dev, test = (_right(small, skill.task, split) for split in ("dev", "test"))
    difference = float(dev.mean()) - walk.rows[0]["dev"]
    tried = Int8(
        float(dev.mean()), difference, obeys(difference, walk.about["points"]), float(test.mean()),
        paired(walk.arrays["right"][0].numpy() - test.astype(float), walk.about["seed"]),
    )  # fmt: skip
    if not tried.within:
        path.unlink()
        export(shipped, folder)
    return tried


def _right(model: Shipped, task: Task, split: SplitName) -> Bool[np.ndarray, " sample"]:
    rows = getattr(task, split).rows
    texts = ([row[column] for column in task.text] for row in rows)
    found = model.stream(texts if len(task.text) > 1 else (text for [text] in texts))
    return np.array([own.label == task.labels[row["label"]] for own, row in zip(found, rows, strict=True)])
