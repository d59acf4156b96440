"""The prompt frozen into each layer's keys and values, so that its tokens cost no computation.

    prefix = frozen_prompt(model, task, prompt)                # at their means over train
    prefix = tuned(model, task, prefix, config=skill.config)   # then tuned as the prompt was
    evaluate(prefix.applied(model), task, prefix.prompt)       # and whatever else a backbone is good for
    prefix.save("prefix.safetensors"); Prefix.load("prefix.safetensors")

In the masked layout `[MASK] p_1 ... p_l <s> x </s>` the other tokens see the prompt through its keys and values alone.
Those of layer 0 are the same for every input; above, each has its mean over the training samples put in its place
(sums in float64). With 127 positions and inputs of 28 tokens 29 of 156 tokens are left to compute.

Tuned, this is prefix tuning (Li and Liang, 2021), begun where a prompt had led. A causal model's prompt follows its
input and takes it up: there the answer comes from, and it cannot be frozen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import digest
from ..finding.stored import foreign, store, stored
from ..models import Backbone, Batch
from ..progress import progress
from ..tasks import Task
from ..tuning.config import TuneConfig
from ..tuning.evaluate import evaluate
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt, nothing
from ..tuning.train import Job, fit
from ..tuning.tune import limited
from ..tuning.tuned import OF_PROMPTS
from .prefixed import Constant, Own, Prefixed, attending, prefixed

RATE = 0.01
"""The learning rate of keys and values, as a share of their root mean square."""
FORMAT = 1
_REMEDY = "Remove it and freeze the prompt again."


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prompt's keys and values in every layer.

    `keys`, `values` [layer, head, position, size], float32, on the CPU. `prompt`: one of no positions, with trial, dev
    accuracy and majority, and once they are tuned learning rate and history. `model`: the fingerprint of the model
    that they belong to; `identity`: what tuned them.
    """

    keys: Constant
    values: Constant
    prompt: Prompt
    model: str
    identity: str = ""

    @property
    def fingerprint(self) -> str:
        """A hash of keys, values and model."""
        return digest(self.model, *(own.contiguous().numpy().tobytes() for own in (self.keys, self.values)))

    def applied(self, model: Backbone) -> Prefixed:
        """The model with the prompt inside, to be asked with `prompt`. Raises `SkillNeuronsError` for another model."""
        if model.fingerprint != self.model:
            raise SkillNeuronsError(
                "keys and values belong to the model, and the dtype of it, in which the prompt was frozen; "
                f"{model.name} is another. Freeze the prompt in this model."
            )
        return prefixed(model, self.keys, self.values)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        about = {
            "format": FORMAT, "identity": self.identity, "model": self.model,
            "embedding": self.prompt.embedding.shape[1], "prompt": self.prompt.record(),
        }  # fmt: skip
        store(Path(path), {"keys": self.keys, "values": self.values}, about)

    @classmethod
    def load(cls, path: str | Path) -> Prefix:
        """Read what `save` wrote. Raises `SkillNeuronsError` where it is missing, truncated, or of another version."""
        tensors, about = stored(Path(path), _REMEDY)
        if about.get("format") != FORMAT or set(tensors) != {"keys", "values"}:
            raise foreign(Path(path), _REMEDY)
        prompt = Prompt.from_record(torch.zeros(0, about["embedding"]), about["prompt"])
        return cls(tensors["keys"], tensors["values"], prompt, about["model"], about["identity"])

    def __repr__(self) -> str:
        layers, _, positions, _ = self.keys.shape
        return (
            f"Prefix({positions} positions in {layers} layers, trial {self.prompt.trial}; dev accuracy "
            f"{self.prompt.accuracy:.3f}, majority {self.prompt.majority:.3f})"
        )


def frozen_prompt(model: Backbone, task: Task, prompt: Prompt) -> Prefix:
    """Freeze a prompt's keys and values at their means over train, by one pass.

    Raises `SkillNeuronsError` where `of_one` does.
    """
    of_one(model, task, prompt)
    inputs = Inputs.beside(model, task, prompt)
    keys, values = means(model, _train(inputs, prompt.embedding.to(model.device)))
    none = nothing(model)
    frozen = replace(prompt, embedding=none.cpu(), kind="none", input_limit=inputs.limit, lr=None, history=())
    found = evaluate(prefixed(model, keys, values), task, frozen, "dev")
    return Prefix(keys.cpu(), values.cpu(), replace(frozen, accuracy=found.accuracy), model.fingerprint)


def tuned(
    model: Backbone,
    task: Task,
    prefix: Prefix,
    *,
    lr: float | Literal["auto"] = "auto",
    config: TuneConfig | None = None,
    preset: str = "paper",
    out: str | Path | None = None,
    **options: Any,
) -> Prefix:
    """Tune keys and values as prompts are; the best on dev is kept, `prefix` itself where nothing is as good.

    `lr`: `auto` is `RATE` times the root mean square of keys and values. Options are those of `TuneConfig` but for the
    prompt's own; `config`, a run's say, gives them all at once, and of it the prompt's own go unused. With `out`, a
    file, the result is kept there: the same call goes on where a killed one stopped. Raises `SkillNeuronsError` for
    another model.
    """
    if alien := [name for name in OF_PROMPTS if name in options]:
        raise SkillNeuronsError(f"the prompt is frozen already; {', '.join(alien)} would say nothing. Leave them out.")
    config = config or TuneConfig.preset(preset, **options)
    task = limited(task, config)
    if lr == "auto":
        lr = RATE * float(torch.stack([prefix.keys, prefix.values]).pow(2).mean().sqrt())
    loop = config.model_dump(exclude={*OF_PROMPTS, "trials"})
    parts = (json.dumps([FORMAT, version("skillneurons"), loop, lr]), prefix.fingerprint)
    identity = digest(*parts, task.fingerprint, task.split_fingerprint)
    path = None if out is None else Path(out)
    if path is not None and path.exists() and (there := Prefix.load(path)).identity == identity:
        return there
    start = prefix.applied(model)
    tensors = {name: own.clone().requires_grad_() for name, own in (("keys", start.keys), ("values", start.values))}
    inputs = Inputs(prefixed(model, **tensors), task, 0, prefix.prompt.input_limit)
    checkpoint = None if path is None else path.with_name(f"{path.stem}.unfinished.safetensors")
    [found] = fit([Job(inputs, prefix.prompt.trial, lr, tensors)], config, checkpoint, identity)
    if found.prompt.accuracy < prefix.prompt.accuracy:
        best = replace(prefix, identity=identity)
    else:
        best = Prefix(**found.tensors, prompt=found.prompt, model=prefix.model, identity=identity)
    if path is not None and checkpoint is not None:
        best.save(path)
        checkpoint.unlink(missing_ok=True)
    return best


@torch.no_grad()
def of_one(model: Backbone, task: Task, prompt: Prompt) -> Prefixed:
    """The model with the keys and values that the first training sample gives a prompt inside.

    That sample's logits are those of the whole model then. Raises `SkillNeuronsError` where they are not, for a model
    that is not masked, and for one whose attention cannot be given constants.
    """
    if model.kind != "masked":
        raise SkillNeuronsError(
            f"a masked model's prompt can be frozen, for it stands at fixed places before the input; {model.name} is "
            f"{model.kind}. Use a shorter prompt there, or prune neurons alone."
        )
    inputs, one = Inputs.beside(model, task, prompt), np.zeros(1, np.int64)
    whole = inputs.batch("train", one, prompt.embedding.to(model.device))
    inside = prefixed(model, *means(model, [whole]))
    expected = model.answer(whole).float()
    try:
        found = inside.answer(inside.place(nothing(model), *inputs.rows("train", one))).float()
    except RuntimeError:  # something else of the attention is as large as all tokens are many
        found = torch.full_like(expected, torch.inf)
    limit = 1e-4 if model.model.dtype.itemsize > 2 else 0.1
    off = float((found - expected).abs().max() / expected.abs().max())
    if not off <= limit:  # nor NaN
        raise SkillNeuronsError(
            f"with a sample's own keys and values in the prompt's place a model must answer as before; {model.name} "
            f"does not (logits are off by {off:.2%}): its tokens see each other in other ways as well. Use a shorter "
            "prompt, or prune neurons alone."
        )
    return inside


@torch.no_grad()
def means(model: Backbone, batches: Iterable[Batch]) -> tuple[Constant, Constant]:
    """Keys and values at the prompt, float32, each its mean over the samples of all batches."""
    sums: dict[int, Tensor] = {}
    samples = 0
    for batch in batches:

        def add(layer: int, keys: Own, values: Own, prompt: slice = batch.prompt) -> None:
            both = torch.stack([keys[:, :, prompt], values[:, :, prompt]]).double().sum(1)
            sums[layer] = sums[layer] + both if layer in sums else both

        with attending(model.model, add):
            model.read(batch)
        samples += len(batch)
    if not sums:
        raise SkillNeuronsError(
            f"constant keys and values are given to a model through the library's attention; {model.name} "
            f"({model.model.config.model_type}) has one of its own. Use a shorter prompt, or prune neurons alone."
        )
    keys, values = (torch.stack([sums[layer] for layer in sorted(sums)], 1) / samples).float()
    return keys, values


def _train(inputs: Inputs, embedding: Tensor) -> Iterator[Batch]:
    """The training samples beside the prompt."""
    with progress("freezing the prompt", len(inputs.tokens("train")), "samples") as advance:
        for chosen in inputs.by_length("train"):
            yield inputs.batch("train", chosen, embedding)
            advance(len(chosen))
