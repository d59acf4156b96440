"""The claims of the paper, and what a study says of each: how often it holds, with the sentences that say so.

    told(result.sections, worth)                 # one Told for each claim, those that were not tried among them
    outcome("Holds: the pruned model ...")       # "holds"

Sentences are the verdicts of the experiments (`evidence/verdict.py`, `finding/nulls/verdict.py`). That one neuron does
as well as the prompt is judged here, from the table of findings: its interval takes the two intervals over samples for
independent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import pandas as pd

from ..evidence.verdict import Outcome, judged, points, untold, verdict
from ..study.drawing import Section

NEAR = 0.05
"""How much less than the prompt's a neuron's accuracy may be and count as near."""


@dataclass(frozen=True)
class Claim:
    """A claim in plain words, where the paper makes it, and the experiment that tests it.

    `part` is the place of its sentence in a verdict of several.
    """

    text: str
    where: str
    experiment: str
    part: int = 0


@dataclass(frozen=True)
class Told:
    """What a study says of a claim: (task or "", sentence, outcome), nothing where it was not tried."""

    claim: Claim
    sentences: tuple[tuple[str, str, Outcome], ...]

    def count(self, outcome: Outcome) -> int:
        """How many sentences come out so."""
        return sum(own == outcome for _, _, own in self.sentences)


CLAIMS = (
    Claim("The best neurons alone answer nearly as well as the tuned prompt.", "section 4.1, Table 1", "findings"),
    Claim("The best neurons tell more than chance, a random model and the input's length.", "beyond the paper",
          "nulls"),
    Claim("Perturbing skill neurons costs more accuracy than perturbing random ones.", "section 4.2, Figure 4",
          "perturbation"),
    Claim("Perturbing them costs more, too, with noise as large as each neuron's own spread.", "beyond the paper",
          "perturbation-relative"),
    Claim("Tasks of one kind order the neurons alike.", "section 4.3, Figure 5", "correlation"),
    Claim("A task needs the neurons of its own kind more than those of other kinds.", "section 4.3, Figure 6",
          "importance"),
    Claim("A task needs those of its kind more, too, with noise as large as each one's spread.", "beyond the paper",
          "importance-relative"),
    Claim("Skill neurons tell more than the words they fire at.", "section 4.4, Table 2", "words"),
    Claim("Other label words find the same neurons.", "section 4.4", "label-words"),
    Claim("The neurons are there before any tuning: untuned prompts find them.", "section 5.1, Table 3", "origins"),
    Claim("Adapters rest on the same neurons.", "section 5.2, Figure 12", "adapter"),
    Claim("BitFit rests on the same neurons.", "section 5.2, Figure 7", "bitfit"),
    Claim("Under other ways of tuning, too, a task needs the neurons of its kind.", "section 5.2, Figure 8",
          "importance-tuned"),
    Claim("Neurons tell more at the prompt than over the input.", "section 4.1, Figure 3", "pooled"),
    Claim("Pushing skill neurons steers the answers.", "beyond the paper", "steering"),
    Claim("Pruned to its skill neurons, the model answers as well.", "section 6.1, Table 4", "prune"),
    Claim("Prompts transfer better between tasks whose active skill neurons overlap.", "section 6.2", "transfer"),
    Claim("Skill neurons tell transferability better than all neurons do.", "section 6.2", "transfer", 1),
)  # fmt: skip
_BEGINNINGS: Mapping[str, Outcome] = {
    "Holds": "holds", "Does not hold": "fails", "Cannot be told": "open", "No claim yet": "open",
    "These neurons are more": "holds", "These neurons are not": "fails",
}  # fmt: skip
_SENTENCE = re.compile(r"(?<=\.) (?=Holds:|Does not hold:|Cannot be told)")


def outcome(sentence: str) -> Outcome | None:
    """What a verdict says by how it begins; None where no claim is tested."""
    return next((own for begins, own in _BEGINNINGS.items() if sentence.startswith(begins)), None)


def told(sections: Iterable[Section], findings: pd.DataFrame | None) -> list[Told]:
    """Every claim with what the sections say of it; `findings` is the table of that name."""
    verdicts: dict[str, Sequence[tuple[str, str]]] = {own.experiment: own.verdicts for own in sections}
    if findings is not None:
        verdicts["findings"] = [(row["task"], _near(row)) for row in findings.to_dict("records")]
    found = []
    for claim in CLAIMS:
        said = []
        for task, sentence in verdicts.get(claim.experiment, ()):
            parts = _SENTENCE.split(sentence)
            if claim.part < len(parts) and (own := outcome(parts[claim.part])) is not None:
                said.append((task, parts[claim.part], own))
        found.append(Told(claim, tuple(said)))
    return found


def _near(row: Mapping[Any, Any]) -> str:
    """Whether a task's neurons answer as well as its prompt, to within `NEAR`; untold where it has learned nothing."""
    if row["prompt"] <= row["majority"]:
        return untold(
            f"the prompt does not beat the commonest label ({100 * row['prompt']:.1f} % against "
            f"{100 * row['majority']:.1f} %). Tune for longer."
        )
    difference = row["neurons"] - row["prompt"]
    low = difference - hypot(row["neurons"] - row["neurons_low"], row["prompt_high"] - row["prompt"])
    high = difference + hypot(row["neurons_high"] - row["neurons"], row["prompt"] - row["prompt_low"])
    return verdict(
        judged(low + NEAR, high + NEAR, within=0.0),
        f"the best neurons answer as well as the prompt, to within {100 * NEAR:.0f} points",
        f"the best neurons answer worse than the prompt by more than {100 * NEAR:.0f} points",
        f"{100 * row['neurons']:.1f} % against {100 * row['prompt']:.1f} % on test, {points(difference, low, high)}",
    )
