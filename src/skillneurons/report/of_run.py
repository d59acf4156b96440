"""The page of a run: what the first screen says, its pictures, and the experiments that its folder keeps.

    path = publish(skill)                        # RUN/figures/*.svg, *.png, and RUN/report.html

No model is needed. The same run gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import Config
from ..evidence.config import PerturbConfig, SteerConfig
from ..evidence.result import Evidence
from ..evidence.words import WordConfig
from ..figures import save
from ..finding import show
from ..finding.beside import there
from ..finding.nulls.config import NullConfig
from ..finding.pictures import draw
from ..finding.run import Run
from ..finding.skill import SkillNeurons
from ..study.drawing import LOOKS
from .claims import outcome
from .command import command, of_run
from .neurons import Finding, Neurons, words_of
from .page import Figure, Page, Section, Table, write
from .svg import inlined

FIGURES = "figures"
CAPTIONS = {
    "predictivity": "Predictivity of all neurons",
    "layers": "Predictivity by layer",
    "activations": "The top neuron's activations by label, on test",
    "two-neurons": "The two best neurons' activations by label, on test",
    "nulls": "Predictivity of all neurons, with what the nulls produce beside it",
    "trials": "How alike two trials rank the neurons, beside chance",
    "pooled": "Predictivity at prompt positions, and of activations pooled over the input",
    "peers": "The best neuron by each order, on test",
    "learning": "Accuracy on dev as the prompts were tuned",
    "learning-loss": "Loss as the prompts were tuned",
}
PARTS = {
    "neurons": ("The neurons", ("predictivity", "layers", "activations", "two-neurons")),
    "nulls": ("Beside the nulls", ("nulls",)),
    "trials": ("Agreement of trials", ("trials",)),
    "peers": ("Other orders beside", ("pooled", "peers")),
    "tuning": ("How the prompts were tuned", ("learning", "learning-loss")),
}
EXPERIMENTS: Mapping[str, tuple[str, type[Config] | None]] = {
    "perturbation": ("perturb", PerturbConfig), "words": ("words", WordConfig), "steering": ("steer", SteerConfig),
    "pooled": ("pooled", None), "choices": ("choices", None), "selectivity": ("selectivity", None),
}  # fmt: skip
"""The experiments that write into a run's folder, with their command and its options."""


def publish(skill: SkillNeurons) -> Path:
    """Draw the run's pictures and write its page into its folder; returns the page.

    Raises `SkillNeuronsError` where the folder cannot be written.
    """
    assert skill.folder is not None
    about, nulls, named = skill.about, skill.nulls, f"runs/{skill.about['task']}"
    figures = skill.folder / FIGURES
    for left in figures.glob("*"):  # pictures of less than is known now, and halves of some
        if left.name.startswith(".") or _kind(left.stem) in CAPTIONS:
            left.unlink()
    drawn = {path.stem: path for path in draw(skill, figures) if path.suffix == ".svg"}
    tried = None if nulls is None else NullConfig.make(**{key: nulls.about[key] for key in ("permutations", "null")})
    made = of_run(about, named, tried, skill.peers is not None)
    kept = _kept(skill.folder)
    parts = [*_parts(skill, drawn, made), *_experiments(skill, kept, named)]
    words = words_of(kept["words"].table(), about["task"]) if "words" in kept else []
    page = Page(
        f"{about['task']}: skill neurons", show.heading(about), "" if nulls is None else nulls.verdict, _facts(about),
        tuple(show.doubts(about)), (), tuple(_top(skill)), tuple(parts),
        Neurons.of([Finding(about, skill.table())], words), (made,),
    )  # fmt: skip
    path = write(page, skill.folder)
    Run(skill.folder).tidy()
    return path


def _facts(about: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """What stands large at the top."""
    top = about["results"]["top_neuron"]
    of = f" of {top['subtask']}" if len(about["subtasks"]) > 1 else ""
    return (
        (f"top neuron{of}, on test", show.percent(top["test_accuracy"]), show.interval(top)),
        *show.summary(dict(about)),
    )


def _top(skill: SkillNeurons) -> Iterator[Table]:
    """The tables of the first screen that stand above everything."""
    several = len(skill.about["subtasks"]) > 1
    for own in skill.about["subtasks"]:
        title = f"Top neurons, {own['name']}" if several else "Top neurons"
        yield Table(title, show.NEURON_COLUMNS, tuple(show.neuron_rows(skill.about, own["name"], 5)))


def _parts(skill: SkillNeurons, drawn: Mapping[str, Path], made: str) -> Iterator[Section]:
    """What every run has: its pictures with the screen's tables."""
    tables = {name: tuple(_tables(skill, name)) for name in PARTS}
    for name, (title, kinds) in PARTS.items():
        figures = [_figure(path) for kind in kinds for stem, path in drawn.items() if _kind(stem) == kind]
        if figures or tables[name]:
            said = ((("", skill.nulls.verdict, outcome(skill.nulls.verdict)),)
                    if name == "nulls" and skill.nulls is not None else ())  # fmt: skip
            yield Section(name, title, said, tuple(figures), tables[name], (made,))


def _tables(skill: SkillNeurons, name: str) -> Iterator[Table]:
    subtasks = [own["name"] for own in skill.about["subtasks"]]
    for subtask in subtasks:
        of = f", {subtask}" if len(subtasks) > 1 else ""
        if name == "nulls" and skill.nulls is not None:
            title, columns = show.AGAINST
            yield Table(f"{title}{of}", columns, tuple(skill.nulls.lines(subtask)))
        if name == "peers" and skill.peers is not None:
            yield Table(f"{show.WHY_NOT}{of}", show.PEER_COLUMNS, tuple(show.peer_rows(skill.peers, subtask)))
    if name == "trials" and skill.agreement is not None:
        yield Table(*show.ALIKE, tuple(skill.agreement.lines()))


def _kept(folder: Path) -> dict[str, Evidence]:
    """The experiments whose results the folder keeps."""
    found = {}
    for name in EXPERIMENTS:
        load: Any = LOOKS[name].load
        if there(folder, load.__self__.name):
            found[name] = load(folder)
    return found


def _experiments(skill: SkillNeurons, kept: Mapping[str, Evidence], named: str) -> Iterator[Section]:
    for name, found in kept.items():
        assert skill.folder is not None
        look, (word, options) = LOOKS[name], EXPERIMENTS[name]
        svg, _ = save(found.plot(), skill.folder / FIGURES / found.name)
        figure = Figure(look.title, inlined(svg.read_text(encoding="utf-8"), found.name, look.title))
        config = [] if options is None else [options.make(**found.about["config"])]
        made = command(word, named, *config, only=("split", "least") if name == "words" else None)
        said = (("", found.verdict, outcome(found.verdict)),)
        yield Section(name, look.title, said, (figure,), (Table.of(look.title, found.table()),), (made,))


def _figure(path: Path) -> Figure:
    caption = CAPTIONS[_kind(path.stem)]
    return Figure(caption, inlined(path.read_text(encoding="utf-8"), path.stem, caption))


def _kind(stem: str) -> str:
    """Of a picture, whose name a subtask comes after."""
    return re.split(r"-\d+-", stem, maxsplit=1)[0]
