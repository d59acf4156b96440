"""An exported model at work: onnxruntime in the place of torch, all else the same.

    model = load_pruned("small", runtime="onnx")        # or onnx-int8
    model.predict(["a warm , bright film"])

    small/model.onnx, model-int8.onnx      what `export` wrote
    small/onnx.json                        their checksums, the folder that they were made of, how far each is off

A model that is not as `export` wrote it, or was made of other weights than are in the folder now, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from ..config import Config
from ..errors import SkillNeuronsError
from ..files import inside, read_json, write_json
from ..models.placement import Kind, padded
from .about import NAME as ABOUT
from .about import sealed, sha256
from .config import Exporting, Runtime
from .shipped import Shipped

NAME = "onnx.json"
FILES: Mapping[Exporting, str] = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
_AGAIN = "Export it again: skillneurons export FOLDER, with --int8 for that one."


class Exported(Config):
    """A file that was exported."""

    sha256: str
    """Its checksum."""
    off: float
    """The most that a logit was off when it was tried, against the original's."""


class _Exports(Config):
    format: Literal[1] = 1
    of: str
    """Checksum of the folder's pruned.json."""
    files: dict[str, Exported]


@dataclass(frozen=True, eq=False)
class Session:
    """A model that onnxruntime runs on the CPU, with as many threads as torch had when it was opened."""

    inner: Any
    kind: Kind

    def __call__(
        self, ids: Sequence[np.ndarray], types: Sequence[np.ndarray] | None = None
    ) -> Float[Tensor, "batch label"]:
        """The label words' logits of a batch of inputs, each its token ids and token types [token], without them 0."""
        types = [np.zeros_like(row) for row in ids] if types is None else types
        given = zip(INPUTS, padded(self.kind, ids, types), strict=True)
        takes = {own.name for own in self.inner.get_inputs()}
        fed = {name: own.numpy() for name, own in given if own is not None and name in takes}
        return torch.from_numpy(self.inner.run([OUTPUT], fed)[0])


def opened(path: Path, kind: Kind) -> Session:
    """The model of a file. Raises `SkillNeuronsError` where onnxruntime takes it for none, or cannot run it."""
    runtime: Any = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return Session(runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), kind)
    except Exception as error:  # of many kinds, all its own
        reason = str(error).strip().splitlines()[0]
        raise SkillNeuronsError(f"{path.name} is no model that onnxruntime can run: {reason}. {_AGAIN}") from error


def running(shipped: Shipped, runtime: Runtime, folder: Path) -> Shipped:
    """The same model, answered by `runtime`; its folder must hold what `export` made of it."""
    if runtime == "torch":
        return shipped
    name = FILES[runtime]
    files = exported(folder)
    if name not in files:
        raise SkillNeuronsError(f"{folder} has no {name}. {_AGAIN}")
    return replace(shipped, session=opened(inside(folder, name), shipped.backbone.kind))


def exported(folder: Path) -> Mapping[str, Exported]:
    """What was exported in a folder, by file.

    Raises `SkillNeuronsError` where a file is not as it was written, or was made of another model than the folder's.
    """
    if not (folder / NAME).exists():
        return {}
    content = read_json(folder / NAME, _AGAIN)
    told = {key: value for key, value in content.items() if key != "checksum"} if isinstance(content, dict) else {}
    try:
        found = _Exports(**told)
    except ValidationError:
        found = None
    if found is None or content != sealed(told):
        raise SkillNeuronsError(f"{folder / NAME} is not whole, or was edited. {_AGAIN}")
    if found.of != sha256(folder / ABOUT):
        raise SkillNeuronsError(
            f"what was exported goes with the model it was made of; the one in {folder} was saved since. {_AGAIN}"
        )
    for name, own in found.files.items():
        path = inside(folder, name)
        if not path.is_file() or sha256(path) != own.sha256:
            raise SkillNeuronsError(f"{path} is missing, was cut short, or edited. {_AGAIN}")
    return found.files


def record(folder: Path, off: Mapping[str, float]) -> None:
    """Say which files were exported, and how far each is off."""
    files = {name: Exported(sha256=sha256(folder / name), off=own) for name, own in off.items()}
    write_json(folder / NAME, sealed(_Exports(of=sha256(folder / ABOUT), files=files).model_dump()))


def needed(module: str) -> Any:
    """A module of the extra `onnx`; a `SkillNeuronsError` where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise SkillNeuronsError(
            f"ONNX needs {error.name}, which is not installed. Type: pip install 'skillneurons[onnx]'"
        ) from error
