"""A model's weights, read or drawn through the library; what would only seem to work is refused.

    model = pretrained(AutoModelForMaskedLM, config, folder, "mine", torch.float32)
    model = drawn(AutoModelForMaskedLM, config, torch.float32, seed=0)
    refuse_broken(model, "mine")

Weights come from safetensors alone, for reading a pickle runs whatever is in it. The library is content with weights
that are missing or of other shapes, and draws them anew: here they are errors.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file

from ..errors import SkillNeuronsError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def pretrained(
    auto: Any,
    config: Any,
    place: str | Path,
    name: str,
    dtype: torch.dtype,
    device_map: Any = None,
    trust_remote_code: bool = False,
) -> Any:
    """The model in the folder or of the hub id `place`, of the kind that the library's `auto` class loads."""
    remedy = "Weights are read from model.safetensors alone: copy or download it again, or convert what there is."
    if device_map is not None:
        remedy = f"device_map needs accelerate (pip install accelerate). {remedy}"
    with explained(f"the weights of {name} cannot be read", remedy):
        _refuse_pickles(place, config, name)
        model, report = auto.from_pretrained(
            place,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below
            output_loading_info=True,
        )
    if wrong := sorted(report["mismatched_keys"]):
        path, there, expected = wrong[0]
        raise SkillNeuronsError(
            f"weights have the shapes that config.json tells; of {name}, {len(wrong)} have not, such as {path}: "
            f"{list(there)}, not {list(expected)}. Copy or download config.json and model.safetensors again."
        )
    if missing := sorted(report["missing_keys"]) or _tied_unasked(model, place):
        _refuse_missing(model, missing, name)
    return model


def drawn(auto: Any, config: Any, dtype: torch.dtype, seed: int, trust_remote_code: bool = False) -> Any:
    """A model with weights as `config` draws them by `seed`; the global random state stays as it was."""
    config = copy.deepcopy(config)  # the library writes the dtype into it
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
        return auto.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code).to(dtype)


def refuse_broken(model: Any, name: str) -> None:
    """Raise `SkillNeuronsError` where the model has no language-model head, or weights that are no finite numbers."""
    if model.get_output_embeddings() is None:
        raise SkillNeuronsError(
            f"a language-model head is needed, and a {type(model).__name__} has none. Load {name} with "
            "AutoModelForMaskedLM, AutoModelForCausalLM or AutoModelForSeq2SeqLM, whichever it is."
        )
    for path, tensor in model.named_parameters():
        if tensor.is_meta:
            raise SkillNeuronsError(f"all weights must be in memory; {path} of {name} is not. Use another device_map.")
        if not bool(torch.isfinite(tensor).all()):
            raise SkillNeuronsError(
                f"weights must be finite numbers; {path} of {name} holds NaN or infinity. "
                "Load an intact copy, or another dtype."
            )


@contextlib.contextmanager
def quiet(place: str | Path) -> Iterator[None]:
    """Loading without the library's reports; bars stay where a terminal shows a download."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    if Path(place).is_dir() or not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """The library's failures as one message; it raises many kinds, one for each way in which a folder can be broken."""
    try:
        yield
    except SkillNeuronsError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(" .:")
        if " " not in reason:
            reason = f"{type(error).__name__} {reason}".rstrip()
        if "trust_remote_code" in str(error):
            remedy = "It brings code of its own, which runs only with load_model(..., trust_remote_code=True)."
        raise SkillNeuronsError(f"{what}: {reason}. {remedy}") from error


def _tied_unasked(model: Any, place: str | Path) -> list[str]:
    """The head of a T5 that lacks it: the library takes the embeddings instead, though config.json says otherwise."""
    told, _ = PreTrainedConfig.get_config_dict(place)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and getattr(head, "weight", None) is embeddings.weight
    return ["lm_head.weight"] if tied and told.get("tie_word_embeddings") is False else []


def _refuse_missing(model: Any, missing: list[str], name: str) -> None:
    shown = f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
    body = ("encoder.", "decoder.", "shared.") if model.base_model is model else f"{model.base_model_prefix}."
    if any(path.startswith(body) for path in missing):
        raise SkillNeuronsError(
            f"every weight of a model is needed; {name} lacks {len(missing)} ({shown}). Copy or download it again."
        )
    raise SkillNeuronsError(
        f"a language-model head is needed; {name} lacks its weights ({shown}), as a folder that was saved without it. "
        f"Save the whole {type(model).__name__}, or load a model with its head."
    )


def _refuse_pickles(place: str | Path, config: Any, name: str) -> None:
    """The library unpickles what a folder's own lists name, whatever `use_safetensors` says."""
    named = getattr(config, "transformers_weights", None) or SAFE_WEIGHTS_INDEX_NAME
    files = [named.removesuffix(".index.json")]
    with contextlib.suppress(OSError):  # most have no index
        index = cached_file(place, named if named.endswith(".json") else SAFE_WEIGHTS_INDEX_NAME)
        files += json.loads(Path(str(index)).read_text(encoding="utf-8"))["weight_map"].values()
    folder = Path(place)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        files += [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
    if pickles := sorted({file for file in files if not file.endswith(".safetensors")}):
        raise SkillNeuronsError(
            f"weights must be safetensors, for reading a pickle runs whatever is in it; {name} has {pickles[0]}. "
            "Where you trust it, load it with transformers and save it anew with save_pretrained."
        )
