"""Other ways of tuning than prompts: adapters and BitFit, one result a trial (paper, section 5).

    tuned = tune_weights(model, task, AdapterConfig(), trials=5)         # or BitFitConfig()
    with tuned[0].applied(model):
        evaluate(model, task, tuned[0].prompt)                           # and any edit of the neurons
    evaluate_tuned(model, task, tuned[0])
    tuned[0].save("adapter.safetensors"); Tuned.load("adapter.safetensors")

There is no prompt: the label word is read at a [MASK] before the input, at a causal model's last token, at the
decoder's first step. The loop is that of prompts, with a learning rate of the method's own. The model's weights stay
bit for bit what they were, which is checked after each trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import digest, replacing, unwritable
from ..models import Backbone
from ..progress import say
from ..tasks import Task
from . import adapter, bitfit
from .config import AdapterConfig, BitFitConfig, TuneConfig
from .evaluate import Evaluation, evaluate
from .inputs import Inputs, SplitName
from .prompt import Prompt, seed_of
from .train import Job, fit
from .tune import limited

Method = AdapterConfig | BitFitConfig
OF_PROMPTS = ("prompt", "positions", "together", "init_std", "lr")
"""Options of prompts that say nothing about other methods."""
FORMAT = 1
_ABOUT = "skillneurons"
_REMEDY = "Remove it and tune again."


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a method tuned in one trial.

    `tensors`: an adapter's, or biases, by the paths of their places; `prompt`: one of no positions, with trial, dev
    accuracy, majority, learning rate and history; `model`: the fingerprint of the model that they belong to.
    """

    method: Method
    tensors: Mapping[str, Tensor] = field(repr=False)
    prompt: Prompt
    model: str
    identity: str = ""

    def applied(self, model: Backbone) -> AbstractContextManager[None]:
        """The tuned tensors at work in the model while the block runs; nothing survives it, however it ends.

        Raises `SkillNeuronsError` for another model than they were tuned for.
        """
        if model.fingerprint != self.model:
            raise SkillNeuronsError(
                f"{self.method.method} belongs to the model, and the dtype of it, that it was tuned for; {model.name} "
                "is another. Tune it for this model."
            )
        return _applied(model, self.method, {name: own.to(model.device) for name, own in self.tensors.items()})

    def inputs(self, model: Backbone, task: Task) -> Inputs:
        """The task's inputs as the method reads them, beside no prompt."""
        return Inputs.beside(model, task, self.prompt)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        about = {
            "format": FORMAT, "identity": self.identity, "model": self.model, "method": self.method.model_dump(),
            "embedding": self.prompt.embedding.shape[1], "prompt": self.prompt.record(),
        }  # fmt: skip
        with replacing(Path(path)) as temporary:
            try:
                save_file(
                    {name: own.contiguous() for name, own in self.tensors.items()}, temporary,
                    {_ABOUT: json.dumps(about)},
                )  # fmt: skip
            except SafetensorError as error:
                raise unwritable(Path(path), error) from error

    @classmethod
    def load(cls, path: str | Path) -> Tuned:
        """Read what `save` wrote. Raises `SkillNeuronsError` where it is missing, truncated, or of another version."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()[_ABOUT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if about["format"] != FORMAT:
                raise SkillNeuronsError(
                    f"{path} is of format {about['format']}, this version of skillneurons reads {FORMAT}. {_REMEDY}"
                )
            prompt = Prompt.from_record(torch.zeros(0, about["embedding"]), about["prompt"])
            method: Method = TypeAdapter(Method).validate_python(about["method"])
            return cls(method, tensors, prompt, about["model"], about["identity"])
        except FileNotFoundError:
            raise SkillNeuronsError(f"there is no {path}. Tune, and save what comes of it.") from None
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise SkillNeuronsError(f"{path} is truncated, or no tuned method's file. {_REMEDY}") from error

    def __repr__(self) -> str:
        size = sum(own.numel() for own in self.tensors.values())
        return (
            f"Tuned({self.method.method}, trial {self.prompt.trial}, {size} numbers; dev accuracy "
            f"{self.prompt.accuracy:.3f}, majority {self.prompt.majority:.3f})"
        )


def tune_weights(
    model: Backbone,
    task: Task,
    method: Method,
    *,
    config: TuneConfig | None = None,
    preset: str = "paper",
    out: str | Path | None = None,
    **options: Any,
) -> list[Tuned]:
    """Tune adapters or biases for a task, one `Tuned` for each trial.

    Options are those of `TuneConfig` but for the prompt's own (and `lr`, which `method` has); `config`, a run's say,
    gives them all at once, and of it the prompt's own go unused. With `out` each trial is kept there as soon as it is
    tuned: the same call goes on where a killed one stopped. Raises `SkillNeuronsError` where `method` does not fit the
    model, or an option says nothing about it.
    """
    if alien := [name for name in OF_PROMPTS if name in options]:
        raise SkillNeuronsError(
            f"{method.method} has no prompt; {', '.join(alien)} would say nothing. Leave them out; a learning rate is "
            f"an option of {type(method).__name__}."
        )
    config = config or TuneConfig.preset(preset, **options)
    task = limited(task, config)
    folder = None if out is None else Path(out)
    return [_trial(model, task, method, config, trial, folder) for trial in range(config.trials)]


def evaluate_tuned(model: Backbone, task: Task, tuned: Tuned, split: SplitName = "test") -> Evaluation:
    """As `evaluate`, with what was tuned at work and no prompt. Edits that are in force act here as well."""
    with tuned.applied(model):
        return evaluate(model, task, tuned.prompt, split)


def _trial(model: Backbone, task: Task, method: Method, config: TuneConfig, trial: int, folder: Path | None) -> Tuned:
    loop = config.model_dump(exclude={*OF_PROMPTS, "trials"})
    parts = (json.dumps([FORMAT, version("skillneurons"), method.model_dump(), loop, trial]), model.fingerprint)
    identity = digest(*parts, task.fingerprint, task.split_fingerprint)
    path = None if folder is None else folder / f"{method.method}-{trial}.safetensors"
    if path is not None and path.exists() and (there := Tuned.load(path)).identity == identity:
        return there
    before = replace(model).fingerprint  # anew, for a backbone remembers its own
    if isinstance(method, AdapterConfig):
        tensors = adapter.begin(model, method, seed_of(config.seed, trial, 3))
    else:
        tensors = bitfit.begin(model)
    for tensor in tensors.values():
        tensor.requires_grad_()
    job = Job(Inputs(model, task, 0, config.input_limit), trial, method.lr, tensors)
    checkpoint = None if path is None else path.with_name(f"{path.stem}.unfinished.safetensors")
    with _applied(model, method, tensors):
        [found] = fit([job], config, checkpoint, identity)
    assert replace(model).fingerprint == before, f"{method.method} has changed weights of {model.name}"
    if found.prompt.accuracy <= found.prompt.majority:
        say(_doubt(method, found.prompt), style="yellow")
    tuned = Tuned(method, found.tensors, found.prompt, model.fingerprint, identity)
    if path is not None and checkpoint is not None:
        tuned.save(path)
        checkpoint.unlink(missing_ok=True)
    return tuned


def _applied(model: Backbone, method: Method, tensors: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    return (adapter.inserted if isinstance(method, AdapterConfig) else bitfit.replaced)(model, tensors)


def _doubt(method: Method, found: Prompt) -> str:
    return (
        f"trial {found.trial + 1}: {method.method} did not beat the majority label (dev accuracy {found.accuracy:.3f}, "
        f"majority {found.majority:.3f}): try another learning rate than {method.lr:g}, or more steps."
    )
