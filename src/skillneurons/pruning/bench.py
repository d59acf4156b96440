"""How fast is a shipped model, and what of that is the pruning's own?

    found = bench("small")                      # beside a dense model of random weights: speed does not depend on them
    found = bench("small", dense=load_model("roberta-base"), tokens=(28, 300), threads=1)
    found; found.table(); found.plot(); found.save("small-speed")

What is timed, from token ids to the label words' logits, on the CPU, in turn (A B C A B C ...) in one process:

    dense as shipped by the library    every token through all layers and the head over the vocabulary
    dense, only what is read           head, last FFN and queries at the answer token alone, as this package always does
    pruned                             the shipped model
    onnx, onnx-int8                    the same as it was exported, where it was

So the first two tell what is won without any pruning. Times are medians over turns with their quartiles; a ratio is
the median of the turns' ratios. Beside it stands the ratio of the multiplications: what it would be if nothing but
arithmetic took time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig

from ..errors import SkillNeuronsError
from ..models import Backbone, load_model
from ..models.loading import AUTO
from ..models.weights import drawn, explained, quiet
from ..progress import progress
from .about import REMEDY, About
from .artifact import load_pruned
from .bench_result import DENSE, PRUNED, READ, Bench
from .config import BenchConfig
from .cut import parameters
from .multiplications import multiplications
from .prefixed import Prefixed
from .session import FILES, exported, running
from .shipped import Shipped

LEAST = 0.2
"""Seconds that a work takes in a turn, at least: it is called as often as that needs."""

Work = Callable[[], object]


def bench(
    folder: str | Path, dense: Backbone | None = None, *, config: BenchConfig | None = None, **options: Any
) -> Bench:
    """Time a shipped model beside the dense one, which has random weights where none is given.

    Options are those of `BenchConfig`. Raises `SkillNeuronsError` where the folder is none, where the dense model is
    another one than the shipped one was made of, and for inputs that do not fit.
    """
    config = config or BenchConfig.make(**options)
    folder = Path(folder).expanduser()
    shipped = load_pruned(folder, device="cpu")
    about = shipped.about
    whole = dense or _random(folder, shipped)
    _refuse(about, whole, config)
    rows = []
    with threads(config.threads):
        there = exported(folder)
        exports: dict[str, Shipped] = {
            name: running(shipped, name, folder) for name, file in FILES.items() if file in there
        }
        prompt = torch.randn(about.positions, whole.embedding_size, generator=torch.Generator().manual_seed(0))
        sizes = _sizes(whole, prompt, shipped) | {
            name: {"parameters": about.parameters, "bytes": (folder / file).stat().st_size}
            for name, file in FILES.items()
            if name in exports
        }
        for tokens in config.tokens:
            one = _works(whole, prompt, {PRUNED: shipped}, inputs(whole, tokens, 1))
            counts = {name: multiplications(work) for name, work in one.items()}
            for batch in dict.fromkeys((1, config.batch)):
                works = _works(whole, prompt, {PRUNED: shipped, **exports}, inputs(whole, tokens, batch))
                seconds = turns(works, config.turns, f"{tokens} tokens, batch {batch}")
                rows += [
                    {
                        "model": name, "tokens": tokens, "batch": batch, "seconds": own, **sizes[name],
                        "multiplications": counts.get(name, counts[PRUNED]),
                    }
                    for name, own in seconds.items()
                ]  # fmt: skip
        told = {
            "task": about.task, "model": about.model, "prompt": about.prompt, "positions": about.positions,
            "threads": torch.get_num_threads(), "dense": None if dense is None else dense.name,
            "torch": str(torch.__version__), "config": config.model_dump(mode="json"),
        }  # fmt: skip
    return Bench(told, rows)


@torch.no_grad()
def as_shipped(model: Backbone, prompt: Float[Tensor, "position embedding"], ids: list[np.ndarray]) -> Tensor:
    """The vocabulary's logits at every token, as the library's model gives them when it is just called."""
    batch = model.place(prompt, ids)
    given: dict[str, Any] = {"inputs_embeds": batch.embeddings, "attention_mask": batch.attention}
    if model.kind == "encoder-decoder":
        given["decoder_input_ids"] = torch.full_like(batch.attention[:, :1], model.decoder_start)
    if model.kind != "masked":
        given["use_cache"] = False
    return model.model(**given).logits


@torch.no_grad()
def only_read(model: Backbone, prompt: Float[Tensor, "position embedding"], ids: list[np.ndarray]) -> Tensor:
    """The vocabulary's logits at the answer token alone."""
    return model.answer(model.place(prompt, ids))


def inputs(model: Backbone, tokens: int, batch: int) -> list[np.ndarray]:
    """Random token ids, all of one length."""
    return list(np.random.default_rng(tokens).integers(len(model.tokenizer), size=(batch, tokens)))


def turns(works: Mapping[str, Work], count: int, label: str, least: float = LEAST) -> dict[str, list[float]]:
    """Seconds of one call of each work, one value a turn, all works one after the other in each."""
    calls = {}
    for name, work in works.items():
        _seconds(work, 1)  # the first call does what is done once
        calls[name] = max(1, ceil(least / _seconds(work, 1)))
    found: dict[str, list[float]] = {name: [] for name in works}
    with progress(label, count, "turns") as advance:
        for _ in range(count):
            for name, work in works.items():
                found[name].append(_seconds(work, calls[name]))
            advance()
    return found


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of the CPU while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(work: Work, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls


def _random(folder: Path, shipped: Shipped) -> Backbone:
    with quiet(folder), explained(f"the dense model of {folder} cannot be built", REMEDY):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = drawn(AUTO[shipped.about.kind], config, shipped.backbone.model.dtype, seed=0)
    return load_model(model.eval(), tokenizer=shipped.backbone.tokenizer)


def _works(
    whole: Backbone, prompt: Float[Tensor, "position embedding"], shipped: Mapping[str, Shipped], ids: list[np.ndarray]
) -> dict[str, Work]:
    return {
        DENSE: partial(as_shipped, whole, prompt, ids),
        READ: partial(only_read, whole, prompt, ids),
        **{name: partial(own.logits, ids) for name, own in shipped.items()},
    }


def _sizes(whole: Backbone, prompt: Tensor, shipped: Shipped) -> dict[str, dict[str, int]]:
    """Parameters, prompts not counted, and bytes, prompts counted."""
    small = shipped.backbone
    beside = [small.keys, small.values] if isinstance(small, Prefixed) else [shipped.prompt]
    dense = {"parameters": parameters(whole), "bytes": _bytes(whole, prompt)}
    return {DENSE: dense, READ: dense, PRUNED: {"parameters": parameters(small), "bytes": _bytes(small, *beside)}}


def _bytes(model: Backbone, *beside: Tensor) -> int:
    return sum(own.nbytes for own in (*model.model.parameters(), *beside))


def _refuse(about: About, whole: Backbone, config: BenchConfig) -> None:
    if (whole.kind, parameters(whole)) != (about.kind, about.dense):
        raise SkillNeuronsError(
            f"the dense model is the one that was made smaller, {about.model}, {about.kind} with {about.dense:,} "
            f"parameters; {whole.name} is {whole.kind} with {parameters(whole):,}. Give that model, or none."
        )
    room = whole.room(about.positions)
    if room is not None and max(config.tokens) > room:
        raise SkillNeuronsError(
            f"beside a prompt of {about.positions} positions {about.model} takes inputs of {room} tokens at most; "
            f"given: {max(config.tokens)}. Choose fewer --tokens."
        )
