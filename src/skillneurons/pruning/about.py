"""What a shipped model's folder says of itself: `pruned.json`.

    sealed(content)                            # the content with its checksum
    About.read(folder)                         # checked against it, and every file against its own

A checksum tells files that were cut short, mixed up or edited; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from ..config import Config
from ..errors import SkillNeuronsError
from ..files import inside, read_json
from .config import Baseline
from .small import Figures, Form

NAME = "pruned.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = 1
REMEDY = "Copy the folder again, or save the pruned model anew."


class About(Config):
    """All of a shipped model that is neither weights nor tokenizer."""

    format: int = FORMAT
    """Of the folder."""
    versions: dict[str, str]
    """Of what wrote it: skillneurons and transformers."""
    model: str
    """What it was made of."""
    kind: Literal["masked", "causal", "encoder-decoder"]
    """Of the model."""
    task: str
    """What it was made for."""
    texts: Literal[1, 2]
    """Texts of a sample."""
    words: dict[str, str]
    """Each label's word, in the form that was taken."""
    columns: tuple[int, ...]
    """Where each label's logit is in the head's output."""
    limit: int | None
    """The most tokens of an input."""
    trial: int
    """The run's trial whose prompt and means these are."""
    baseline: Baseline | None
    """At which means neurons are frozen; None where none are."""
    kept: dict[int, tuple[int, ...]]
    """The neurons that stay in each pruned layer, as the dense model numbers them."""
    prompt: Form
    """Whole, shorter, or frozen into keys and values."""
    positions: int
    """Of the prompt."""
    retuned: bool
    """Whether the prompt was tuned further."""
    sites: tuple[tuple[str, int], ...]
    """Each layer's down-projection and its number of neurons."""
    entrances: tuple[str, ...]
    """See `Backbone.entrances`."""
    attending: tuple[str, ...]
    """See `Backbone.attending`."""
    linears: tuple[str, ...]
    """The linear layers that are not as config.json has them."""
    tied: dict[str, str]
    """Weights that are another's, by name."""
    parameters: int
    """How many there are, prompt not counted."""
    dense: int
    """How many the dense model has."""
    figures: tuple[Figures, ...]
    """Accuracies of the dense model and of this one."""
    trials: int
    """Over how many trials they are means."""
    majority: float
    """Share of the commonest label on test."""
    checksums: dict[str, str]
    """SHA-256 of every other file that is read."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The content of a folder whose files are what they were.

        Raises `SkillNeuronsError` where there is none, where anything was changed, or of another version.
        """
        path = folder / NAME
        content = read_json(path, "A shipped model is a folder that Pruned.save or `skillneurons prune` wrote.")
        if not isinstance(content, dict) or "format" not in content:
            raise SkillNeuronsError(f"{path} was not written by skillneurons. {REMEDY}")
        if content["format"] != FORMAT:
            raise SkillNeuronsError(
                f"{path} is of format {content['format']}, this version of skillneurons reads format {FORMAT}. Use the "
                "version that wrote it, or save the pruned model anew."
            )
        if content != sealed({key: value for key, value in content.items() if key != "checksum"}):
            raise SkillNeuronsError(f"{path} is not whole, or was edited. {REMEDY}")
        try:
            about = cls(**{key: value for key, value in content.items() if key != "checksum"})
        except ValidationError as error:
            raise SkillNeuronsError(
                f"{path} lacks something, or has too much ({error.errors()[0]['loc']}). {REMEDY}"
            ) from error
        for name in {WEIGHTS, CONFIG, *about.checksums}:
            file = inside(folder, name)
            if not file.is_file():
                raise SkillNeuronsError(f"{folder} lacks {name}. {REMEDY}")
            if sha256(file) != about.checksums.get(name):
                raise SkillNeuronsError(f"{file} was cut short, edited, or is another model's. {REMEDY}")
        return about


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its own checksum."""
    whole = json.dumps(content, sort_keys=True).encode()
    return {**content, "checksum": hashlib.sha256(whole).hexdigest()}


def sha256(path: Path) -> str:
    """A file's checksum, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
