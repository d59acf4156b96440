"""The single token whose likelihood at the answer token stands for a label.

A word is tried as given and with a leading space: as given first where the answer token opens the input (masked
models, the first step of a decoder), with the space first where text comes before it (causal models). The first
form that is one token is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..errors import problems


@dataclass(frozen=True)
class LabelWord:
    """A label, its word as written in the task, the form that was taken and its token."""

    label: str
    word: str
    form: str
    token: int


def label_words(
    tokenizer: PreTrainedTokenizerBase, words: Mapping[str, str], opens: bool, name: str = "this tokenizer"
) -> tuple[LabelWord, ...]:
    """One token for every label, in the order of `words` (label -> word).

    `opens`: the answer token opens the input. Raises `SkillNeuronsError` naming every word that is several tokens,
    unknown to the tokenizer, or the token of another label.
    """
    found: list[LabelWord] = []
    wrong: list[str] = []
    for label, word in words.items():
        spaced = f" {word.lstrip()}"
        forms = dict.fromkeys([word, spaced] if opens else [spaced, word])
        tokens = {form: tokenizer.encode(form, add_special_tokens=False) for form in forms}
        single = [form for form, ids in tokens.items() if len(ids) == 1 and ids[0] != tokenizer.unk_token_id]
        if not single:
            shown = "; ".join(f"{form!r} = {tokenizer.convert_ids_to_tokens(ids)}" for form, ids in tokens.items())
            wrong.append(f"the word {word!r} of label {label!r} is not one known token: {shown}")
            continue
        taken = LabelWord(label, word, single[0], tokens[single[0]][0])
        rival = next((other for other in found if other.token == taken.token), None)
        if rival:
            wrong.append(
                f"the words {rival.word!r} and {word!r} of labels {rival.label!r} and {label!r} are the same token"
            )
        found.append(taken)
    if wrong:
        raise problems(f"a label word must be a single token of its own to {name}; choose other [words]", wrong)
    return tuple(found)
