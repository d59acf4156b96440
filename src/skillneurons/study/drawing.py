"""An experiment's tables and figures, made of what its steps gave: CSV and Markdown, SVG and PNG.

    draw(work)                                        # work.step.config: {"experiment": "origins"}
    Section.load(folder)                              # title, tables, figures, verdicts

An output holds `section.json`, `tables/<name>.csv` and `.md`, `figures/<name>.svg` and `.png`. An experiment on single
tasks has a panel for each in one figure, and their tables one below the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..evidence.choices import Choices
from ..evidence.correlation import Correlation
from ..evidence.curves import BOTTOM, RANDOM, SKILL, Curves
from ..evidence.importance import Importance
from ..evidence.label_words import LabelWordSets
from ..evidence.origins import Origins
from ..evidence.pooled import Pooled
from ..evidence.selectivity import INDEX, Selectivity
from ..evidence.steering import Steering
from ..evidence.word_result import Words
from ..figures import panels, save
from ..files import read_json, replacing, write_json
from ..finding.agreement import stability
from ..finding.nulls.result import Nulls
from ..finding.skill import SkillNeurons
from ..pruning.costs import Costs
from ..transferring.result import Transfer
from .published import beside_paper, worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .work import Work

SECTION = "section.json"


@dataclass(frozen=True)
class Section:
    """What came of one experiment: `tables` and `figures` are names of files; `verdicts` has (task or "", sentence)."""

    experiment: str
    title: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    verdicts: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, own: Mapping[str, Any]) -> Section:
        """From plain values."""
        verdicts = tuple((task, said) for task, said in own["verdicts"])
        return cls(own["experiment"], own["title"], tuple(own["tables"]), tuple(own["figures"]), verdicts)

    @classmethod
    def load(cls, folder: Path) -> Section:
        """Read what `draw` wrote."""
        return cls.read(read_json(folder / SECTION, "Run the study again."))


@dataclass(frozen=True)
class Look:
    """How an experiment is shown: its title, how a result is read from its folder, its panels' size and options.

    `together`: one result of all tasks. `more`: further figures, by name, each of one result.
    """

    title: str
    load: Callable[[Path], Any]
    together: bool = False
    size: tuple[float, float] = (6.4, 3.6)
    options: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Callable[[Any], Axes]] = field(default_factory=dict)


ORDERS = {"orders": (SKILL, BOTTOM, RANDOM)}
LOOKS: Mapping[str, Look] = {
    "findings": Look("What was found (Table 1, Figures 3 and 9)", SkillNeurons.load),
    "stability": Look("Agreement of trials", lambda folder: stability(SkillNeurons.load(folder)), size=(7.0, 3.0)),
    "nulls": Look("Beside the nulls", Nulls.load),
    "perturbation": Look("Perturbation (Figures 4 and 11)", Curves.load, options=ORDERS),
    "perturbation-relative": Look(
        "Perturbation by each neuron's own spread (Figures 4 and 11)", Curves.load, options=ORDERS
    ),
    "importance": Look("Neuronal importance (Figure 6)", Importance.load, together=True),
    "importance-relative": Look(
        "Neuronal importance, noise by each neuron's own spread (Figure 6)", Importance.load, together=True
    ),
    "adapter": Look("Adapters, perturbed in the prompts' order (Figure 12)", Curves.load, options=ORDERS),
    "bitfit": Look("BitFit, perturbed in the prompts' order (Figures 7 and 13)", Curves.load, options=ORDERS),
    "importance-tuned": Look(
        "Neuronal importance under other ways of tuning (Figure 8)", Importance.load, together=True
    ),
    "correlation": Look(
        "Rank correlation between tasks (Figures 5 and 14)", Correlation.load, together=True,
        more={"correlation-layers": lambda found: found.plot_layers()},
    ),
    "words": Look("Word selectivity (Tables 2 and 6)", Words.load),
    "label-words": Look("Label words (section 4.4)", LabelWordSets.load),
    "origins": Look("Origins (Table 3)", Origins.load, size=(8.4, 3.6)),
    "pooled": Look("Activations pooled over the input (Figures 3 and 9)", Pooled.load),
    "choices": Look("Design choices (Figure 10)", Choices.load),
    "selectivity": Look("Selectivity index (Figure 15)", Selectivity.load),
    "steering": Look("Steering", Steering.load),
    "prune": Look("Pruning (Table 4)", Costs.load),
    "transfer": Look("Transfer (section 6.2)", Transfer.load, together=True),
}  # fmt: skip
BY_INDEX = {"orders": (SKILL, INDEX, RANDOM)}


def draw(work: Work) -> None:
    """Draw and tabulate one experiment; its inputs are its results, by task or of all together, then curves, if any."""
    name = work.step.config["experiment"]
    look = LOOKS[name]
    labels = [""] if look.together else list(work.step.tasks)
    folders = list(work.inputs.values())
    found = [look.load(folder) for folder in folders[: len(labels)]]
    tables = {name: _joined(labels, [_table(own) for own in found])}
    if not (beside := beside_paper(name, labels, found)).empty:
        tables[f"{name}-paper"] = beside
    for title, table in tables.items():
        write_table(work.out / "tables" / title, table)
    figures = [name, *look.more]
    _panels(work.out, name, found, look.size, look.options)
    for other, picture in look.more.items():
        save(picture(found[0]), work.out / "figures" / other)
    if curves := [Curves.load(folder) for folder in folders[len(labels) :]]:
        figures.append(f"{name}-curves")
        _panels(work.out, figures[-1], curves, look.size, BY_INDEX)
    verdicts = [(task, own.verdict) for task, own in zip(labels, found, strict=True) if hasattr(own, "verdict")]
    write_json(work.out / SECTION, asdict(Section(name, look.title, tuple(tables), tuple(figures), tuple(verdicts))))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `path`.csv with all digits and `path`.md with four."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    for suffix, text in ((".csv", table.to_csv(index=False)), (".md", "\n".join(lines) + "\n")):
        with replacing(path.with_name(path.name + suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _panels(out: Path, name: str, found: Sequence[Any], size: tuple[float, float], options: Mapping[str, Any]) -> None:
    """One result as it draws itself; several as panels of one figure."""
    if len(found) == 1:
        save(found[0].plot(**options), out / "figures" / name)
        return
    with panels(len(found), 2, size) as axes:
        for ax, own in zip(axes, found, strict=True):
            own.plot(ax, **options)
    save(axes[0], out / "figures" / name)


def _table(found: Any) -> pd.DataFrame:
    """A result's table; of a finding, what it is worth on test."""
    return pd.DataFrame([worth(found)]) if isinstance(found, SkillNeurons) else found.table()


def _joined(labels: Sequence[str], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables one below the other, by task where they are of single ones."""
    named = [table if "task" in table or not task else table.assign(task=task)[["task", *table.columns]]
             for task, table in zip(labels, tables, strict=True)]  # fmt: skip
    return pd.DataFrame([row for table in named for row in table.to_dict("records")])


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
