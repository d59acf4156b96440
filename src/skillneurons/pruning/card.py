"""The card of a shipped model: what it is, what was done, how to use it, what it costs, what it is not for.

card(about)                                 # Markdown, README.md of the folder
"""

from __future__ import annotations

from textwrap import fill

from .about import About
from .small import Figures

_FROZEN = {
    "one": "one mean over the prompt, for every token",
    "positions": "a mean for each position of the prompt, one for the answer token, one for the input's tokens",
}


def card(about: About) -> str:
    """The card's text."""
    words = ", ".join(f"`{label}` (`{word}`)" for label, word in about.words.items())
    example, lines = ('["a text"]', "one text a line") if about.texts == 1 else (
        '[("first text", "second text")]', "two texts a line, a tab between"
    )  # fmt: skip
    cut = f"Inputs beyond {about.limit} tokens are cut from the right, and the answer says so. " if about.limit else ""
    done = (
        f"It tells {words} apart. {_neurons(about)} {_prompt(about)} The head has the label words' rows alone. It has "
        f"{about.parameters:,} parameters, the prompt not counted, the whole model {about.dense:,}."
    )
    means = (
        f"Means over {about.trials} trials; this folder holds trial {about.trial}, the"
        if about.trials > 1
        else f"Of trial {about.trial}, which this folder holds. The"
    )
    figures = (
        f"{means} intervals are over test samples. All that was chosen, neurons, means and prompt, was chosen on dev, "
        f"whose figures flatter. Answering the commonest label every time is right in {100 * about.majority:.1f} % of "
        "test."
    )
    return f"""# {about.task}: {about.model}, made smaller

{fill(done, 118)}

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

| model | prompt | dev | test | 95 % interval |
|---|---|---|---|---|
{chr(10).join(map(_row, about.figures))}

{fill(figures, 118)}

## Limits

- It was made for the task {about.task} and answers with one of its labels whatever the text is.
- Probabilities are the softmax over the label words' logits; they were not calibrated.
- {cut}An empty text gets an answer too, which says nothing.
- What was taken from the training samples may not fit others: on texts of another kind it may do worse than above.

Written by skillneurons {about.versions["skillneurons"]} with transformers {about.versions["transformers"]}.
"""


def _neurons(about: About) -> str:
    """What was done to the FFNs."""
    if about.baseline is None:
        return f"The FFNs are those of {about.model}, whole."
    kept, layers = sum(map(len, about.kept.values())), ", ".join(map(str, about.kept))
    return (
        f"Of {about.model} only the {kept} most predictive neurons of layers {layers} stay; the others are frozen at "
        f"their means over the training samples ({_FROZEN[about.baseline]}), which became biases."
    )


def _prompt(about: About) -> str:
    """What was done to the prompt."""
    said = {
        "whole": f"Its prompt has the run's {about.positions} positions",
        "shorter": f"Its prompt has the {about.positions} of the run's positions that carry most",
        "frozen": f"Its prompt of {about.positions} positions is frozen into keys and values, so that none is computed",
    }[about.prompt]
    return f"{said}; it was tuned further." if about.retuned else f"{said}."


def _row(figures: Figures) -> str:
    dev, test, low, high = (f"{100 * own:.1f}" for own in (figures.dev, figures.test, figures.low, figures.high))
    return f"| {figures.model} | {figures.prompt} | {dev} % | {test} % | {low} to {high} % |"
