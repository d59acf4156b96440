"""The study file: a model, tasks, trials and experiments, with a section of options for each.

    name = "mine"
    tasks = ["sst2", "miniature/films", "{assets}/tasks/mnli"]     # paths: from this file's folder
    experiments = ["perturbation", "origins"]                      # without the line: all
    [model]
    source = "roberta-base"
    [tuning]
    preset = "quick"                                               # and any option of find
    [perturbation]                                                 # and any option of perturb

`{assets}` is the folder of `--assets`, or of the variable SKILLNEURONS_ASSETS. Sections are the same frozen objects as
the options of the commands; all mistakes are told at once.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..config import Config
from ..errors import SkillNeuronsError, problems
from ..evidence.config import PerturbConfig, SteerConfig
from ..evidence.label_words import LabelWordConfig
from ..evidence.words import WordConfig
from ..finding.nulls.config import NullConfig
from ..pruning.config import PruneConfig
from ..tasks.catalogue import CATALOGUE
from ..tasks.spec import unknown
from ..transferring.config import TransferConfig
from ..tuning.config import PRESETS, AdapterConfig, BitFitConfig, TuneConfig

Experiment = Literal[
    "perturbation", "perturbation-relative", "importance", "importance-relative", "selectivity", "adapter", "bitfit",
    "importance-tuned", "correlation", "words", "label-words", "origins", "pooled", "choices", "stability", "nulls",
    "steering", "prune", "transfer",
]  # fmt: skip
EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)
EVIDENCE: tuple[Experiment, ...] = tuple(name for name in EXPERIMENTS if name not in ("nulls", "prune", "transfer"))
"""Those of the paper's sections 4 and 5 and of its appendices, and steering."""
TOGETHER: tuple[Experiment, ...] = (
    "importance", "importance-relative", "importance-tuned", "correlation", "transfer",
)  # fmt: skip
"""Those that hold tasks against each other."""
Count = Annotated[int, Field(ge=1)]


class Shape(Config):
    """What a model is like that is priced before it can be loaded."""

    layers: Count
    """Layers."""
    hidden: Count
    """Width of the residual stream."""
    width: Count
    """Neurons of a layer."""
    vocabulary: Count
    """Tokens."""


class ModelSection(Config):
    """The model."""

    source: str
    """Hub id, local folder, or miniature."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Number format."""
    sites: str | None = None
    """The down-projections' path with {layer}, for a model whose FFNs are not found."""
    shape: Shape | None = None
    """For the price where the model cannot be loaded."""


class LabelWordSection(Config):
    """How label words are compared; the rest as tuning has it."""

    trials: Count = 1
    """Trials of each finding."""
    sets: Annotated[int, Field(ge=2)] = 5
    """Sets of random label words."""
    seeds: Annotated[int, Field(ge=2)] = 5
    """Findings with the task's own words, each with a seed of its own."""


class StudyConfig(Config):
    """A study, as its file says it; sections are named after their experiments."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True)

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    """Of the study, and of its folder."""
    model: ModelSection
    """The model."""
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Tasks: names, or paths of task files."""
    experiments: tuple[Experiment, ...] = EXPERIMENTS
    """Which experiments."""
    tuning: TuneConfig = TuneConfig()
    """How prompts are tuned; `preset` may stand in it."""
    perturbation: PerturbConfig = PerturbConfig()
    """Curves under the paper's noise."""
    perturbation_relative: PerturbConfig = PerturbConfig(std=1.0, relative=True)
    """Curves under noise of each neuron's own spread; those of other ways of tuning too."""
    adapter: AdapterConfig = AdapterConfig()
    """Adapters."""
    bitfit: BitFitConfig = BitFitConfig()
    """BitFit."""
    words: WordConfig = WordConfig()
    """Word selectivity."""
    label_words: LabelWordSection = LabelWordSection()
    """Other label words."""
    nulls: NullConfig = NullConfig(permutations=100)
    """What the findings are held against."""
    steering: SteerConfig = SteerConfig()
    """Steering."""
    prune: PruneConfig = PruneConfig()
    """Pruning."""
    transfer: TransferConfig = TransferConfig()
    """The guide to transfer."""

    @field_validator("tuning", mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "preset" not in given:
            return given
        own = dict(given)
        if (preset := own.pop("preset")) not in PRESETS:
            raise ValueError(f"preset: a preset is one of {', '.join(PRESETS)}")
        return PRESETS[preset] | own

    @model_validator(mode="after")
    def _together(self) -> StudyConfig:
        if not self.experiments:
            raise ValueError("experiments: name one at least, or leave the line out for all")
        if "experiments" in self.model_fields_set and (lacking := self._lacking()):
            raise ValueError(f"experiments: {', '.join(lacking)} take two tasks at least, stability two trials")
        if self.tuning.prompt != "soft":
            raise ValueError("tuning.prompt: a study tunes its prompts; random and hard ones are in origins")
        if "adapter" in self.experiments and self.perturbation_relative.edit == "baseline":
            raise ValueError("perturbation-relative.edit: baseline is a mean beside a prompt, which adapters lack")
        return self

    @property
    def chosen(self) -> tuple[Experiment, ...]:
        """The experiments that this many tasks and trials allow."""
        return tuple(name for name in self.experiments if name not in self._lacking())

    @property
    def label_word_options(self) -> LabelWordConfig:
        """The options of the comparison of label words."""
        return LabelWordConfig.make(**self.tuning.model_dump() | self.label_words.model_dump())

    def _lacking(self) -> list[Experiment]:
        """The experiments that too few tasks or trials do not allow."""
        alone: tuple[Experiment, ...] = TOGETHER if len(self.tasks) < 2 else ()
        single: tuple[Experiment, ...] = ("stability",) if self.tuning.trials < 2 else ()
        return [name for name in self.experiments if name in (*alone, *single)]


def read_study(file: str | Path, assets: str | Path | None = None) -> StudyConfig:
    """The study in a file, its paths made absolute.

    Raises `SkillNeuronsError` with every mistake, for an unknown name with the nearest known one, and where `{assets}`
    stands for no folder.
    """
    file = Path(file)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkillNeuronsError(f"the study file {file} cannot be read: {error.strerror}. Check the path.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SkillNeuronsError(f"the study file {file} is not valid TOML: {error}. Mend that place.") from None
    try:
        study = StudyConfig(**raw)
    except ValidationError as error:
        raise problems(f"the study file {file} cannot be used", _told(error)) from None
    base, found = file.parent.resolve(), assets or os.environ.get("SKILLNEURONS_ASSETS")
    model = study.model.model_copy(update={"source": placed(study.model.source, base, found)})
    tasks = tuple(placed(task, base, found) for task in study.tasks)
    return study.model_copy(update={"model": model, "tasks": tasks})


def as_file(study: StudyConfig) -> str:
    """What `read_study` reads this study from: a file's text, without what is as it is by default."""
    told = study.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    sections = {name: own for name, own in told.items() if isinstance(own, dict)}
    lines = [_line(name, own) for name, own in told.items() if name not in sections]
    for name, section in sections.items():
        lines += ["", f"[{name}]", *(_line(key, value) for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{name} = {{{', '.join(_line(key, own) for key, own in value.items())}}}"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"  # which TOML reads alike


def placed(source: str, base: Path, assets: str | Path | None = None) -> str:
    """A path from the file's folder or that of the assets; other names as they are."""
    if "{assets}" in source:
        if not assets:
            raise SkillNeuronsError(
                f"{source} lies in a folder of real models and data, and none was named. Give --assets FOLDER, or set "
                "SKILLNEURONS_ASSETS."
            )
        return str(Path(source.replace("{assets}", str(assets))).absolute())
    path = base / Path(source).expanduser()
    known = source in CATALOGUE or source.split("/")[0] == "miniature"
    return str(path) if source.startswith(".") or (path.exists() and not known) else source


def _told(error: ValidationError) -> Iterator[str]:
    """A line for each problem, with the nearest known name for one that is not known."""
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        where = ".".join(place) or "study"
        message = re.sub("^Value error, ", "", problem["msg"])
        if problem["type"] == "extra_forbidden":
            yield f"{where}: {unknown('option', place[-1], _fields(place[:-1]))}"
        elif problem["type"] == "literal_error" and place[0] == "experiments":
            yield f"{where}: {unknown('experiment', str(problem['input']), EXPERIMENTS)}"
        elif problem["type"] == "missing":
            yield f"{where}: is missing"
        elif place and problem["type"] != "value_error":
            yield f"{where}: {message} (given: {problem['input']!r})"
        else:
            yield message


def _fields(place: list[str]) -> list[str]:
    """The names that may stand at a place of the file."""
    form: Any = StudyConfig
    for part in place:
        own = next((field for name, field in form.model_fields.items() if (field.alias or name) == part), None)
        kinds = () if own is None else (own.annotation, *get_args(own.annotation))
        form = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), Config)
    return [field.alias or name for name, field in form.model_fields.items()]
