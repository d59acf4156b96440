"""The frozen pretrained model: fed with a prompt, read at its neurons and at the answer token.

    model = load_model("roberta-base")
    batch = model.place(prompt, inputs)
    with model.observe(lambda layer, activations: print(layer, activations.shape)):
        logits = model.answer(batch)              # [batch, vocabulary], the head at the answer token alone
    with model.edit(chosen, Zero()):
        ...                                       # chosen neurons changed while the block runs

Only the library's own modules run; nothing of the model's arithmetic is written again here.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import SkillNeuronsError
from ..files import digest
from .biases import PlacedLinear, placed
from .edits import TOKENS, AddedEdit, Edit, PlacedEdit
from .neurons import NeuronSet
from .placement import Batch, Kind, place, place_padded
from .shortcuts import narrowed, stopped
from .sites import Site, Watch, attached
from .words import LabelWord, label_words

# of a configuration: what says nothing about the model
_INCIDENTAL = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")


@dataclass
class _Now:
    """What is under way: the passes' batches, and how many watch every token of the last layer."""

    batches: list[Batch] = field(default_factory=list)
    watching: int = 0


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model with its tokenizer, its kind and its sites (one a layer, in order).

    `name` is what it was loaded from; `random` says that its weights were drawn from its configuration. `entrances`:
    the paths of the last FFN's first linear layers, where that FFN may run at the answer token alone; `attending`:
    those of the last attention's linear layers of which the answer token needs its own row alone.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    sites: tuple[Site, ...]
    name: str
    random: bool = False
    entrances: tuple[str, ...] = ()
    attending: tuple[str, ...] = ()
    _now: _Now = field(default_factory=lambda: _Now(), init=False, repr=False)

    @property
    def layers(self) -> int:
        """The number of layers that have neurons."""
        return len(self.sites)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of neurons of each layer."""
        return tuple(site.width for site in self.sites)

    @property
    def neurons(self) -> int:
        """The number of neurons of the whole model."""
        return sum(self.widths)

    @property
    def embedding_size(self) -> int:
        """The width of a token's embedding, and so of a prompt's."""
        return int(self._embedding.weight.shape[1])

    @cached_property
    def embedding_scale(self) -> float:
        """The root mean square of the entries of all tokens' embeddings, as the model takes them."""
        rows, size = self._embedding.weight.shape
        with torch.no_grad():
            parts = torch.arange(rows, device=self.device).split(4096)
            squares = sum(float(self.embed(ids).double().pow(2).sum()) for ids in parts)
        return (squares / (rows * size)) ** 0.5

    @property
    def device(self) -> torch.device:
        """Where prompts and inputs go."""
        return self._embedding.weight.device

    @property
    def stack(self) -> nn.Module:
        """The part whose layers are ranked: the encoder, or the model without its head."""
        model: Any = self.model
        return model.get_encoder() if self.kind == "encoder-decoder" else model.base_model

    @cached_property
    def longest(self) -> int | None:
        """The most tokens that fit, None where positions are differences between tokens and nothing is bounded (T5)."""
        config: Any = self.model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 0
        modules = [(path.rpartition(".")[2], module) for path, module in self.stack.named_modules()]
        tables = [module for name, module in modules if "position" in name and isinstance(module, nn.Embedding)]
        if not tables and any(name == "relative_attention_bias" for name, _ in modules):
            return None
        # RoBERTa counts positions from the one after its padding id
        lost = [0 if table.padding_idx is None else table.padding_idx + 1 for table in tables]
        rows = [table.num_embeddings - own for table, own in zip(tables, lost, strict=True)]
        return min([size for size in (*rows, most) if size > 0], default=None)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the configuration, the sites, every weight and the tokenizer (32 hexadecimal digits)."""
        config = self.model.config.to_diff_dict()
        told = {key: value for key, value in config.items() if key not in _INCIDENTAL}
        parts = [type(self.model).__name__, _plain(told), repr(self.sites)]
        for name, tensor in self.model.state_dict().items():
            values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
            parts += [name, str(tensor.dtype), str(list(tensor.shape)), digest(values.data)]
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            words: Any = self.tokenizer.get_vocab()
        else:  # truncation and padding are what the last call asked for
            words = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
        return digest(*parts, _plain([words, self.tokenizer.special_tokens_map, self.tokenizer.model_input_names]))

    def room(self, positions: int) -> int | None:
        """The most tokens of an input, the tokenizer's own special tokens included, beside a prompt of `positions`.

        None where nothing is bounded. Raises `SkillNeuronsError` where a pair of one token each would not fit.
        """
        if self.longest is None:
            return None
        answer = 1 if self.kind == "masked" else 0
        left = self.longest - positions - answer
        least = self.tokenizer.num_special_tokens_to_add(pair=True) + 2
        if left < least:
            raise SkillNeuronsError(
                f"prompt and input must fit into the {self.longest} tokens of {self.name}; a prompt of {positions} "
                f"leaves {max(left, 0)} for the input. Use at most --positions {self.longest - answer - least}."
            )
        return left

    def label_words(self, words: Mapping[str, str]) -> tuple[LabelWord, ...]:
        """The token of each label's word, in the order of `words`; see `skillneurons.models.words`."""
        return label_words(self.tokenizer, words, opens=self.kind != "causal", name=self.name)

    def embed(self, ids: Int[Tensor, "*token"]) -> Float[Tensor, "*token embedding"]:
        """Embeddings of token ids, as the model itself makes them."""
        return self._embedding(ids)

    def place(
        self,
        prompt: Float[Tensor, "*sample position embedding"],
        inputs: Sequence[np.ndarray],
        types: Sequence[np.ndarray] | None = None,
    ) -> Batch:
        """Put the prompt, or each sample's own, beside a batch of inputs; see `skillneurons.models.placement`.

        `inputs` are each sample's token ids [token]; `types`, of the same lengths, their token types where the
        tokenizer tells any.
        """
        types = types if self.tells_types else None
        return place(self.kind, self.embed, prompt, inputs, types, self._mask_token)

    def place_padded(
        self,
        prompt: Float[Tensor, "*sample position embedding"],
        ids: Int[Tensor, "batch token"],
        attention: Int[Tensor, "batch token"],
        types: Int[Tensor, "batch token"] | None = None,
    ) -> Batch:
        """As `place`, of inputs that are padded already: what a trace of the model begins with."""
        types = types if self.tells_types else None
        return place_padded(self.kind, self.embed, prompt, ids, attention, types, self._mask_token)

    def read(self, batch: Batch) -> None:
        """Run the ranked layers for whoever observes them; nothing after the last layer's neurons."""
        last, calls = self._last
        with self._pass(batch), stopped(last, calls):
            self.stack(**self._given(batch))

    def answer(self, batch: Batch) -> Float[Tensor, "batch vocabulary"]:
        """Logits over the vocabulary at the answer token; the head runs there alone.

        So do the last layer's FFN and its attention's query and output, unless somebody observes the neurons (the
        attention's not in training, where it gains nothing to be seen).
        """
        _, calls = self._last
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._pass(batch))
            if batch.answer is not None and not self._now.watching:
                for paths, spread in ((self.entrances, False), (() if self.model.training else self.attending, True)):
                    modules = [self.model.get_submodule(path) for path in paths]
                    stack.enter_context(narrowed(modules, calls, batch.answer, spread))
            return self._answer(batch)

    def _answer(self, batch: Batch) -> Float[Tensor, "batch vocabulary"]:
        given = self._given(batch)
        if self.kind == "encoder-decoder":
            start = torch.full_like(batch.attention[:, :1], self.decoder_start)
            return self.model(**given, decoder_input_ids=start, use_cache=False).logits[:, 0]
        if self.kind == "causal":
            last = {"logits_to_keep": 1} if "logits_to_keep" in _arguments(self.model) else {}
            return self.model(**given, **last).logits[:, -1]

        def only_answer(_module: nn.Module, _args: object, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[:, batch.answer, None]
            return output

        hook = self.stack.register_forward_hook(only_answer)
        try:
            return self.model(**given).logits[:, 0]
        finally:
            hook.remove()

    @contextlib.contextmanager
    def observe(self, watch: Watch) -> Iterator[None]:
        """Call `watch(layer, activations)` with activations [batch, token, neuron] while the block runs.

        A tensor that `watch` returns takes the activations' place. Inside an `edit` it sees them as edited; around
        one, as they were before.
        """
        self._now.watching += 1
        try:
            with attached([self.model, self.stack], self.sites, watch):
                yield
        finally:
            self._now.watching -= 1

    def edit(
        self, chosen: NeuronSet, edit: Edit | PlacedEdit | AddedEdit, tokens: str = "all"
    ) -> contextlib.AbstractContextManager[None]:
        """Change the chosen neurons while the block runs; nothing survives it, however it ends.

        `tokens`: all, or those of the prompt, the answer or the input alone. Edits may be nested: the inner one gets
        what the outer one made. Raises `SkillNeuronsError` where the set was made for a model of other widths, for
        tokens that this kind of model does not have, and, in the pass, where the edit's result has another shape.
        """
        if chosen.widths != self.widths:
            raise SkillNeuronsError(
                f"a neuron set belongs to the model it was chosen in: it has layers of {list(chosen.widths)} neurons, "
                f"{self.name} has {list(self.widths)}. Choose neurons from a run of this model."
            )
        if tokens not in TOKENS or (tokens == "answer" and self.kind == "encoder-decoder"):
            raise SkillNeuronsError(
                f"tokens are one of {', '.join(TOKENS)} (an encoder has no answer token); given: "
                f"{tokens!r} for {self.name}."
            )
        indices = {layer: torch.as_tensor(own, device=self.device) for layer, own in chosen.by_layer().items()}

        def places(before: Tensor, where: Tensor) -> Tensor:
            """Of the tokens that are there: all, or in the last layer the answer token alone."""
            where = where if before.shape[1] == where.shape[1] else where[:, [self._running().answer]]
            return where.to(before.device)

        def edited(edit: Edit | PlacedEdit, layer: int, before: Tensor, own: Tensor) -> Tensor:
            if isinstance(edit, PlacedEdit):
                after = edit.at(layer, before, own, places(before, self._running().rows()))
            else:
                after = edit(layer, before)
            if after.shape != before.shape:
                raise SkillNeuronsError(
                    f"an edit returns the activations of the chosen neurons, {list(before.shape)} as it was given them "
                    f"([batch, token, chosen]); {edit!r} returned {list(after.shape)}. Mend that edit."
                )
            return after.to(before.dtype)

        def change(layer: int, activations: Tensor) -> Tensor | None:
            if layer not in indices:
                return None
            own = indices[layer].to(activations.device)
            among = None if tokens == "all" else places(activations, self._running().among(tokens))[:, :, None]
            seen = activations.requires_grad or self._now.watching  # else in place
            if isinstance(edit, AddedEdit):
                amounts = edit.added(layer, own, places(activations, self._running().rows())).to(activations)
                amounts = amounts if among is None else amounts * among
                wide = activations.new_zeros(*amounts.shape[:2], activations.shape[2]).index_copy_(2, own, amounts)
                return activations + wide if seen else activations.add_(wide)
            before = activations[:, :, own]
            after = edited(edit, layer, before, own)
            after = after if among is None else torch.where(among, after, before)
            return (activations.index_copy if seen else activations.index_copy_)(2, own, after)

        if getattr(edit, "by_token", False):
            return attached([self.model, self.stack], self.sites, change)
        return self.observe(change)

    def __repr__(self) -> str:
        weights = "random weights, " if self.random else ""
        return f"Backbone({self.name}: {self.kind}, {weights}{self.layers} layers, {self.neurons} neurons)"

    @contextlib.contextmanager
    def _pass(self, batch: Batch) -> Iterator[None]:
        self._now.batches.append(batch)
        try:
            with placed(self._placed, batch):
                yield
        finally:
            self._now.batches.pop()

    def _running(self) -> Batch:
        """The batch of the pass that is under way."""
        if not self._now.batches:
            raise SkillNeuronsError(
                "where a token stands is known in model.read and model.answer alone; a neuron was edited by its token "
                "while the model itself was called. Call one of them."
            )
        return self._now.batches[-1]

    @cached_property
    def _last(self) -> tuple[nn.Module, int]:
        """The last layer's down-projection, and how many layers share it."""
        path = self.sites[-1].path
        return self.model.get_submodule(path), sum(site.path == path for site in self.sites)

    @cached_property
    def _placed(self) -> list[PlacedLinear]:
        """The layers whose biases differ from token to token."""
        return [module for module in self.model.modules() if isinstance(module, PlacedLinear)]

    @property
    def _embedding(self) -> Any:
        return self.model.get_input_embeddings()

    def _given(self, batch: Batch) -> dict[str, Any]:
        """The batch as arguments of the stack, which takes token types and position ids or has no use for them."""
        takes = _arguments(self.stack)
        given: dict[str, Any] = {"inputs_embeds": batch.embeddings, "attention_mask": batch.attention}
        given |= {name: value for name, value in batch.extra.items() if name in takes}
        return given | ({"use_cache": False} if self.kind == "causal" and "use_cache" in takes else {})

    @property
    def _mask_token(self) -> int:
        return int(self.tokenizer.mask_token_id) if self.kind == "masked" else 0

    @cached_property
    def tells_types(self) -> bool:
        """Whether the model has embeddings for two types of tokens; GPT-2, say, would add those of words instead."""
        return int(getattr(self.model.config, "type_vocab_size", None) or 0) > 1

    @cached_property
    def decoder_start(self) -> int:
        """The token that an encoder-decoder's decoder starts with."""
        for config in (self.model.config, self.model.generation_config):
            start = getattr(config, "decoder_start_token_id", None)
            if start is not None:
                return int(start)
        raise SkillNeuronsError(
            f"an encoder-decoder must say with which token its decoder starts; {self.name} does not. "
            "Set decoder_start_token_id in its config.json."
        )


def _arguments(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
