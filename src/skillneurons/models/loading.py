"""Load a backbone, and refuse what would only seem to work.

    load_model("roberta-base")                      # hub id or local folder
    load_model("miniature")                         # the model that the package carries
    load_model(model, tokenizer=tokenizer)          # one that is loaded already
    load_model("roberta-base", random_weights=True) # same shape, weights drawn anew from the configuration
    load_model("new/model", sites="blocks.{layer}.ffn.out")   # a model whose FFNs are not found

Weights come from safetensors alone, and code that comes with a model runs only where `trust_remote_code=True`.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
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

from ..errors import SkillNeuronsError
from .backbone import Backbone
from .placement import Batch, Kind
from .sites import attention_linears, entrances, find_sites, refuse_experts
from .weights import drawn, explained, pretrained, quiet, refuse_broken

MINIATURE = Path(__file__).parent / "miniature"
_GIVE = "Give a local folder with config.json, model.safetensors and a tokenizer, or a hub id that can be reached."
AUTO: dict[Kind, Any] = {
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
    missing, pickled, broken or not finite, a mixture of experts, no FFN found, padding that changes the numbers.
    """
    if isinstance(source, PreTrainedModel):
        if tokenizer is None:
            raise SkillNeuronsError("a loaded model comes with its tokenizer: load_model(model, tokenizer=tokenizer).")
        model: Any = source
        name = source.config.name_or_path or type(source).__name__
        kind = _kind(source.config, tokenizer, name)
        if random_weights:
            model = drawn(AUTO[kind], source.config, source.dtype, seed, trust_remote_code).to(source.device)
    else:
        place, name = _found(source)
        wanted, target = _dtype(dtype), usable_device(device)
        with quiet(place):
            here = "" if Path(place).is_dir() else "is no folder here, and "
            with explained(f"{name} {here}cannot be loaded as a model", _GIVE):
                config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
                if sites is None:
                    refuse_experts(config, name)
            tokenizer = tokenizer or _tokenizer(place, name, trust_remote_code)
            kind = _kind(config, tokenizer, name)
            if random_weights:
                with explained(f"{name} cannot be drawn from its configuration", _GIVE):
                    model = drawn(AUTO[kind], config, wanted, seed, trust_remote_code)
            else:
                model = pretrained(AUTO[kind], config, place, name, wanted, device_map, trust_remote_code)
        if device_map is None or random_weights:
            model.to(target)
    model.eval()
    model.requires_grad_(False)
    refuse_broken(model, name)
    _refuse_foreign(tokenizer, model, name)
    needs = "A model must take token embeddings with an attention mask, and fit into the memory."
    with explained(f"a trial pass through {name} failed", needs):
        hidden = int(model.config.get_text_config().hidden_size)
        found = find_sites(model, _stack(model, kind), hidden, lambda: _two_tokens(model, kind), sites)
        backbone = Backbone(model, tokenizer, kind, found, name, random_weights)
        _refuse_odd(backbone)
        return _with_shortcuts(backbone)


def _found(source: str | Path) -> tuple[str | Path, str]:
    """Where a model lies, a hub id or a folder, and its name."""
    if not isinstance(source, (str, Path)):
        raise SkillNeuronsError(
            f"a model is a hub id, a folder or a PreTrainedModel; given: a {type(source).__name__}. {_GIVE}"
        )
    if source == "miniature":
        return MINIATURE, "miniature"
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder, str(folder)
    if folder.exists():
        raise SkillNeuronsError(f"a model is a folder; {source} is a file. Give the folder that holds it.")
    if isinstance(source, Path) or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise SkillNeuronsError(f"there is no folder {source}. {_GIVE}")
    return source, source


def _kind(config: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> Kind:
    own = getattr(config, "auto_map", None) or {}
    kinds = {kind for kind, types in _TYPES.items() if config.model_type in types or AUTO[kind].__name__ in own}
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
            f"a masked, causal or encoder-decoder language model is needed; {name} ({config.model_type}) is none. "
            "Load another model."
        )
    return kinds.pop()


def _tokenizer(place: str | Path, name: str, trusted: bool) -> PreTrainedTokenizerBase:
    remedy = (
        "Save it beside the model with tokenizer.save_pretrained, or give another one: load_model(..., tokenizer=)."
    )
    with explained(f"the tokenizer of {name} cannot be read", remedy):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusted)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(words) < 2:  # the library makes an empty one where there are no files; T5's has one word
        raise SkillNeuronsError(f"a model is loaded with its tokenizer; {name} has none. {remedy}")
    return tokenizer


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise SkillNeuronsError(f"dtype must be float32, bfloat16, float16 or float64; given: {dtype}.")
    return found


def usable_device(device: str | torch.device) -> torch.device:
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


def _refuse_foreign(tokenizer: PreTrainedTokenizerBase, model: Any, name: str) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise SkillNeuronsError(
            f"every token needs an embedding; the tokenizer has {tokenizer.vocab_size} tokens, and {name} has {rows} "
            "embeddings. Load the model with its own tokenizer."
        )


@torch.no_grad()
def _refuse_odd(backbone: Backbone) -> None:
    """Refuse a model that overflows, or whose numbers padding changes: mask or position ids are nothing to it."""
    prompt = backbone.embed(torch.ones(1, dtype=torch.long, device=backbone.device))
    short, long = np.array([2]), np.array([3, 4, 5])
    alone, padded = _at_prompt(backbone, prompt, [short]), _at_prompt(backbone, prompt, [short, long])
    limit = 1e-4 if backbone.model.dtype.itemsize > 2 else 0.1
    for layer, (one, two) in enumerate(zip(alone, padded, strict=True)):
        largest = float(one.abs().max())
        if not isfinite(largest):
            raise SkillNeuronsError(
                f"activations must be finite numbers; layer {layer} of {backbone.name} gives NaN or infinity in "
                f"{backbone.model.dtype}. Load it with another dtype, such as float32."
            )
        off = float((one[0] - two[0]).abs().max())
        if off > limit * largest:
            raise SkillNeuronsError(
                f"padding must change nothing; in {backbone.name} it changes the activations of layer {layer} by "
                f"{off / largest:.2%} of the largest. Use a model that heeds the attention mask and position ids."
            )


@torch.no_grad()
def _with_shortcuts(backbone: Backbone) -> Backbone:
    """The backbone with what it may run at the answer token alone, where a trial pass gives the same answer so."""
    if backbone.kind == "encoder-decoder":  # whose decoder sees all tokens of the last layer
        return backbone
    prompt = backbone.embed(torch.ones(2, dtype=torch.long, device=backbone.device))
    batch = backbone.place(prompt, [np.array([2]), np.array([3, 4, 5])])
    expected = backbone.answer(batch).float()
    limit = (1e-4 if backbone.model.dtype.itemsize > 2 else 0.02) * expected.abs().max()

    def same(short: Backbone) -> bool:
        try:
            found = short.answer(batch).float()
        except RuntimeError:  # a model that folds samples and tokens into one axis
            return False
        return found.shape == expected.shape and bool((found - expected).abs().max() <= limit)

    short = replace(backbone, entrances=entrances(backbone.model, backbone.sites[-1]))
    if not same(short):
        return backbone
    linears = attention_linears(backbone.model, backbone.sites[-1])
    attending = tuple(path for path in linears if _row_alone(backbone, path, batch, expected))
    shorter = replace(short, attending=attending)
    return shorter if same(shorter) else short


def _row_alone(backbone: Backbone, path: str, batch: Batch, expected: torch.Tensor) -> bool:
    """Whether the answer is the same, bit for bit, whatever the last layer's `path` gives at the other tokens.

    Not where a layer calls it twice, as one that projects relative positions too.
    """
    draw, calls = torch.Generator().manual_seed(0), 0
    _, last = backbone._last

    def disturb(_module: object, _args: object, given: torch.Tensor) -> torch.Tensor | None:
        nonlocal calls
        calls += 1
        noise = 10 * torch.randn(given.shape, generator=draw)
        noise[:, batch.answer] = 0
        return given + noise.to(given) if calls == last else None

    hook = backbone.model.get_submodule(path).register_forward_hook(disturb)
    try:
        return torch.equal(backbone.answer(batch).float(), expected) and calls == last
    finally:
        hook.remove()


def _at_prompt(backbone: Backbone, prompt: torch.Tensor, inputs: list[np.ndarray]) -> list[torch.Tensor]:
    """Each layer's activations at the prompt."""
    batch = backbone.place(prompt, inputs)
    layers: list[torch.Tensor] = []
    with backbone.observe(lambda layer, activations: layers.append(activations[:, batch.prompt].float())):
        backbone.answer(batch)
    return layers


def _stack(model: Any, kind: Kind) -> torch.nn.Module:
    return model.get_encoder() if kind == "encoder-decoder" else model.base_model


@torch.no_grad()
def _two_tokens(model: Any, kind: Kind) -> None:
    table = model.get_input_embeddings().weight
    _stack(model, kind)(
        inputs_embeds=table[:2].unsqueeze(0),
        attention_mask=torch.ones(1, 2, dtype=torch.long, device=table.device),
    )
