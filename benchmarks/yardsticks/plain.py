"""The plain workflow: prompt tuning and scoring as one writes them at first, and as the paper's authors do.

    plain = Plain.of(backbone, task, positions=127)
    for loss in tune(plain, prompt, texts, labels, batches, rate=lambda step: 1e-3):
        ...
    baseline, accuracy = score(plain, prompt, train, dev, labels)       # [layer, position, neuron]

The library's masked model runs whole, its vocabulary head at every token; gradients are computed for all weights,
though Adam changes the prompt alone; texts are tokenised whenever they are used, eight in a batch, in the order they
come in and padded to the longest; scoring copies the activations at the prompt to NumPy, where sums are float64 and
comparisons are made. It stands on nothing of the package but what `Plain.of` takes over, and serves as its oracle as
well. For tasks of one text and two labels, on models whose blocks have an `intermediate` part (BERT, RoBERTa).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

BATCH = 8


@dataclass(frozen=True, eq=False)
class Plain:
    """A model of its own with all gradients on, its tokenizer, the label words' tokens, the most tokens of an input."""

    model: Any
    tokenizer: Any
    words: tuple[int, ...]
    limit: int

    @classmethod
    def of(cls, backbone: Any, task: Any, positions: int) -> Plain:
        """A copy of the backbone's model, and what is needed to run the task beside a prompt of `positions`."""
        model = copy.deepcopy(backbone.model).requires_grad_(True)
        words = tuple(word.token for word in backbone.label_words(task.words))
        return cls(model, backbone.tokenizer, words, backbone.room(positions))


def logits(plain: Plain, prompt: Tensor, texts: Sequence[str]) -> Tensor:
    """The label words' logits [batch, label] at [MASK]: `[MASK] p_1 ... p_l <s> x </s>`, all of it computed."""
    encoded = plain.tokenizer(
        list(texts), padding=True, truncation=True, max_length=plain.limit, return_tensors="pt"
    ).to(prompt.device)  # fmt: skip
    embed = plain.model.get_input_embeddings()
    mask = torch.full((len(texts), 1), plain.tokenizer.mask_token_id, device=prompt.device)
    soft = prompt.to(embed.weight.dtype).expand(len(texts), -1, -1)
    embeddings = torch.cat([embed(mask), soft, embed(encoded["input_ids"])], 1)
    before = encoded["attention_mask"].new_ones(len(texts), 1 + len(prompt))
    attention = torch.cat([before, encoded["attention_mask"]], 1)
    return plain.model(inputs_embeds=embeddings, attention_mask=attention).logits[:, 0, list(plain.words)]


def tune(
    plain: Plain,
    prompt: Tensor,
    texts: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    batches: Iterable[Sequence[int] | np.ndarray],
    rate: Callable[[int], float],
    clip: float = 1.0,
) -> Iterator[float]:
    """Change the prompt [position, embedding] in place, a step for each batch; yields the losses."""
    prompt.requires_grad_()
    optimizer = torch.optim.Adam([prompt], betas=(0.9, 0.98), eps=1e-6)
    for step, chosen in enumerate(batches):
        plain.model.train()
        right = torch.tensor([int(labels[index]) for index in chosen], device=prompt.device)
        loss: Any = cross_entropy(logits(plain, prompt, [texts[index] for index in chosen]), right)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([prompt], clip)
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.step()
        optimizer.zero_grad()
        plain.model.zero_grad()
        yield loss.item()


@torch.no_grad()
def predict(plain: Plain, prompt: Tensor, texts: Sequence[str]) -> np.ndarray:
    """The likeliest label of each text."""
    plain.model.eval()
    parts = [logits(plain, prompt, some).cpu().numpy() for some in _batches(texts)]
    return np.concatenate(parts).argmax(1)


def score(
    plain: Plain, prompt: Tensor, train: Sequence[str], dev: Sequence[str], labels: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 3 over train and Eq. 4 over dev, whose labels are 0 and 1: baseline, accuracy [layer, position, neuron]."""
    layers = plain.model.base_model.encoder.layer
    baseline = np.zeros((len(layers), len(prompt), layers[0].intermediate.dense.out_features))
    right = np.zeros_like(baseline)

    def add(activations: list[np.ndarray], _: slice) -> None:
        for layer, own in enumerate(activations):
            baseline[layer] += own.sum(0)

    def count(activations: list[np.ndarray], some: slice) -> None:
        own_labels = np.asarray(labels[some])[:, None, None]
        for layer, own in enumerate(activations):
            right[layer] += ((own > baseline[layer]) == own_labels).sum(0)

    _read(plain, prompt, train, add)
    baseline /= len(train)
    _read(plain, prompt, dev, count)
    return baseline, right / len(dev)


def find(
    plain: Plain, prompt: Tensor, task: Any, steps: int, every: int, lr: float, batch: int = BATCH
) -> tuple[np.ndarray, float]:
    """Tune, score, rank: Eq. 5 of every neuron [layer, neuron] under the best prompt on dev; its accuracy on test.

    `task` gives the samples; its label 1 is the positive one. The rate rises at once and then falls to the last step.
    """
    splits = {name: getattr(task, name) for name in ("train", "dev", "test")}
    texts = {name: list(split.rows[task.text[0]]) for name, split in splits.items()}
    labels = {name: np.array(split.labels) for name, split in splits.items()}
    best, accuracy = prompt.detach().clone(), 0.0
    order = islice(_shuffled(len(texts["train"]), batch), steps)
    running = tune(plain, prompt, texts["train"], labels["train"], order, lambda step: lr * (steps - step) / steps)
    for step, _ in enumerate(running, start=1):
        if step % every == 0:
            own = float((predict(plain, prompt, texts["dev"]) == labels["dev"]).mean())
            if own >= accuracy:
                best, accuracy = prompt.detach().clone(), own
    _, found = score(plain, best, texts["train"], texts["dev"], labels["dev"])
    tested = float((predict(plain, best, texts["test"]) == labels["test"]).mean())
    return np.maximum(found, 1 - found).max(1), tested


@torch.no_grad()
def _read(
    plain: Plain, prompt: Tensor, texts: Sequence[str], process: Callable[[list[np.ndarray], slice], None]
) -> None:
    """Run the texts; `process` gets each batch's activations [sample, position, neuron] by layer, and where it is."""
    plain.model.eval()
    at = slice(1, 1 + len(prompt))
    kept: list[np.ndarray] = []
    hooks = [
        layer.intermediate.register_forward_hook(
            lambda _module, _args, output: kept.append(output[:, at].cpu().numpy())
        )
        for layer in plain.model.base_model.encoder.layer
    ]
    for start in range(0, len(texts), BATCH):
        some = slice(start, start + BATCH)
        kept.clear()
        logits(plain, prompt, texts[some])
        process(kept, some)
    for hook in hooks:
        hook.remove()


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def _shuffled(samples: int, batch: int) -> Iterator[np.ndarray]:
    """Batches without end; each epoch is an order of its own."""
    draw = np.random.default_rng(0)
    while True:
        yield from np.split(draw.permutation(samples), range(batch, samples, batch))
