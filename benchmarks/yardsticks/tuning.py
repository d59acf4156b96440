"""The tuning step: against the plain workflow, against the bare encoder, against the limit of the matrix rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import skillneurons as sn
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import initial
from skillneurons.tuning.train import losses

from .figure import Figure, Row, ratio
from .memory import as_usual
from .plain import Plain, tune
from .setting import Setting, short
from .shape import LENGTHS, POSITIONS, backbone, config, step_multiplications, task
from .turns import turns

NAME = "tuning"
METHOD = """Steps of batch 8, dropout on, Adam, the gradient clipped. Plain workflow: in float32. Ours: the package's \
own loop. Bare encoder: the library's encoder on embeddings that are there, and back from [MASK]'s output to them, no \
head, no optimizer, weights frozen, dropout on. The limit: the multiplications that a step needs, forward and back to \
the prompt, the last block read at [MASK] alone, over the rate of a square matrix product in the same turns. Times are \
of one step."""
ASKED = {torch.float32: 2.1, torch.bfloat16: 3.3}
BATCH, LR = 8, 1e-3


def measure(setting: Setting) -> Row:
    """The row."""
    figures = [figure for tokens in LENGTHS for figure in at(setting, tokens)]
    return Row(NAME, "The tuning step", METHOD, tuple(figures), setting.remarks)


def name(tokens: int, dtype: torch.dtype, what: str) -> str:
    """What a figure is called."""
    return f"{tokens} tokens, {short(dtype)}: {what}"


def at(setting: Setting, tokens: int) -> list[Figure]:
    """The figures at one length."""
    steps, side = (20, 8192) if setting.gpu else (2, 4096)
    works: dict[str, Callable[[], object]] = {}
    models = {dtype: backbone(setting.shape, dtype, setting.device) for dtype in setting.dtypes}
    own_config = sn.TuneConfig.make(positions=POSITIONS, batch=BATCH, lr=LR, trials=1)
    own_task = task(models[torch.float32], tokens, train=BATCH * steps, dev=BATCH)
    works["plain"] = as_usual(plain_steps(models[torch.float32], own_task, own_config, steps))
    for dtype, model in models.items():
        works |= {
            f"ours {dtype}": our_steps(Inputs(model, own_task, POSITIONS), own_config, steps),
            f"bare {dtype}": bare_steps(model, BATCH, 1 + POSITIONS + tokens, steps),
            f"matrices {dtype}": product(side, dtype, setting.device),
        }
    taken = turns(works, setting.repeats, setting.device, f"{NAME}, {tokens} tokens")
    seconds = {work: [own / (1 if "matrices" in work else steps) for own in all_] for work, all_ in taken.items()}
    needed = step_multiplications(config(setting.shape), BATCH, 1 + POSITIONS + tokens)
    figures = []
    for dtype in models:
        ours = seconds[f"ours {dtype}"]
        limit = [own * needed / side**3 for own in seconds[f"matrices {dtype}"]]
        asked = ASKED[dtype] if tokens == LENGTHS[0] else None
        figures += [
            ratio(name(tokens, dtype, "plain workflow / ours"), seconds["plain"], ours, "more", asked),
            ratio(name(tokens, dtype, "ours / bare encoder"), ours, seconds[f"bare {dtype}"], "less"),
            ratio(name(tokens, dtype, "ours / the limit"), ours, limit, "less"),
        ]
    return figures


def plain_steps(model: sn.Backbone, task: sn.Task, config: sn.TuneConfig, steps: int) -> Callable[[], object]:
    """Steps of the plain workflow, each time from the same prompt."""
    plain = Plain.of(model, task, POSITIONS)
    texts, labels = list(task.train.rows["text"]), task.train.labels
    batches = list(np.arange(BATCH * steps).reshape(steps, BATCH))

    def work() -> None:
        prompt = initial(model, config, 0).to(model.device)
        assert math.isfinite(sum(tune(plain, prompt, texts, labels, batches, lambda step: LR)))

    return work


def our_steps(inputs: Inputs, config: sn.TuneConfig, steps: int) -> Callable[[], object]:
    """Steps of the package's loop, likewise."""

    def work() -> None:
        assert math.isfinite(sum(losses(inputs, config, 0, LR, steps)))

    return work


def bare_steps(model: sn.Backbone, batch: int, tokens: int, steps: int) -> Callable[[], object]:
    """The encoder forward, and back to its input."""
    stack: Any = model.stack
    drawn = torch.randn(batch, tokens, model.embedding_size, generator=torch.Generator().manual_seed(0)) * 0.03
    embeddings = drawn.to(model.device, model.model.dtype).requires_grad_()
    attention = torch.ones(batch, tokens, dtype=torch.long, device=model.device)
    gradient = torch.ones_like(embeddings[:, 0]).detach().cumsum(1)

    def work() -> None:
        stack.train()
        for _ in range(steps):
            embeddings.grad = None
            stack(inputs_embeds=embeddings, attention_mask=attention).last_hidden_state[:, 0].backward(gradient)
        stack.eval()

    return work


def product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """A product of two square matrices."""
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(side, side, generator=draw).to(device, dtype) for _ in range(2))
    return lambda: one @ other
