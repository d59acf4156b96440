"""A neuron's activation at every token of one input, as a run's prompt of one trial reads it.

    seen = by_token(model, skill, "a dull film", layer=3, neuron=120)
    seen                                             # the tokens, shaded
    seen.table()                                     # one row a token, in the model's order; what is usual beside it

Activations at prompt positions stand beside the baseline there (Eq. 3), those at other tokens beside their mean over
the training samples.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Integer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...errors import SkillNeuronsError
from ...models import Backbone
from ...models.placement import Kind
from ...tasks.tokens import encode
from ...tuning.inputs import Inputs
from ..standing import Standing, refuse_foreign, refuse_trial, standings
from ..statistics import at_least_float32
from .shading import Shades, excerpt, plain, shaded_html, spark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..skill import SkillNeurons


SHOWN = 200
"""Input tokens on the screen at most."""


@dataclass(frozen=True, eq=False)
class Usual:
    """What a neuron does over the training samples of a trial.

    `baseline` [position]: Eq. 3 of its subtask; `answer`, `inputs`: the means at the answer token (NaN in an
    encoder-decoder, whose answer token is the decoder's) and over the input tokens.
    """

    baseline: Float[np.ndarray, " position"]
    answer: float
    inputs: float


@dataclass(frozen=True, eq=False)
class Tokens:
    """One neuron's activations on one input, in one trial.

    `tokens` are the input's, special ones among them, each with the blank before it; `inputs` [token] and `prompt`
    [position] are the activations there; `position` is the neuron's best one; `answer` is the activation at the
    answer token, None in an encoder-decoder; `kind` is the model's.
    """

    layer: int
    neuron: int
    trial: int
    position: int
    kind: Kind
    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    inputs: Float[np.ndarray, " token"]
    prompt: Float[np.ndarray, " position"]
    answer: float | None
    usual: Usual

    @property
    def activation(self) -> float:
        """The activation at the best position, which is what Eq. 4 reads."""
        return float(self.prompt[self.position])

    @property
    def baseline(self) -> float:
        """The baseline at the best position."""
        return float(self.usual.baseline[self.position])

    def table(self) -> pd.DataFrame:
        """One row a token, in the order in which the model sees them.

        Columns: part (answer, prompt or input), index in that part, token (of the input), activation, usual: the
        baseline in the prompt, elsewhere the mean. A causal model's answer token is the last row of its prompt.
        """
        parts: dict[str, tuple[Iterable[Any], ...]] = {
            "answer": ([""], [self.answer], [self.usual.answer]),
            "prompt": ([""] * len(self.prompt), self.prompt, self.usual.baseline),
            "input": (self.tokens, self.inputs, [self.usual.inputs] * len(self.tokens)),
        }
        order = {
            "masked": ("answer", "prompt", "input"), "causal": ("input", "prompt"),
            "encoder-decoder": ("prompt", "input"),
        }[self.kind]  # fmt: skip
        rows = [(part, index, *cells) for part in order for index, cells in enumerate(zip(*parts[part], strict=True))]
        return pd.DataFrame(rows, columns=["part", "index", "token", "activation", "usual"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Bars of the input's tokens, on `ax` or new axes, beside the mean over all training samples' input tokens."""
        from .drawing import token_bars

        return token_bars(self, ax)

    def screen(self) -> RenderableType:
        """The tokens, shaded, with what stands beside them."""
        shades = Shades.of([self.inputs])
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row("input", excerpt(self.tokens, self.inputs, self.usual.inputs, shades, SHOWN))
        grid.add_row("", f"{shades}; mean over the input tokens of train {self.usual.inputs:.3g}")
        grid.add_row("prompt", spark(self.prompt))
        for fact in self._facts():
            grid.add_row("", fact)
        return Group(Text(self._title(), style="bold"), grid)

    def __repr__(self) -> str:
        return plain(self.screen())

    def _repr_html_(self) -> str:
        text = shaded_html(self.tokens, self.inputs, Shades.of([self.inputs]))
        facts = "".join(f"<p>{html.escape(fact)}</p>" for fact in self._facts())
        return f"<p><b>{html.escape(self._title())}</b></p><p>{text}</p>{facts}"

    def _title(self) -> str:
        return f"Neuron {self.neuron} of layer {self.layer}, trial {self.trial}"

    def _facts(self) -> list[str]:
        side = "above" if self.activation > self.baseline else "not above"
        facts = [f"best position {self.position}: {self.activation:.3g}, {side} the baseline of {self.baseline:.3g}"]
        if self.answer is not None:
            facts.append(f"answer token: {self.answer:.3g}, mean over train {self.usual.answer:.3g}")
        return facts


def by_token(
    model: Backbone,
    skill: SkillNeurons,
    text: str | Sequence[str],
    layer: int,
    neuron: int,
    trial: int = 0,
    *,
    subtask: str | None = None,
) -> Tokens:
    """The neuron's activation at every token of `text`: a string, or two of them where the task has pairs.

    A text that is too long is cut to fit. Raises `SkillNeuronsError` for another model than the run's, a neuron, trial
    or subtask that the run does not have, or a wrong number of texts.
    """
    refuse_trial(skill, trial)
    own = standings(skill, [(layer, neuron)], subtask)
    texts = (text,) if isinstance(text, str) else tuple(text)
    columns = skill.task.text
    if len(texts) != len(columns):
        raise SkillNeuronsError(
            f"an input of {skill.task.name} is {len(columns)} text{'s' if len(columns) > 1 else ''} "
            f"({', '.join(columns)}); given: {len(texts)}. Give one for each of these columns."
        )
    refuse_foreign(model, skill)
    inputs = Inputs.beside(model, skill.task, skill.prompts[trial])
    encoded, _ = encode(model.tokenizer, [[column] for column in texts], inputs.limit)
    ids = np.array(encoded["input_ids"][0], np.int64)
    types = np.array(encoded["token_type_ids"][0], np.int64) if "token_type_ids" in encoded else None
    return read_tokens(inputs, skill, trial, ids, types, texts, own, usual(skill, trial, own))[0]


def usual(skill: SkillNeurons, trial: int, chosen: Sequence[Standing]) -> list[Usual]:
    """What each of the chosen neurons usually does in a trial."""
    scores, names = skill.scores[trial], [own["name"] for own in skill.about["subtasks"]]
    layers = {own.layer for own in chosen}
    of = {layer: (scores.baseline(layer).numpy(), scores.mean(layer)[-2:].numpy()) for layer in layers}
    found = []
    for own in chosen:
        baseline, means = of[own.layer]
        answer, inputs = (float(mean) for mean in means[:, own.neuron])
        found.append(Usual(baseline[names.index(own.subtask), :, own.neuron].copy(), answer, inputs))
    return found


@torch.no_grad()
def read_tokens(
    inputs: Inputs,
    skill: SkillNeurons,
    trial: int,
    ids: Int[np.ndarray, " token"],
    types: Integer[np.ndarray, " token"] | None,
    texts: tuple[str, ...],
    chosen: Sequence[Standing],
    usually: Sequence[Usual],
) -> list[Tokens]:
    """One input's activations for each of the chosen neurons, in one pass; `usually` is what `usual` says of them."""
    model = inputs.backbone
    embedding = skill.prompts[trial].embedding.to(model.device)
    batch = model.place(embedding, [ids], None if types is None else [types])
    read: dict[tuple[int, int], Float[np.ndarray, " token"]] = {}

    def watch(layer: int, activations: torch.Tensor) -> None:
        for own in chosen:
            if own.layer == layer:
                read[layer, own.neuron] = at_least_float32(activations[0, :, own.neuron]).cpu().numpy()

    with model.observe(watch):
        model.read(batch)
    tokens, there = strings(model, ids), batch.inputs[0].cpu().numpy()
    found = []
    for own, ordinary in zip(chosen, usually, strict=True):
        values = read[own.layer, own.neuron]
        answer = None if batch.answer is None else float(values[batch.answer])
        found.append(
            Tokens(
                own.layer, own.neuron, trial, own.trials[trial].position, model.kind, texts, tokens,
                values[there], values[batch.prompt], answer, ordinary,
            )
        )  # fmt: skip
    return found


def strings(model: Backbone, ids: Int[np.ndarray, " token"]) -> tuple[str, ...]:
    """Each token as it stands in the decoded text, with the blank before it; the pieces of a character come at once."""
    numbers, shown, parts = ids.tolist(), "", []
    for end in range(1, len(numbers) + 1):
        # a token alone decodes without its blank, and half a character to a replacement sign
        text = str(model.tokenizer.decode(numbers[:end], clean_up_tokenization_spaces=False)).rstrip("\ufffd")
        parts.append(text[len(shown) :])
        shown = text
    return tuple(parts)
