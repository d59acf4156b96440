"""Load a backbone, and refuse what would only seem to work.

    load_model("roberta-base")                      # hub id or local folder
    load_model("miniature")                         # the model that the package carries
    load_model(model, tokenizer=tokenizer)          # one that is loaded already
    load_model("roberta-base", random_weights=True) # same shape, weights drawn anew from the configuration
    load_model("new/model", sites="blocks.{layer}.ffn.out")   # a model whose FFNs are not found

Weights come from safetensors alone, and code that comes with a model runs only where `trust_remote_code=True`.
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
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file

from ..errors import SkillNeuronsError
from .backbone import Backbone
from .placement import Kind
from .sites import find_sites

_SOURCES = "Give a local folder with config.json, model.safetensors and a tokenizer, or a hub id that can be reached."
MINIATURE = Path(__file__).parent / "miniature"
_AUTO: dict[Kind, Any] = {
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
_TYPES: dict[Kind, Any] = {
    "masked": MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "causal": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "encoder-decoder": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}


def load_model(
    source: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "auto",
    device_map: str | dict[str, Any] | None = None,
    random_weights: bool = False,
    seed: int = 0,
    sites: str | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a frozen backbone.

    `source`: hub id, local folder, `"miniature"`, or a loaded model with its `tokenizer`, which is frozen where it is
    and keeps its dtype and device. `device`: `"auto"` takes CUDA or another accelerator with float64 where there is
    one; `device_map` spreads a large model (needs accelerate). `random_weights`: the same architecture with weights
    drawn by `seed`. `sites`: the down-projections' path with `{layer}` for the layer's number, where they are not
    found.

    Raises `SkillNeuronsError`: nothing there, no language-model head, no tokenizer or none with a mask token, weights
    missing, pickled, broken or not finite, a mixture of experts, no FFN found.
    """
    if isinstance(source, PreTrainedModel):
        if tokenizer is None:
            raise SkillNeuronsError("a loaded model comes with its tokenizer: load_model(model, tokenizer=tokenizer).")
        model, name = source, source.config.name_or_path or type(source).__name__
        kind = _kind(source.config, tokenizer, name)
        if random_weights:
            model = _drawn(kind, source.config, source.dtype, seed, trust_remote_code).to(source.device)
    else:
        place, name = _found(source)
        wanted, target = _dtype(dtype), _device(device)
        with _quiet(place):
            with _explained(f"{name} cannot be loaded as a model", _SOURCES):
                config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
            tokenizer = tokenizer or _tokenizer(place, name, trust_remote_code)
            kind = _kind(config, tokenizer, name)
            if random_weights:
                model = _drawn(kind, config, wanted, seed, trust_remote_code)
            else:
                model = _pretrained(kind, config, place, name, wanted, device_map, trust_remote_code)
        if device_map is None or random_weights:
            model.to(target)
    model.eval()
    model.requires_grad_(False)
    _refuse_broken(model, tokenizer, name)
    with _explained(f"a trial pass of two tokens through {name} failed", "Use a model that takes token embeddings."):
        hidden = int(model.config.get_text_config().hidden_size)
        found = find_sites(model, _stack(model, kind), hidden, lambda: _two_tokens(model, kind), sites)
    return Backbone(model, tokenizer, kind, found, name, random_weights)


def _found(source: str | Path) -> tuple[str | Path, str]:
    """Where a model lies, a hub id or a folder, and its name."""
    if not isinstance(source, (str, Path)):
        raise SkillNeuronsError(f"a model is a {type(source).__name__} here; give {_SOURCES[5:]}")
    if source == "miniature":
        return MINIATURE, "miniature"
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder, str(folder)
    if folder.exists():
        raise SkillNeuronsError(f"a model is a folder; {source} is a file. Give the folder that holds it.")
    if isinstance(source, Path) or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise SkillNeuronsError(f"there is no folder {source}. {_SOURCES}")
    return source, source


def _kind(config: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> Kind:
    own = getattr(config, "auto_map", None) or {}
    kinds = {kind for kind, types in _TYPES.items() if config.model_type in types or _AUTO[kind].__name__ in own}
    if config.is_encoder_decoder:
        kinds &= {"encoder-decoder"}
    elif "masked" in kinds and not getattr(config, "is_decoder", False):  # BERT can be either
        if tokenizer.mask_token_id is None:
            raise SkillNeuronsError(
                f"a masked model is read at its mask token; the tokenizer of {name} ({config.model_type}) has none. "
                "Set tokenizer.mask_token, save the tokenizer beside the model, and load it again."
            )
        return "masked"
    else:
        kinds &= {"causal"}
    if not kinds:
        raise SkillNeuronsError(
            f"a language-model head is needed, masked, causal or encoder-decoder; {name} ({config.model_type}) is of no "
            "such kind. Load a language model."
        )
    return kinds.pop()


def _tokenizer(place: str | Path, name: str, trusted: bool) -> PreTrainedTokenizerBase:
    remedy = (
        "Save it beside the model with tokenizer.save_pretrained, or give another one: load_model(..., tokenizer=)."
    )
    with _explained(f"the tokenizer of {name} cannot be read", remedy):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusted)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(words) < 2:  # the library makes an empty one where there are no files; T5's has one word
        raise SkillNeuronsError(f"a model is loaded with its tokenizer; {name} has none. {remedy}")
    return tokenizer


def _drawn(kind: Kind, config: Any, dtype: torch.dtype, seed: int, trusted: bool) -> Any:
    """A model with weights as its configuration draws them; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]), _explained("no model can be drawn from this configuration", _SOURCES):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
        config = copy.deepcopy(config)  # the library writes the dtype into it
        return _AUTO[kind].from_config(config, dtype=torch.float32, trust_remote_code=trusted).to(dtype)


def _pretrained(
    kind: Kind, config: Any, place: str | Path, name: str, dtype: torch.dtype, device_map: Any, trusted: bool
) -> Any:
    """The model with its weights, all of them, from safetensors."""
    remedy = "Weights are read from model.safetensors alone: copy or download it again, or convert what there is."
    if device_map is not None:
        remedy = f"device_map needs accelerate (pip install accelerate). {remedy}"
    with _explained(f"the weights of {name} cannot be read", remedy):
        _refuse_pickles(place, config, name)
        model, report = _AUTO[kind].from_pretrained(
            place,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trusted,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below
            output_loading_info=True,
        )
    if wrong := sorted(report["mismatched_keys"]):
        key, there, expected = wrong[0]
        raise SkillNeuronsError(
            f"weights have the shapes that config.json tells; of {name}, {len(wrong)} have not, such as {key}: "
            f"{list(there)}, not {list(expected)}. Copy or download config.json and model.safetensors again."
        )
    if missing := sorted(report["missing_keys"]):
        shown = f"{', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}"
        body = ("encoder.", "decoder.", "shared.") if model.base_model is model else f"{model.base_model_prefix}."
        if any(key.startswith(body) for key in missing):
            raise SkillNeuronsError(
                f"every weight of a model is needed; {name} lacks {len(missing)}: {shown}. "
                "Copy or download its folder again."
            )
        raise SkillNeuronsError(
            f"a language-model head is needed, and its weights; {name} has none ({shown}), as a folder that was saved "
            f"without the head. Save the whole {type(model).__name__}, or load a model that has its head."
        )
    return model


def _refuse_pickles(place: str | Path, config: Any, name: str) -> None:
    """The library unpickles what a folder's own lists name, whatever the argument `use_safetensors` says."""
    named = getattr(config, "transformers_weights", None) or SAFE_WEIGHTS_INDEX_NAME
    files = [named.removesuffix(".index.json")]
    with contextlib.suppress(OSError):  # there is no index
        index = cached_file(place, named if named.endswith(".json") else SAFE_WEIGHTS_INDEX_NAME)
        files += json.loads(Path(str(index)).read_text(encoding="utf-8"))["weight_map"].values()
    if Path(place).is_dir() and not list(Path(place).glob("*.safetensors")):
        files += [path.name for path in Path(place).iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    if pickles := sorted({file for file in files if not file.endswith(".safetensors")}):
        raise SkillNeuronsError(
            f"weights must be safetensors, for reading a pickle runs whatever is in it; {name} has {pickles[0]}. "
            "Where you trust it, load it with transformers and save it anew with save_pretrained."
        )


@contextlib.contextmanager
def _quiet(place: str | Path) -> Iterator[None]:
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
def _explained(what: str, remedy: str) -> Iterator[None]:
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


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise SkillNeuronsError(f"dtype must be float32, bfloat16, float16 or float64; given: {dtype}.")
    return found


def _device(device: str | torch.device) -> torch.device:
    """The device that is meant; never Apple's mps, which has no float64, the dtype of all sums."""
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if found is None or found.type == "mps" else found
    try:
        found = torch.empty(1, dtype=torch.float64, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SkillNeuronsError(f"the device {device} cannot be used here: {reason}. Try --device cpu.") from None
    if found.type == "meta":
        raise SkillNeuronsError("the device meta computes nothing. Try --device cpu.")
    return found


def _refuse_broken(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if model.get_output_embeddings() is None:
        raise SkillNeuronsError(
            f"a language-model head is needed; a {type(model).__name__} has none. "
            f"Load it with {', '.join(auto.__name__ for auto in _AUTO.values())}, whichever it is."
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise SkillNeuronsError(
            f"every token needs an embedding; the tokenizer has {tokenizer.vocab_size} tokens, {name} {rows} embeddings. "
            "Load the model with its own tokenizer."
        )
    for path, tensor in model.named_parameters():
        if tensor.is_meta:
            raise SkillNeuronsError(f"all weights must be in memory; {path} of {name} is not. Use another device_map.")
        if not bool(torch.isfinite(tensor).all()):
            raise SkillNeuronsError(
                f"weights must be finite numbers; {path} of {name} holds NaN or infinity. "
                "Load an intact copy, or another dtype."
            )


def _stack(model: Any, kind: Kind) -> torch.nn.Module:
    return model.get_encoder() if kind == "encoder-decoder" else model.base_model


@torch.no_grad()
def _two_tokens(model: Any, kind: Kind) -> None:
    table = model.get_input_embeddings().weight
    _stack(model, kind)(
        inputs_embeds=table[:2].unsqueeze(0),
        attention_mask=torch.ones(1, 2, dtype=torch.long, device=table.device),
    )
