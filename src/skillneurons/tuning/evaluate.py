"""How well a prompt does on a split."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..models import Backbone
from ..progress import progress
from ..tasks import Task
from .inputs import Inputs, SplitName
from .prompt import Prompt


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predicted and true labels of a split's samples, in the split's order, as indices into the task's labels."""

    predicted: Int[np.ndarray, " sample"]
    labels: Int[np.ndarray, " sample"]

    @property
    def correct(self) -> Bool[np.ndarray, " sample"]:
        """Which samples were right."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """The share of samples that were right."""
        return float(self.correct.mean())

    def __repr__(self) -> str:
        return f"Evaluation(accuracy {self.accuracy:.4f} of {len(self.labels)} samples)"


def evaluate(model: Backbone, task: Task, prompt: Prompt, split: SplitName = "test") -> Evaluation:
    """Predict the label whose word is likeliest at the answer token, for every sample of a split.

    Edits of the model that are in force (`model.edit`) act here as well.
    """
    return evaluate_inputs(Inputs.beside(model, task, prompt), prompt.embedding, split)


@torch.no_grad()
def evaluate_inputs(
    inputs: Inputs, embedding: Float[Tensor, "position embedding"], split: SplitName, label: str | None = "evaluating"
) -> Evaluation:
    """As `evaluate`, for inputs that are tokenised already; without a label there is no bar."""
    labels = inputs.labels(split)
    predicted = np.zeros(len(labels), dtype=np.int64)
    embedding = embedding.detach().to(inputs.backbone.device)
    bar = progress(label, len(labels), "samples") if label else nullcontext(lambda count: None)
    with bar as advance:
        for chosen in inputs.by_length(split):
            logits = inputs.word_logits(inputs.batch(split, chosen, embedding))
            predicted[chosen] = logits.argmax(1).cpu().numpy()
            advance(len(chosen))
    return Evaluation(predicted, labels)
