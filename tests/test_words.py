"""Label words: one token each, in the form that suits the answer token, or one message that names them all."""

from __future__ import annotations

import pytest

from skillneurons import SkillNeuronsError
from skillneurons.models import LabelWord, label_words

from . import vocabulary
from .backbones import backbone
from .families import FAMILIES, LABELS

WORDS = {"0": "negative", "1": "positive"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_form_is_the_one_that_stands_at_the_answer_token(name: str) -> None:
    model = backbone(name)
    found = model.label_words({label: label for label in LABELS})
    assert [word.label for word in found] == [word.word for word in found] == list(LABELS)
    for word in found:
        spaced = word.form.startswith(" ")
        assert spaced == (FAMILIES[name].kind == "causal")  # text comes before it there
        assert model.tokenizer.encode(word.form, add_special_tokens=False) == [word.token]
        assert str(model.tokenizer.decode([word.token])).strip() == word.word
    assert len({word.token for word in found}) == len(LABELS)


def test_the_other_form_is_taken_where_the_first_is_several_tokens() -> None:
    tokenizer = vocabulary.gpt2()  # words are one token after a space only
    assert [word.form for word in label_words(tokenizer, WORDS, opens=True)] == [" negative", " positive"]
    tokenizer = vocabulary.roberta()  # one token in both forms, and two different ones
    opening, following = (label_words(tokenizer, WORDS, opens=opens) for opens in (True, False))
    assert [word.form for word in opening] == ["negative", "positive"]
    assert [word.form for word in following] == [" negative", " positive"]
    assert not {word.token for word in opening} & {word.token for word in following}


def test_a_space_before_the_word_is_not_doubled() -> None:
    found = label_words(vocabulary.gpt2(), {"1": " positive"}, opens=False)
    assert found == (LabelWord("1", " positive", " positive", found[0].token),)


def test_all_words_that_are_several_tokens_are_named_at_once() -> None:
    with pytest.raises(SkillNeuronsError) as caught:
        label_words(vocabulary.roberta(), {"0": "Negative", "1": "positive", "2": "unheard"}, opens=True, name="mine")
    message = str(caught.value)
    assert message.startswith(
        "a label word must be a single token of its own to mine; choose other [words]: 2 problems"
    )
    assert "'Negative' of label '0'" in message and "'unheard' of label '2'" in message
    assert "positive" not in message
    assert "'Negative' = ['N', 'e'" in message  # as what it is read


def test_an_unknown_word_is_no_label_word() -> None:
    with pytest.raises(SkillNeuronsError, match=r"'unheard' of label '1' is not one known token.*\[UNK\]"):
        label_words(vocabulary.bert(), {"0": "negative", "1": "unheard"}, opens=True)


def test_two_labels_cannot_share_a_token() -> None:
    with pytest.raises(SkillNeuronsError, match="'positive' and ' positive' of labels '0' and '1' are the same token"):
        label_words(vocabulary.bert(), {"0": "positive", "1": " positive"}, opens=True)
