"""What is kept while a split runs through the model: sums, then counts; never a sample's activations.

    means = Means(widths, positions, labels, classes=2, device=device)     # Eq. 3
    sweep(inputs, "train", embedding, [means], "trial 1")
    counts = Counts(baselines, labels, sides)                              # Eq. 4
    sweep(inputs, "dev", embedding, [counts], "trial 1")

`labels` are those of the split that is swept, by sample. What is kept stands on the model's first device; activations
of layers that are elsewhere come to it.

Sums are float64 and right to 1e-6 of the mean absolute activation, from some hundred samples on even for a neuron a
hundred times as active as the others. Float64 is slow on a CPU: there float32 adds up a few samples, or one sample's
tokens, before float64 takes over; many samples, of several batches, where activations are of half precision, for their
8 or 11 bits leave room in the 24 of float32. The sums of all classes are one matrix product then: samples' classes as
zeros and ones, times activations.

Counts are exact. Comparisons that give bools are slow on a CPU, and so is summing them: integers are compared instead.
The bits of a floating-point number, read as an integer, grow with the number where it is positive, and fall with it
where it is negative. So where the baseline is negative, all bits but the sign's are flipped, of baseline and activation
alike, and the integers compare as the numbers do. A baseline takes the activations' precision, rounded down: what is
above the one is above the other. NaN is not provided for: loading refuses models that overflow. Beside half-precision
activations counts are int16, and move to int32 before they could run over.

Both are fastest where samples of a label follow one another in a batch, as `sweep` has them, for they are one slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models import Batch

FEW, MANY = 8, 64
"""Samples summed in float32 before float64 takes over: of float32 activations, and of half-precision ones."""
CELLS = 2**15
"""Positions x neurons that each thread of a CPU works on at a time: what is made of them stays in its cache."""
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def scoring_bytes(widths: Sequence[int], positions: int, classes: int, subtasks: int, halves: bool = False) -> int:
    """The most bytes that the running statistics of a trial take, whatever the number of samples.

    `halves`: whether the model runs in half precision.
    """
    neurons = sum(widths)
    sums = neurons * (classes * positions * (12 if halves else 8) + 2 * 8)
    baselines = neurons * subtasks * positions * 4
    counted = neurons * subtasks * positions * (2 * 4 + 4)  # fired on two sides, then the accuracy
    means = neurons * (positions + 2) * 4
    return max(sums + baselines + means, means + 2 * baselines + counted)  # baselines: then also as integers


class Means:
    """Sums of activations over a split, per class and position, and over answer and input tokens."""

    def __init__(
        self, widths: Sequence[int], positions: int, labels: Int[np.ndarray, " sample"], classes: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.labels = labels
        self.device = device
        self.rest = [torch.zeros(2, width, dtype=torch.float64, device=device) for width in widths]
        self.samples = np.zeros(classes)
        self.tokens = 0.0
        self._sums = [torch.zeros(classes, positions, width, dtype=torch.float64, device=device) for width in widths]
        self._recent: dict[int, Tensor] = {}
        self._held = 0

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch whose activations come next; `samples` are indices into the labels."""
        self._batch = batch
        self._classes = list(_runs(self.labels[samples]))
        self._inputs = batch.inputs[:, None].float().to(self.device)
        self.samples += np.bincount(self.labels[samples], minlength=len(self.samples))
        self.tokens += float(batch.inputs.sum())
        self._members = torch.from_numpy(self.labels[samples] == np.arange(len(self.samples))[:, None]).float()
        self._full = self._held + len(samples) > MANY
        self._held = len(samples) + (0 if self._full else self._held)

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Add one layer's activations of the batch."""
        activations, prompt = activations.to(self.device), self._batch.prompt
        add = self._add_halves if activations.dtype.itemsize == 2 and self.device.type == "cpu" else self._add
        add(layer, activations[:, prompt].flatten(1))
        rest = self.rest[layer]
        if self._batch.answer is not None:
            rest[0] += activations[:, self._batch.answer].double().sum(0)
        for tokens in (slice(0, prompt.start), slice(prompt.stop, None)):
            others = at_least_float32(activations[:, tokens])
            rest[1] += (self._inputs[:, :, tokens].to(others.dtype) @ others).double().sum((0, 1))

    @property
    def sums(self) -> list[Float[Tensor, "class position _neuron"]]:
        """The sums so far, by layer."""
        if self._held:
            for layer, recent in self._recent.items():
                self._sums[layer].flatten(1).add_(recent)
                recent.zero_()
            self._held = 0
        return self._sums

    def mean(self, layer: int, answer: bool) -> Float[Tensor, "row neuron"]:
        """Unweighted means: a row a position, the answer token (NaN where there is none), the input tokens."""
        count = self.samples.sum()
        rows = self.rest[layer].clone()
        rows[0] = rows[0] / count if answer else torch.nan
        rows[1] /= max(self.tokens, 1.0)
        return torch.cat([self.sums[layer].sum(0) / count, rows])

    def baseline(
        self, layer: int, weights: Float[np.ndarray, "subtask class"]
    ) -> Float[Tensor, "subtask position neuron"]:
        """Eq. 3 for every subtask: the sums of the classes, each times its weight."""
        return torch.einsum("sc,cpn->spn", torch.from_numpy(weights).to(self.sums[layer]), self.sums[layer])

    def _add(self, layer: int, prompt: Float[Tensor, "sample cell"]) -> None:
        for own, values in zip(_blocks(self._sums[layer].flatten(1)), _blocks(prompt), strict=True):
            for label, some in self._classes:
                for part in _partial(values[some]):
                    own[label].add_(part)

    def _add_halves(self, layer: int, prompt: Float[Tensor, "sample cell"]) -> None:
        sums = self._sums[layer].flatten(1)
        if layer not in self._recent:
            self._recent[layer] = torch.zeros_like(sums, dtype=torch.float32)
        for own, recent, values in zip(_blocks(sums), _blocks(self._recent[layer]), _blocks(prompt), strict=True):
            for start in range(0, len(values), MANY):
                if start or self._full:
                    own.add_(recent)
                    recent.zero_()
                some = slice(start, start + MANY)
                recent.addmm_(self._members[:, some], values[some].float())


class Counts:
    """How many samples of a subtask's negative and positive side are above the baseline."""

    def __init__(
        self,
        baselines: Sequence[Float[Tensor, "subtask position _neuron"]],
        labels: Int[np.ndarray, " sample"],
        sides: Int[np.ndarray, "subtask 2 class"],
    ) -> None:
        self.baselines = baselines
        self.labels = labels
        self.side = np.where(sides.any(1), sides[:, 1], -1)  # [subtask, class]; -1: neither
        self.device = baselines[0].device
        self._fired = [
            torch.zeros(base.shape[0], 2, *base.shape[1:], dtype=torch.int32, device=base.device) for base in baselines
        ]
        self._limits: dict[int, tuple[Tensor, Tensor]] = {}
        self._held = 0

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch whose activations come next; `samples` are indices into the labels."""
        self._prompt = batch.prompt
        self._held += len(samples)
        if self._held >= 2**15:
            self._settle()
            self._held = len(samples)
        sides = self.side[:, self.labels[samples]]
        self._sides = [[(side, some) for side, some in _runs(own) if side >= 0] for own in sides]

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Count one layer's activations of the batch, strictly greater than the baseline (Eq. 4)."""
        prompt = activations[:, self._prompt].to(self.device).flatten(1)
        if layer not in self._limits:  # the first time that the activations' precision is known
            limits, fired = as_integers(self.baselines[layer], prompt.dtype), self._fired[layer]
            recent = torch.zeros_like(fired, dtype=torch.int16) if limits.dtype == torch.int16 else fired
            self._limits[layer] = limits.flatten(1), recent.flatten(2)
        limits, fired = self._limits[layer]
        for values, *block in zip(_blocks(prompt.view(limits.dtype)), _blocks(limits), _blocks(fired), strict=True):
            for limit, recent, runs in zip(*block, self._sides, strict=True):
                flips = _flips(limit)
                for side, some in runs:
                    recent[side].add_(_above(values[some], limit, flips))

    @property
    def fired(self) -> list[Int[Tensor, "subtask 2 position _neuron"]]:
        """The counts so far, by layer."""
        if self._held:
            self._settle()
            self._held = 0
        return self._fired

    def _settle(self) -> None:
        for layer, (_, recent) in self._limits.items():
            if recent.dtype == torch.int16:
                self._fired[layer].flatten(2).add_(recent)
                recent.zero_()


def at_least_float32(activations: Tensor) -> Tensor:
    """The activations, widened where the model runs in half precision."""
    return activations.to(torch.promote_types(activations.dtype, torch.float32))


def as_integers(baseline: Float[Tensor, "*cell"], dtype: torch.dtype) -> Int[Tensor, "*cell"]:
    """The largest numbers of a floating-point `dtype` that are not above `baseline`, as integers of the same order."""
    near = (baseline + 0.0).to(dtype)  # no negative zero, which as an integer is less than zero
    bits = near.view(_INTEGERS[dtype.itemsize])
    return (bits ^ _flips(bits)) - (near > baseline).to(bits.dtype)


def _above(
    values: Int[Tensor, "sample cell"], limit: Int[Tensor, " cell"], flips: Int[Tensor, " cell"]
) -> Int[Tensor, " cell"]:
    """How many samples, fewer than 2^15, are above the limit; `values` are the bits of floating-point numbers."""
    return (values ^ flips).gt_(limit).sum(0, dtype=values.dtype)


def _flips(limit: Int[Tensor, "*cell"]) -> Int[Tensor, "*cell"]:
    """All bits but the sign's where the limit is negative, otherwise none."""
    width = torch.iinfo(limit.dtype)
    return (limit >> (width.bits - 1)) & width.max


def _partial(values: Float[Tensor, "sample cell"]) -> list[Float[Tensor, " cell"]]:
    """Sums of the samples that may be added up before float64 takes over."""
    if values.device.type != "cpu":
        return [values.sum(0, dtype=torch.float64)]
    wide = torch.promote_types(values.dtype, torch.float32)
    return [some.sum(0, dtype=wide) for some in values.split(FEW if values.dtype == torch.float32 else MANY)]


def _blocks(cells: Tensor) -> tuple[Tensor, ...]:
    """What a CPU works on at a time, of the last axis; elsewhere all of it."""
    return cells.split(CELLS * torch.get_num_threads() if cells.device.type == "cpu" else cells.shape[-1], -1)


def _runs(values: Int[np.ndarray, " sample"]) -> Iterator[tuple[int, slice]]:
    """Equal values that follow one another: the value, and which samples have it."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in pairwise(edges):
        yield int(values[start]), slice(start, stop)
