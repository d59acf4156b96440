"""Which words belong to a neuron: is a skill neuron but one that fires at keywords? (Section 4.4, Tables 2 and 6.)

    found = words(model, skill)                          # the best neuron of each subtask
    found = words(model, skill, [(3, 120)], split="train", least=5)
    found.table(); found.plot(); found.plot(way="activation")
    found.readers(); found.verdict                       # do the words alone tell the labels as the neuron does?

Two ways, as in the paper. By weight (Dai et al. 2021), with `E_t` the input embedding of token t and `K_i` of Eq. 2:

    cosine(t, i) = E_t . K_i / ( |E_t| |K_i| )

for every token of the vocabulary; see `skillneurons.models.input_weights` for gated FFNs and narrow embeddings. The
normalisation before an FFN, and all that the layers below it do, is ignored, as in the paper: of a neuron high up, the
cosine says little. By activation (Suau et al. 2020), over every place x of the split where token t stands in an input:

    activation(t, i) = mean over x of a(i, x)

beside one trial's prompt, for tokens that occur at least `least` times, a mean of few being chance. Special tokens are
left out of both.

Whether the words tell the labels is not left to the eye: `readers` has, beside each neuron on test, what its mean
activations at words tell by themselves; see `skillneurons.evidence.by_words`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..config import Config
from ..errors import SkillNeuronsError
from ..finding.measure import worth
from ..finding.skill import SkillNeurons
from ..finding.standing import Standing, refuse_foreign, refuse_trial, standings
from ..finding.sweep import sweep
from ..models import Backbone
from ..models.input_weights import input_embeddings, input_weights
from ..progress import say
from ..tuning.inputs import Inputs, SplitName
from .by_words import right_by_words
from .result import told
from .token_means import TokenMeans
from .word_result import ENDS, Words

MANY = 200_000_000
"""Bytes of sums from which on they are said beforehand."""


class WordConfig(Config):
    """Where words are counted, and how many are shown."""

    split: SplitName = "train"
    """Samples over which activations are averaged."""
    trial: Annotated[int, Field(ge=0)] = 0
    """Whose prompt stands beside them."""
    least: Annotated[int, Field(ge=1)] = 5
    """Times that a token occurs at least, to have a mean activation."""
    most: Annotated[int, Field(ge=1)] = 10
    """Words shown of either end."""


def words(
    model: Backbone,
    skill: SkillNeurons,
    neurons: Iterable[tuple[int, int]] | None = None,
    *,
    config: WordConfig | None = None,
    **options: Any,
) -> Words:
    """The words that some neurons' weights point at, and those that the neurons are most and least active at.

    `neurons` are (layer, neuron) pairs or a `NeuronSet`; without them, the best one of each subtask. Options are those
    of `WordConfig` (`split`, `trial`, `least`, `most`), or `config` gives them all at once. One pass over the split.
    Raises `SkillNeuronsError` for another model than the run's, a neuron or trial that the run does not have, and
    where no token occurs `least` times.
    """
    config = config or WordConfig.make(**options)
    refuse_trial(skill, config.trial)
    given = _best(skill) if neurons is None else neurons
    chosen = list(dict.fromkeys((int(layer), int(neuron)) for layer, neuron in given))
    if not chosen:
        raise SkillNeuronsError("words are of one neuron at least; given: none. Name some, or leave neurons out.")
    standing = standings(skill, chosen)
    refuse_foreign(model, skill)
    ids = vocabulary(model)
    cosine = cosines(model, chosen, ids)
    inputs = Inputs.beside(model, skill.task, skill.prompts[config.trial])
    activation, count = _averaged(inputs, skill, chosen, config)
    listed = torch.zeros(len(count), dtype=torch.bool)
    listed[ids] = True
    often = count >= config.least
    if not (often & listed).any():
        raise SkillNeuronsError(
            f"words are compared that occur at least {config.least} times in {config.split} of {skill.about['task']}; "
            f"the commonest occurs {int(count[ids].max())} times. Lower --least."
        )
    activation = activation.masked_fill(~(often & listed), torch.nan)
    texts = _texts(model)
    rows = [
        {
            "layer": layer, "neuron": neuron, "way": way, "end": end, "place": place + 1,
            "text": texts(token), "token": token, "value": float(values[index, token]), "count": int(count[token]),
        }
        for index, (layer, neuron) in enumerate(chosen)
        for way, values in (("cosine", cosine), ("activation", activation))
        for end in ENDS
        for place, token in enumerate(extreme(values[index], config.most, end == "top"))
    ]  # fmt: skip
    about = told(Words.version, config, skill) | {"model": skill.about["model"], "task": skill.about["task"]}
    about["neurons"] = _readers(inputs, skill, standing, activation, config)
    return Words(about, rows, {"cosine": cosine, "activation": activation, "count": count})


def vocabulary(model: Backbone) -> Int[Tensor, " token"]:
    """The ids of all tokens that stand for text, ascending: no special ones, none without an embedding."""
    tokenizer = model.tokenizer
    known = {token for token in tokenizer.get_vocab().values() if token < _rows(model)}
    return torch.tensor(sorted(known - set(tokenizer.all_special_ids)))


def cosines(
    model: Backbone, neurons: Sequence[tuple[int, int]], ids: Int[Tensor, " token"]
) -> Float[Tensor, "neuron vocabulary"]:
    """The cosine of each neuron's input weight with each token's embedding, NaN for tokens not among `ids`."""
    weights = torch.nn.functional.normalize(input_weights(model, neurons), dim=1)
    found = torch.full((len(neurons), _rows(model)), torch.nan, dtype=torch.float64)
    for part in ids.split(4096):
        found[:, part] = weights @ torch.nn.functional.normalize(input_embeddings(model, part), dim=1).T
    return found


def extreme(values: Float[Tensor, " token"], most: int, top: bool) -> list[int]:
    """The tokens with the highest or lowest values, those without one left out, of equal values the lower id first."""
    known = torch.nonzero(~torch.isnan(values))[:, 0]
    return known[torch.argsort(values[known], descending=top, stable=True)[:most]].tolist()


def _averaged(
    inputs: Inputs, skill: SkillNeurons, chosen: Sequence[tuple[int, int]], config: WordConfig
) -> tuple[Float[Tensor, "neuron token"], Int[Tensor, " token"]]:
    prompt, tokens = skill.prompts[config.trial], _rows(inputs.backbone)
    if (taken := 8 * tokens * len(chosen)) > MANY:
        say(f"Sums of {len(chosen)} neurons at {tokens} tokens take {taken / 1e9:.2f} GB.")
    means = TokenMeans(inputs, config.split, chosen, tokens)
    sweep(inputs, config.split, prompt.embedding.to(inputs.backbone.device), [means], f"words: {config.split}")
    return means.means().T.contiguous().cpu(), means.counts.cpu()


def _readers(
    inputs: Inputs,
    skill: SkillNeurons,
    standing: Sequence[Standing],
    activation: Float[Tensor, "neuron token"],
    config: WordConfig,
) -> list[dict[str, Any]]:
    """What `Words.readers` shows."""
    names = [subtask.name for subtask in skill.task.subtasks]
    spots = [(own["subtask"], own["layer"], own["neuron"]) for own in skill.results["top_neurons"]]
    right = skill.tested.right(skill.task).mean(0)  # over trials
    labels, seed = skill.tested.labels, skill.config.seed
    subtasks = [names.index(own.subtask) for own in standing]
    by_words = right_by_words(inputs, config.split, activation.T.numpy(), subtasks).astype(np.float64)
    found = []
    for column, (own, subtask) in enumerate(zip(standing, subtasks, strict=True)):
        read: dict[str, Any] = dict.fromkeys(("test_accuracy", "low", "high", "more", "more_low", "more_high"))
        if (spot := (own.subtask, own.layer, own.neuron)) in spots:
            place = spots.index(spot)
            read |= {key: skill.results["top_neurons"][place][key] for key in ("test_accuracy", "low", "high")}
            more = worth(right[:, place] - by_words[:, column], subtask, labels, skill.task, seed)
            read |= dict(zip(("more", "more_low", "more_high"), more, strict=True))
        alone = worth(by_words[:, column], subtask, labels, skill.task, seed)
        read |= dict(zip(("words_accuracy", "words_low", "words_high"), alone, strict=True))
        found.append({"layer": own.layer, "neuron": own.neuron, "subtask": own.subtask, "rank": own.rank} | read)
    return found


def _best(skill: SkillNeurons) -> list[tuple[int, int]]:
    """The best neuron of each subtask, each once."""
    return list(dict.fromkeys(skill.top(1, subtask=own["name"]).neurons[0] for own in skill.about["subtasks"]))


def _rows(model: Backbone) -> int:
    """The number of embeddings, which may be more than the tokens."""
    embedding: Any = model.model.get_input_embeddings()
    return int(embedding.weight.shape[0])


def _texts(model: Backbone) -> Any:
    """A token's text; where it is but a part of a character, its name in the vocabulary."""

    def text(token: int) -> str:
        found = str(model.tokenizer.decode([token], clean_up_tokenization_spaces=False))
        return str(model.tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in found or not found else found

    return text
