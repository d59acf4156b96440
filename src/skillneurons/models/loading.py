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
)

from ..errors import SkillNeuronsError
from .backbone import Backbone
from .placement import Kind
from .sites import find_sites

MINIATURE = Path(__file__).parent / "miniature"
_AUTO: dict[Kind, Any] = {
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}


def load_model(
    source: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str | torch.dtype = "float32",
    device: str = "auto",
    device_map: str | dict[str, Any] | None = None,
    random_weights: bool = False,
    seed: int = 0,
    sites: str | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a frozen backbone.

    `source`: hub id, local folder, `"miniature"`, or a loaded model with its `tokenizer`. `device`: `"auto"` takes
    an accelerator where there is one; `device_map` spreads a large model (needs accelerate). `random_weights`:
    the same architecture with weights drawn by `seed`. `sites`: the down-projections' path with `{layer}` for the
    layer's number, where they are not found.

    Raises `SkillNeuronsError`: nothing there, no language-model head, weights missing, pickled, broken or not
    finite, a mixture of experts, no FFN found.
    """
    if isinstance(source, PreTrainedModel):
        if tokenizer is None:
            raise SkillNeuronsError("a loaded model comes with its tokenizer: load_model(model, tokenizer=tokenizer).")
        model, name = source, source.config.name_or_path or type(source).__name__
        kind = _kind(source.config, tokenizer, name)
    else:
        name = str(source)
        place = MINIATURE if name == "miniature" else source
        with _explained(name):
            config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
            kind = _kind(config, tokenizer, name)
            wanted = _dtype(dtype)
            if random_weights:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    model = _AUTO[kind].from_config(config, trust_remote_code=trust_remote_code).to(wanted)
            else:
                model = _pretrained(kind, place, name, wanted, device_map, trust_remote_code)
    if device_map is None and not isinstance(source, PreTrainedModel):
        model.to(_device(device))
    model.eval()
    model.requires_grad_(False)
    _refuse_broken(model, name)
    found = find_sites(
        model, _stack(model, kind), int(model.config.hidden_size), lambda: _two_tokens(model, kind), sites
    )
    return Backbone(model, tokenizer, kind, found, name, random_weights)


def _kind(config: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> Kind:
    if config.is_encoder_decoder:
        return "encoder-decoder"
    decoder = getattr(config, "is_decoder", False)
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and tokenizer.mask_token_id is not None and not decoder:
        return "masked"
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "AutoModelForCausalLM" in (
        getattr(config, "auto_map", None) or {}
    ):
        return "causal"
    raise SkillNeuronsError(
        f"{name} ({config.model_type}) has no language-model head that can be read: a masked (with a mask token in its "
        "tokenizer), a causal or an encoder-decoder language model is needed."
    )


def _pretrained(
    kind: Kind, place: Any, name: str, dtype: torch.dtype, device_map: Any, trusted: bool
) -> PreTrainedModel:
    model, report = _AUTO[kind].from_pretrained(
        place,
        dtype=dtype,
        device_map=device_map,
        trust_remote_code=trusted,
        use_safetensors=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    wrong = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing or wrong:
        what = "weights of the wrong shape" if wrong else "no weights for a part of the model that is needed"
        raise SkillNeuronsError(
            f"{name} has {what} ({', '.join((wrong or missing)[:4])}{', ...' if len(wrong or missing) > 4 else ''}), most likely its "
            f"language-model head, as in a folder saved without it. Save the whole {type(model).__name__}, or load another model."
        )
    return model


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Loading without bars and chatter, its failures in one message."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    except SkillNeuronsError:
        raise
    except Exception as error:  # the library raises many kinds, one for each way in which a folder can be broken
        first = str(error).strip().splitlines()
        raise SkillNeuronsError(
            f"{name} cannot be loaded as a model: {first[0] if first else type(error).__name__} Give a hub id that can be reached or "
            "a local folder with config.json, model.safetensors and a tokenizer (pickled weights are not read)."
        ) from error
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise SkillNeuronsError(f"dtype must be float32, bfloat16, float16 or float64; given: {dtype}.")
    return found


def _device(device: str) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SkillNeuronsError(
            f"the device {device!r} cannot be used here: {str(error).splitlines()[0]} Try --device cpu."
        ) from None


def _refuse_broken(model: PreTrainedModel, name: str) -> None:
    for path, tensor in model.named_parameters():
        if tensor.is_meta or not bool(torch.isfinite(tensor).all()):
            raise SkillNeuronsError(
                f"weights must be finite numbers; {path} of {name} holds NaN or infinity. Load an intact copy, or another dtype."
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
