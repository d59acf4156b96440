"""Prompt tuning: one trial's loop (paper, section 2.1 and appendix B).

Only the prompt has a gradient. The best prompt on dev is kept; a tie counts as a gain. At every evaluation the state
goes to `checkpoint`, and the random numbers of dropout start anew from the seed, the trial and the step: a trial that
was killed goes on from its last evaluation and ends as it would have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import SkillNeuronsError
from ..files import replacing, unwritable
from ..progress import progress
from .config import TuneConfig
from .evaluate import evaluate_inputs
from .inputs import Inputs
from .prompt import Evaluated, Prompt, initial, seed_of


@dataclass
class _State:
    prompt: Tensor
    best: Tensor
    optimizer: torch.optim.Adam
    step: int = 0
    accuracy: float = -1.0  # of the best prompt
    stale: int = 0  # evaluations since the last gain
    history: list[Evaluated] = field(default_factory=list)


def train(
    inputs: Inputs, config: TuneConfig, trial: int, lr: float, checkpoint: Path | None = None, identity: str = ""
) -> Prompt:
    """Tune one prompt and return the best on dev.

    `checkpoint`: where the state is kept between evaluations; one that `identity` does not fit is not used.
    """
    state = _begin(inputs, config, trial, lr)
    if checkpoint is not None:
        _resume(state, checkpoint, identity)
    total = _total(inputs, config)
    label = f"trial {trial + 1}/{config.trials}: tuning"
    with progress(label, total, "steps", done=state.step) as advance:
        while state.step < total and state.stale < config.patience:
            until = min(total, state.step + config.evaluate_every)
            loss = _steps(state, inputs, config, trial, lr, until, advance)
            accuracy = evaluate_inputs(inputs, state.prompt, "dev", f"trial {trial + 1}: dev").accuracy
            _keep(state, Evaluated(until, loss, accuracy))
            advance(0, note=f"loss {loss:.3f}, dev accuracy {accuracy:.3f}")
            if checkpoint is not None:
                _save(state, checkpoint, identity)
    labels = inputs.labels("dev")
    majority = float(np.bincount(labels).max() / len(labels))
    return Prompt(
        state.best.cpu(), "soft", trial, state.accuracy, majority, len(labels), inputs.limit, lr, tuple(state.history)
    )


def losses(inputs: Inputs, config: TuneConfig, trial: int, lr: float, steps: int) -> list[float]:
    """The losses of a trial's first steps at one learning rate, held there."""
    state = _begin(inputs, config, trial, lr)
    return list(_run(state, inputs, config, trial, range(steps), lambda step: lr))


def _begin(inputs: Inputs, config: TuneConfig, trial: int, lr: float) -> _State:
    prompt = initial(inputs.backbone, config, trial).to(inputs.backbone.device).requires_grad_()
    optimizer = torch.optim.Adam([prompt], lr=lr, betas=(0.9, 0.98), eps=1e-6)
    return _State(prompt, prompt.detach().clone(), optimizer)


def _total(inputs: Inputs, config: TuneConfig) -> int:
    whole = config.epochs * ceil(len(inputs.tokens("train")) / config.batch)
    return whole if config.steps is None else min(whole, config.steps)


def _steps(
    state: _State, inputs: Inputs, config: TuneConfig, trial: int, lr: float, until: int, advance: Callable[..., None]
) -> float:
    total = _total(inputs, config)
    rising = max(1, round(config.warmup * total))

    def rate(step: int) -> float:
        return lr * min((step + 1) / rising, (total - step) / max(1, total - rising))

    seen: list[float] = []
    with closing(_run(state, inputs, config, trial, range(state.step, until), rate)) as running:
        for loss in running:
            if not isfinite(loss):
                break
            seen.append(loss)
            advance(1)
    if len(seen) < until - state.step or not bool(state.prompt.isfinite().all()):
        raise SkillNeuronsError(
            f"tuning needs finite numbers; trial {trial + 1} lost them at step {state.step + len(seen)}, with a "
            f"learning rate of {lr:g}. Try a smaller --lr or --lr auto, or --dtype float32."
        )
    state.step = until
    return float(np.mean(seen))


def _run(
    state: _State, inputs: Inputs, config: TuneConfig, trial: int, steps: range, rate: Callable[[int], float]
) -> Generator[float]:
    """Take the steps, dropout on; yields each one's loss."""
    model: Any = inputs.backbone.model
    device = inputs.backbone.device
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(config.seed, trial, 1, steps.start))
        model.train()
        try:
            for step in steps:
                chosen = _chosen(len(inputs.tokens("train")), config, trial, step)
                labels = torch.from_numpy(inputs.labels("train")[chosen]).to(device)
                batch = inputs.batch("train", chosen, state.prompt)
                if config.objective == "words":
                    loss = cross_entropy(inputs.word_logits(batch).float(), labels)
                else:
                    tokens = torch.tensor([word.token for word in inputs.words], device=device)
                    loss = cross_entropy(inputs.backbone.answer(batch).float(), tokens[labels])
                state.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_([state.prompt], config.clip)
                state.optimizer.param_groups[0]["lr"] = rate(step)
                state.optimizer.step()
                yield loss.item()
        finally:
            model.eval()


def _chosen(samples: int, config: TuneConfig, trial: int, step: int) -> Int[np.ndarray, " batch"]:
    """The samples of a step: each epoch is an order of its own."""
    epoch, place = divmod(step, ceil(samples / config.batch))
    return _order(samples, seed_of(config.seed, trial, 2, epoch))[place * config.batch : (place + 1) * config.batch]


@lru_cache(maxsize=1)
def _order(samples: int, seed: int) -> Int[np.ndarray, " sample"]:
    return np.random.default_rng(seed).permutation(samples)


def _keep(state: _State, point: Evaluated) -> None:
    state.history.append(point)
    if point.accuracy >= state.accuracy:
        state.accuracy, state.stale, state.best = point.accuracy, 0, state.prompt.detach().clone()
    else:
        state.stale += 1


def _save(state: _State, checkpoint: Path, identity: str) -> None:
    adam = state.optimizer.state[state.prompt]
    tensors: dict[str, Float[Tensor, "position embedding"]] = {
        "prompt": state.prompt.detach(), "best": state.best, "mean": adam["exp_avg"], "square": adam["exp_avg_sq"],
    }  # fmt: skip
    about = {
        "identity": identity, "step": state.step, "accuracy": state.accuracy, "stale": state.stale,
        "history": [asdict(point) for point in state.history],
    }  # fmt: skip
    with replacing(checkpoint) as temporary:
        try:
            save_file(
                {key: value.contiguous() for key, value in tensors.items()}, temporary, {"state": json.dumps(about)}
            )
        except SafetensorError as error:
            raise unwritable(checkpoint, error) from error


def _resume(state: _State, checkpoint: Path, identity: str) -> None:
    try:
        with safe_open(checkpoint, "pt", device=str(state.prompt.device)) as file:
            about = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in ("prompt", "best", "mean", "square")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return  # none there, or nothing that this program wrote whole: begin anew
    if about["identity"] != identity or tensors["prompt"].shape != state.prompt.shape:
        return
    with torch.no_grad():
        state.prompt.copy_(tensors["prompt"])
    state.best = tensors["best"]
    state.optimizer.state[state.prompt] = {
        "step": torch.tensor(float(about["step"])), "exp_avg": tensors["mean"], "exp_avg_sq": tensors["square"]
    }  # fmt: skip
    state.step, state.accuracy, state.stale = about["step"], about["accuracy"], about["stale"]
    state.history = [Evaluated(**point) for point in about["history"]]
