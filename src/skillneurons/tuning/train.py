"""The one training loop (paper, section 2.1 and appendix B): for a prompt, for several in one pass, for other tensors.

    [prompt] = train([Job(inputs, trial=0, lr=1e-3)], config)
    prompts = train([Job(inputs, trial, 1e-3) for trial in range(5)], config)    # each sample beside its own prompt
    [fitted] = fit([Job(inputs, 0, 1e-3, tensors)], config)      # an adapter's, say, in force in the model meanwhile

Only what is tuned has gradients. A step's samples, of all prompts together, run in parts of like length, whose
gradients are added up: nothing is computed for padding that need not be, and every prompt sees the samples that it
would see alone. The best on dev is kept; a tie counts as a gain; a prompt that stops leaves the pass. At every
evaluation the state goes to `checkpoint`, and the random numbers of dropout start anew from the seed, the trials and
the step: what was killed goes on from its last evaluation and ends as it would have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
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
from ..models.dropout import Dropout
from ..progress import progress
from .config import TuneConfig
from .evaluate import evaluate_inputs
from .inputs import Inputs, alike, most_tokens
from .prompt import Evaluated, Prompt, initial, nothing, seed_of

_Samples = Int[np.ndarray, "_"]  # places in a split, of any number


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be tuned: its task's inputs, its trial and its learning rate.

    A prompt, unless `tensors` are given, leaves with gradients that the model itself computes with: then there is no
    prompt, and no other job in the pass. The prompt begins at `start` [position, embedding], or where trial and seed
    put it.
    """

    inputs: Inputs
    trial: int
    lr: float
    tensors: Mapping[str, Tensor] | None = None
    start: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a job came to: the best on dev of its tensors, on the CPU, and the prompt, of no positions beside others."""

    tensors: dict[str, Tensor]
    prompt: Prompt


@dataclass
class _State:
    job: Job
    total: int  # steps, if nothing stops it
    prompt: Tensor
    tensors: dict[str, Tensor]  # what is tuned: the prompt, or others
    best: dict[str, Tensor]
    optimizer: torch.optim.Adam
    step: int = 0
    accuracy: float = -1.0  # of the best
    stale: int = 0  # evaluations since the last gain
    losses: list[float] = field(default_factory=list)  # of the steps since the last evaluation
    history: list[Evaluated] = field(default_factory=list)
    epoch: int = -1  # whose order of samples is at hand
    order: Int[np.ndarray, " sample"] = field(default_factory=lambda: np.zeros(0, np.int64))


def train(jobs: Sequence[Job], config: TuneConfig, checkpoint: Path | None = None, identity: str = "") -> list[Prompt]:
    """Tune the prompts of `jobs`, of one backbone, in one pass; the best of each on dev. See `fit`."""
    return [own.prompt for own in fit(jobs, config, checkpoint, identity)]


def fit(jobs: Sequence[Job], config: TuneConfig, checkpoint: Path | None = None, identity: str = "") -> list[Fitted]:
    """Tune what `jobs`, of one backbone, ask for, in one pass; the best of each on dev.

    `checkpoint`: where the state is kept between evaluations; one that `identity` does not fit is not used.
    """
    states = [_begin(job, config) for job in jobs]
    if checkpoint is not None:
        _resume(states, checkpoint, identity)
    label = f"{_named(jobs)}/{config.trials}: tuning"
    with progress(label, max(own.total for own in states), "steps", done=max(own.step for own in states)) as advance:
        while going := [own for own in states if own.step < own.total and own.stale < config.patience]:
            _steps(going, config, advance)
            for own in going:
                if own.step == own.total or own.step % config.evaluate_every == 0:
                    inputs, name = own.job.inputs, f"trial {own.job.trial + 1}"
                    point = _keep(own, evaluate_inputs(inputs, own.prompt, "dev", f"{name}: dev").accuracy)
                    advance(0, note=f"loss {point.loss:.3f}, dev accuracy {point.accuracy:.3f}")
            if checkpoint is not None:
                _save(states, checkpoint, identity)
    return [_fitted(own) for own in states]


def losses(inputs: Inputs, config: TuneConfig, trial: int, lr: float, steps: int) -> list[float]:
    """The losses of a trial's first steps at one learning rate, held there."""
    state = _begin(Job(inputs, trial, lr), config)
    return [loss for [loss] in _run([state], config, range(steps), lambda own, step: lr)]


def _named(jobs: Sequence[Job]) -> str:
    numbers = sorted({job.trial + 1 for job in jobs})
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {numbers[0]} to {numbers[-1]}"


def _begin(job: Job, config: TuneConfig) -> _State:
    backbone = job.inputs.backbone
    if job.tensors is None:
        start = initial(backbone, config, job.trial) if job.start is None else job.start.clone()
        prompt = start.to(backbone.device).requires_grad_()
        tensors = {"prompt": prompt}
    else:
        prompt, tensors = nothing(backbone), dict(job.tensors)
    optimizer = torch.optim.Adam(tensors.values(), lr=job.lr, betas=(0.9, 0.98), eps=1e-6)
    total = config.epochs * ceil(len(job.inputs.tokens("train")) / config.batch)
    if config.steps is not None:
        total = min(total, config.steps)
    return _State(job, total, prompt, tensors, _copied(tensors), optimizer)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _fitted(own: _State) -> Fitted:
    inputs, job = own.job.inputs, own.job
    labels = inputs.labels("dev")
    majority = float(np.bincount(labels).max() / len(labels))
    tensors = {name: tensor.cpu() for name, tensor in own.best.items()}
    prompt = Prompt(
        tensors.get("prompt", own.prompt.cpu()), "soft" if job.tensors is None else "none", job.trial, own.accuracy,
        majority, len(labels), inputs.limit, job.lr, tuple(own.history),
    )  # fmt: skip
    return Fitted(tensors, prompt)


def _steps(states: Sequence[_State], config: TuneConfig, advance: Callable[..., None]) -> None:
    """The steps to the next evaluation or the end of any of `states`, which all stand at the same step."""

    def rate(own: _State, step: int) -> float:
        rising = max(1, round(config.warmup * own.total))
        return own.job.lr * min((step + 1) / rising, (own.total - step) / max(1, own.total - rising))

    start = states[0].step
    until = min(start - start % config.evaluate_every + config.evaluate_every, *(own.total for own in states))
    with closing(_run(states, config, range(start, until), rate)) as running:
        for losses in running:
            for own, loss in zip(states, losses, strict=True):
                if not isfinite(loss):
                    raise _lost(own)
                own.losses.append(loss)
                own.step += 1
            advance(1)
    for own in states:
        if not all(bool(tensor.isfinite().all()) for tensor in own.tensors.values()):
            raise _lost(own)


def _lost(own: _State) -> SkillNeuronsError:
    return SkillNeuronsError(
        f"tuning needs finite numbers; trial {own.job.trial + 1} lost them at step {own.step}, with a learning rate of "
        f"{own.job.lr:g}. Try a smaller --lr or --lr auto, or --dtype float32."
    )


def _run(
    states: Sequence[_State], config: TuneConfig, steps: range, rate: Callable[[_State, int], float]
) -> Generator[list[float]]:
    """Take the steps, dropout on; yields each one's losses."""
    backbone = states[0].job.inputs.backbone
    model: Any = backbone.model
    seed = seed_of(config.seed, *(own.job.trial for own in states), 1, steps.start)
    with torch.random.fork_rng(), Dropout(seed) if backbone.device.type == "cpu" else nullcontext():
        torch.manual_seed(seed)
        model.train()
        try:
            for step in steps:
                for own in states:
                    own.optimizer.zero_grad()
                losses = _gradients(states, config, [_chosen(own, config, step) for own in states])
                for own in states:
                    torch.nn.utils.clip_grad_norm_(own.tensors.values(), config.clip)
                    own.optimizer.param_groups[0]["lr"] = rate(own, step)
                    own.optimizer.step()
                yield losses
        finally:
            model.eval()


def _gradients(states: Sequence[_State], config: TuneConfig, chosen: Sequence[_Samples]) -> list[float]:
    """Add to the gradients of what is tuned those of its mean loss over its samples; the losses."""
    device = states[0].prompt.device
    losses = torch.zeros(len(states), device=device)
    for part in _parts(states, config, chosen):
        rows = [states[one].job.inputs.rows("train", some) for one, some in part]
        ids = [row for own, _ in rows for row in own]
        types = [row for _, own in rows for row in own or ()] or None
        prompts = torch.cat([states[one].prompt.expand(len(some), -1, -1) for one, some in part])
        backbone = states[0].job.inputs.backbone
        answers = backbone.answer(backbone.place(prompts, ids, types)).float().split([len(some) for _, some in part])
        shares = torch.stack(
            [
                _loss(states[one].job.inputs, config, logits, some) / len(chosen[one])
                for (one, some), logits in zip(part, answers, strict=True)
            ]
        )
        shares.sum().backward()
        losses[[one for one, _ in part]] += shares.detach()
    return losses.tolist()


def _parts(
    states: Sequence[_State], config: TuneConfig, chosen: Sequence[_Samples]
) -> Iterator[list[tuple[int, _Samples]]]:
    """A step's samples in parts of like length; of each part, the numbers of its prompts with their samples."""
    owners = np.repeat(np.arange(len(states)), [len(some) for some in chosen])
    samples = np.concatenate(chosen)
    lengths = [own.job.inputs.tokens("train").lengths[some] for own, some in zip(states, chosen, strict=True)]
    most = most_tokens(states[0].prompt.device, gradients=True)
    for part in alike(np.concatenate(lengths) + states[0].prompt.shape[0] + 1, most):
        yield [(int(one), samples[part[owners[part] == one]]) for one in np.unique(owners[part])]


def _loss(
    inputs: Inputs, config: TuneConfig, logits: Float[Tensor, "sample vocabulary"], samples: Int[np.ndarray, " sample"]
) -> Float[Tensor, ""]:
    """The sum of the samples' cross-entropies at the answer token."""
    words = torch.tensor([word.token for word in inputs.words], device=logits.device)
    labels = torch.from_numpy(inputs.labels("train")[samples]).to(logits.device)
    if config.objective == "words":
        return cross_entropy(logits[:, words], labels, reduction="sum")
    return cross_entropy(logits, words[labels], reduction="sum")


def _chosen(own: _State, config: TuneConfig, step: int) -> Int[np.ndarray, " batch"]:
    """The samples of a step: each epoch is an order of its own."""
    samples = len(own.job.inputs.tokens("train"))
    epoch, place = divmod(step, ceil(samples / config.batch))
    if own.epoch != epoch:
        own.epoch, own.order = (
            epoch,
            np.random.default_rng(seed_of(config.seed, own.job.trial, 2, epoch)).permutation(samples),
        )
    return own.order[place * config.batch : (place + 1) * config.batch]


def _keep(own: _State, accuracy: float) -> Evaluated:
    point = Evaluated(own.step, float(np.mean(own.losses)), accuracy)
    own.history.append(point)
    own.losses = []
    if accuracy >= own.accuracy:
        own.accuracy, own.stale, own.best = accuracy, 0, _copied(own.tensors)
    else:
        own.stale += 1
    return point


_PARTS = ("now", "best", "mean", "square")  # of each tensor that is tuned: the latter two are Adam's


def _save(states: Sequence[_State], checkpoint: Path, identity: str) -> None:
    tensors: dict[str, Tensor] = {}
    for number, own in enumerate(states):
        for name, tensor in own.tensors.items():
            adam = own.optimizer.state[tensor]  # nothing of a tensor that no pass has used
            moments = (adam.get(key, torch.zeros_like(tensor)) for key in ("exp_avg", "exp_avg_sq"))
            values = (tensor.detach(), own.best[name], *moments)
            tensors |= {f"{part}.{number}.{name}": value for part, value in zip(_PARTS, values, strict=True)}
    about = {
        "identity": identity,
        "jobs": [
            {
                "step": own.step, "accuracy": own.accuracy, "stale": own.stale, "losses": own.losses,
                "lr": own.job.lr, "history": [asdict(point) for point in own.history],
            }
            for own in states
        ],
    }  # fmt: skip
    with replacing(checkpoint) as temporary:
        try:
            save_file(
                {key: value.contiguous() for key, value in tensors.items()}, temporary, {"state": json.dumps(about)}
            )
        except SafetensorError as error:
            raise unwritable(checkpoint, error) from error


def _resume(states: Sequence[_State], checkpoint: Path, identity: str) -> None:
    try:
        with safe_open(checkpoint, "pt", device=str(states[0].prompt.device)) as file:
            about = json.loads(file.metadata()["state"])
            if about["identity"] != identity or len(about["jobs"]) != len(states):
                return
            rates = [there["lr"] for there in about["jobs"]]
            kept = [
                {name: [file.get_tensor(f"{part}.{number}.{name}") for part in _PARTS] for name in own.tensors}
                for number, own in enumerate(states)
            ]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return  # none there, or nothing that this program wrote whole: begin anew
    pairs = zip(states, kept, strict=True)
    if any(own.tensors[name].shape != now.shape for own, parts in pairs for name, (now, *_) in parts.items()):
        return
    for own, there, rate, parts in zip(states, about["jobs"], rates, kept, strict=True):
        for name, (now, best, mean, square) in parts.items():
            with torch.no_grad():
                own.tensors[name].copy_(now)
            own.best[name] = best
            own.optimizer.state[own.tensors[name]] = {
                "step": torch.tensor(float(there["step"])), "exp_avg": mean, "exp_avg_sq": square
            }  # fmt: skip
        own.job = replace(own.job, lr=rate)  # one that is looked for may come out as another now
        own.step, own.accuracy, own.stale, own.losses = (there[key] for key in ("step", "accuracy", "stale", "losses"))
        own.history = [Evaluated(**point) for point in there["history"]]
