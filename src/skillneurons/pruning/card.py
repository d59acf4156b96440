"""The card of a shipped model: what it is, how to use it, what it costs, what it is not for.

card(about)                                 # Markdown, README.md of the folder
"""

from __future__ import annotations

from typing import Any

from .about import About

_FROZEN = {
    "one": "one mean over the prompt, for every token",
    "positions": "a mean for each position of the prompt, one for the answer token, one for the input's tokens",
}


def card(about: About) -> str:
    """The card's text."""
    kept = sum(map(len, about.kept.values()))
    layers = ", ".join(map(str, about.kept))
    words = ", ".join(f"`{label}` (`{word}`)" for label, word in about.words.items())
    example, lines = ('["a text"]', "one text a line") if about.texts == 1 else (
        '[("first text", "second text")]', "two texts a line, a tab between"
    )  # fmt: skip
    cut = f"Inputs beyond {about.limit} tokens are cut from the right, and the answer says so. " if about.limit else ""
    return f"""# {about.task}: a pruned {about.model}

It tells {words} apart. Of {about.model} only the {kept} most predictive neurons of layers {layers} stay; the others
are frozen at their means over the training samples ({_FROZEN[about.baseline]}), which became biases. The head has the
label words' rows alone. It has {about.parameters:,} parameters, the whole model {about.dense:,}.

```python
import skillneurons as sn

model = sn.load_pruned(".")  # this folder
model.predict({example})
```

```console
$ skillneurons predict . < lines.txt
```

({lines}; label and probabilities come out.)

## Accuracy

| model | prompt | dev | test | 95 % interval | parameters |
|---|---|---|---|---|---|
{chr(10).join(map(_row, about.figures))}

Means over the run's trials; this folder holds trial {about.trial}, the intervals are over test samples. Neurons, prompt
and baseline were chosen on dev, whose figures flatter. Answering the commonest label every time is right in
{100 * about.majority:.1f} % of test. Parameters are counted with the whole head.

## Limits

- It was made for the task {about.task} and answers with one of its labels whatever the text is.
- Probabilities are the softmax over the label words' logits; they were not calibrated.
- {cut}An empty text gets an answer too, which says nothing.
- What the training samples lack, the means lack: on texts of another kind the loss may be larger than above.

Written by skillneurons {about.versions["skillneurons"]} with transformers {about.versions["transformers"]}.
"""


def _row(figures: dict[str, Any]) -> str:
    model = "dense" if figures["baseline"] == "dense" else f"pruned, `{figures['baseline']}`"
    prompt = "tuned further" if figures["retuned"] else "the run's"
    dev, test, low, high = (f"{100 * figures[name]:.1f}" for name in ("dev", "test", "low", "high"))
    share = f"{100 * figures['share']:.1f} %"
    return f"| {model} | {prompt} | {dev} % | {test} % | {low} to {high} % | {share} |"
