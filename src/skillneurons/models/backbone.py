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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import SkillNeuronsError
from ..files import digest
from .edits import Edit
from .neurons import NeuronSet
from .placement import Batch, Kind, place
from .sites import Site, Watch, attached
from .words import LabelWord, label_words


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model with its tokenizer, its kind and its sites (one a layer, in order).

    `name` is what it was loaded from; `random` says that its weights were drawn from its configuration.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    sites: tuple[Site, ...]
    name: str
    random: bool = False

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

    @property
    def embedding_scale(self) -> float:
        """The root mean square of the input embeddings' entries."""
        return float(self._embedding.weight.float().pow(2).mean().sqrt())

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
        """The most tokens that fit, None where positions are relative and nothing is bounded."""
        config: Any = self.model.config
        most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        if most is None or self._relative:
            return None
        tables = [
            module
            for name, module in self.stack.named_modules()
            if "position" in name.rsplit(".", 1)[-1] and isinstance(module, nn.Embedding)
        ]
        lost = max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)
        return int(most) - (lost if any(table.num_embeddings == most for table in tables) else 0)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the configuration, every weight and the tokenizer (32 hexadecimal digits)."""
        parts: list[str | bytes] = [type(self.model).__name__, str(self.embedding_size), repr(self.sites)]
        for name, tensor in self.model.state_dict().items():
            parts += [
                name,
                str(tensor.dtype),
                tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data,
            ]
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        parts.append(repr(sorted(self.tokenizer.get_vocab().items())) if backend is None else backend.to_str())
        return digest(*parts)

    def room(self, positions: int) -> int | None:
        """The most tokens of an input, the tokenizer's own special tokens included, beside a prompt of `positions`."""
        if self.longest is None:
            return None
        left = self.longest - positions - (1 if self.kind == "masked" else 0)
        least = self.tokenizer.num_special_tokens_to_add(pair=True) + 2
        if left < least:
            raise SkillNeuronsError(
                f"prompt and input must fit into the {self.longest} tokens of {self.name}; a prompt of {positions} leaves "
                f"{max(left, 0)} for the input. Use at most --positions {self.longest - least - 1}."
            )
        return left

    def label_words(self, words: Mapping[str, str]) -> tuple[LabelWord, ...]:
        """The token of each label's word, in the order of `words`; see `skillneurons.models.words`."""
        return label_words(self.tokenizer, words, opens=self.kind != "causal", name=self.name)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids, as the model itself makes them."""
        return self._embedding(ids)

    def place(
        self,
        prompt: Float[Tensor, "position embedding"],
        inputs: Sequence[np.ndarray],
        types: Sequence[np.ndarray] | None = None,
    ) -> Batch:
        """Put the prompt beside a batch of tokenised inputs; see `skillneurons.models.placement`."""
        mask = self.tokenizer.mask_token_id if self.kind == "masked" else 0
        return place(self.kind, self.embed, prompt, inputs, types if self._takes_types else None, mask)

    def read(self, batch: Batch) -> None:
        """Run the ranked layers for whoever observes them; no head, no decoder."""
        self.stack(inputs_embeds=batch.embeddings, attention_mask=batch.attention, **batch.extra, **self._plain)

    def answer(self, batch: Batch) -> Float[Tensor, "batch vocabulary"]:
        """Logits over the vocabulary at the answer token; the head runs there alone."""
        given: dict[str, Any] = {
            "inputs_embeds": batch.embeddings, "attention_mask": batch.attention, **batch.extra, **self._plain
        }  # fmt: skip
        if self.kind == "encoder-decoder":
            start = torch.full((len(batch), 1), self._start, device=batch.attention.device)
            return self.model(**given, decoder_input_ids=start).logits[:, 0]
        if self.kind == "causal":
            return self.model(**given, logits_to_keep=1).logits[:, -1]

        def only_answer(_module: nn.Module, _args: object, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[:, batch.answer : batch.answer + 1]  # type: ignore[operator]
            return output

        hook = self.stack.register_forward_hook(only_answer)
        try:
            return self.model(**given).logits[:, 0]
        finally:
            hook.remove()

    def observe(self, watch: Watch) -> contextlib.AbstractContextManager[None]:
        """Call `watch(layer, activations)` with activations [batch, token, neuron] while the block runs."""
        return attached([self.model, self.stack], self.sites, watch)

    @contextlib.contextmanager
    def edit(self, chosen: NeuronSet, edit: Edit) -> Iterator[None]:
        """Change the chosen neurons on all tokens while the block runs; nothing survives it, however it ends.

        Raises `SkillNeuronsError` where the set was made for a model of other widths.
        """
        if chosen.widths != self.widths:
            raise SkillNeuronsError(
                f"a neuron set belongs to the model it was chosen in: it has layers of {list(chosen.widths)} neurons, "
                f"{self.name} has {list(self.widths)}. Choose neurons from a run of this model."
            )
        indices = {layer: torch.as_tensor(own, device=self.device) for layer, own in chosen.by_layer().items()}

        def change(layer: int, activations: Tensor) -> Tensor | None:
            if layer not in indices:
                return None
            own = indices[layer].to(activations.device)
            return activations.index_copy(2, own, edit(layer, activations[:, :, own]))

        with attached([self.model, self.stack], [site for site in self.sites if site.layer in indices], change):
            yield

    def __repr__(self) -> str:
        weights = "random weights, " if self.random else ""
        return f"Backbone({self.name}: {self.kind}, {weights}{self.layers} layers, {self.neurons} neurons)"

    @property
    def _embedding(self) -> Any:
        return self.model.get_input_embeddings()

    @cached_property
    def _relative(self) -> bool:
        """Whether positions are only ever differences between tokens, as in T5."""
        return any("relative_attention_bias" in name for name, _ in self.stack.named_parameters())

    @cached_property
    def _takes_types(self) -> bool:
        return "token_type_ids" in inspect.signature(self.stack.forward).parameters

    @cached_property
    def _plain(self) -> dict[str, Any]:
        takes: Callable[[str], bool] = lambda name: name in inspect.signature(self.stack.forward).parameters  # noqa: E731
        return {"use_cache": False} if takes("use_cache") and self.kind == "causal" else {}

    @cached_property
    def _start(self) -> int:
        config: Any = self.model.config
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(self.model.generation_config, "decoder_start_token_id", None)
        if start is None:
            raise SkillNeuronsError(
                f"{self.name} does not say with which token its decoder starts; set decoder_start_token_id in its config.json."
            )
        return int(start)
