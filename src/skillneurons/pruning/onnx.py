"""A shipped model as ONNX, for whatever runs that: token ids in, the label words' logits out.

    export(load_pruned("small"))                        # small/model.onnx
    export(load_pruned("small"), int8=True)             # and small/model-int8.onnx
    load_pruned("small", runtime="onnx").predict([...])

Inputs, int64 [batch, token], any number of both: `input_ids`, `attention_mask` (1 where there is a token) and, where
the tokenizer tells them, `token_type_ids`. Causal models are padded on the left, others on the right. Output: `logits`
[batch, label], labels as in pruned.json. The prompt, or its keys and values, is a constant inside.

What was written is run at once, on inputs of different lengths, and held against the original: logits that are off by
more than 1e-3 are refused. In int8 (weights, and activations as they come) they are off by what is told.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import SkillNeuronsError
from ..files import replacing, unwritable
from ..models.placement import padded
from ..progress import say
from .about import About
from .session import FILES, INPUTS, NAME, OUTPUT, needed, opened, record
from .shipped import Shipped

LIMIT = 1e-3
"""Most that a logit may be off."""
MOST = 2_000_000_000
"""Bytes of weights that one file holds, by the format."""


class _Labels(nn.Module):
    """A shipped model whose inputs are tensors alone."""

    def __init__(self, shipped: Shipped) -> None:
        super().__init__()
        self.inner = shipped.backbone.model  # so that its weights are found
        self.shipped = shipped

    def forward(
        self,
        ids: Int[Tensor, "batch token"],
        attention: Int[Tensor, "batch token"],
        types: Int[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch label"]:
        backbone = self.shipped.backbone
        batch = backbone.place_padded(self.shipped.prompt, ids, attention, types)
        return backbone.answer(batch)[:, list(self.shipped.about.columns)]


def export(shipped: Shipped, folder: str | Path | None = None, *, int8: bool = False) -> Path:
    """Write model.onnx, and with `int8` model-int8.onnx, into the folder that the model was loaded from.

    Returns the path of the last one. Raises `SkillNeuronsError` where the extra `onnx` is not installed, where another
    model is in `folder`, where this one cannot be exported, or where what was exported answers otherwise.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        needed(module)
    folder = Path(shipped.backbone.name if folder is None else folder)
    shipped = replace(shipped, session=None)
    _refuse(shipped, folder)
    inputs = samples(shipped)
    expected = [shipped.logits(*given).cpu() for given in inputs]

    def off(path: Path) -> float:
        with _refused(f"{shipped.backbone.name} does not run once exported"):
            session = opened(path, shipped.backbone.kind)
            apart = [session(*given) - own for given, own in zip(inputs, expected, strict=True)]
        return float(torch.cat(apart).abs().max())  # NaN if any is

    _forget(folder)
    path, found = folder / FILES["onnx"], {}
    with replacing(path) as temporary:
        _write(shipped, temporary)
        found[path.name] = off(temporary)
        if not found[path.name] <= LIMIT:  # nor NaN
            raise SkillNeuronsError(
                f"an exported model answers as the original to {LIMIT:g}; logits of {shipped.backbone.name} are off by "
                f"{found[path.name]:.2g} once exported. Use it with torch."
            )
    record(folder, found)
    if int8:
        path, whole = folder / FILES["onnx-int8"], path
        with replacing(path) as temporary:
            _quantize(whole, temporary)
            found[path.name] = off(temporary)
            if not math.isfinite(found[path.name]):
                raise SkillNeuronsError(f"{shipped.backbone.name} gives no numbers in int8. Export it without --int8.")
        record(folder, found)
        say(f"{path.name}: logits are off by {found[path.name]:.2g} at most")
    return path


def samples(shipped: Shipped) -> list[tuple[list[np.ndarray], list[np.ndarray] | None]]:
    """Batches of random token ids, with their types: one sample or more, short and long, an empty one among them."""
    model, draw = shipped.backbone, np.random.default_rng(0)
    most = min(shipped.about.limit or 48, 48)
    words = len(model.tokenizer)
    batches = []
    for lengths in ([1], [most], [most // 2, 0, 3, most, 1]):
        ids = [draw.integers(words, size=length) for length in lengths]
        types = [draw.integers(2, size=length) for length in lengths] if _tells_types(shipped) else None
        batches.append((ids, types))
    return batches


def _tells_types(shipped: Shipped) -> bool:
    model = shipped.backbone
    return model.tells_types and INPUTS[2] in model.tokenizer.model_input_names


def _refuse(shipped: Shipped, folder: Path) -> None:
    if About.read(folder) != shipped.about:
        raise SkillNeuronsError(
            f"a model is exported into its own folder; {folder} holds another one. Give the folder that it was loaded "
            "from, or none."
        )
    tensors = list(shipped.backbone.model.parameters())
    if wrong := {own.dtype for own in tensors} - {torch.float32}:
        raise SkillNeuronsError(
            f"models are exported in float32, in which any runtime computes; this one is in {wrong.pop()}. Prune the "
            "model in float32."
        )
    if (size := sum(own.nbytes for own in tensors)) > MOST:
        raise SkillNeuronsError(
            f"an ONNX file holds 2 GB; the weights of {shipped.backbone.name} take {size / 1e9:.1f} GB. Use it with "
            "torch, or prune a smaller model."
        )


def _forget(folder: Path) -> None:
    """Take away what an earlier export wrote, which may be of another kind or another version."""
    try:
        for name in (NAME, *FILES.values()):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _write(shipped: Shipped, path: Path) -> None:
    backbone = shipped.backbone
    # sizes of an example become no constants but where they are 0 or 1
    ids, types = [np.full(5, 3), np.full(7, 3), np.full(3, 3)], [np.zeros(size, np.int64) for size in (5, 7, 3)]
    given = [own for own in padded(backbone.kind, ids, types if _tells_types(shipped) else None) if own is not None]
    batch, token = torch.export.Dim("batch"), torch.export.Dim("token")
    with torch.no_grad(), _silent(), _refused(f"{backbone.name} cannot be exported"):
        program: Any = torch.onnx.export(
            _Labels(shipped).eval(),
            tuple(own.to(backbone.device) for own in given),
            dynamo=True,
            dynamic_shapes=tuple({0: batch, 1: token} for _ in given),
            input_names=INPUTS[: len(given)],
            output_names=[OUTPUT],
            verbose=False,
        )
        for node in program.model.graph.all_nodes():  # where in this machine's files each came from
            node.metadata_props.clear()
        program.save(path, external_data=False)


def _quantize(whole: Path, path: Path) -> None:
    quantization: Any = needed("onnxruntime.quantization")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _silent():
        there = Path(folder) / path.name
        # in 7 bits of the 8: sums of products with all 8 overflow on processors without instructions for them
        quantization.quantize_dynamic(
            whole, there, weight_type=quantization.QuantType.QInt8, per_channel=True, reduce_range=True
        )
        there.replace(path)


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """The failures of exporter and runtime, of many kinds, as one message."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the last one says what, those around it where
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [""])[0].rstrip(" .:")
        raise SkillNeuronsError(f"{what}: {type(cause).__name__}, {reason}. Use it with torch.") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the exporter's remarks, which are for those who work on it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
