"""Every experiment on several tasks of one model, side by side, on one page.

    found = gather(model, tasks, config=TuneConfig.preset("quick", trials=3), out="runs/evidence")
    found.page                               # runs/evidence/report.html
    found.verdicts                           # (experiment and task, what came of it in plain words)

What was finished is kept in `out` and not made again: findings in `runs/`, curves in `curves/`, and so on. Pictures are
in `figures/`, a panel a task where an experiment is of one task; tables as CSV in `tables/`.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import SkillNeuronsError
from ..figures import panels, save
from ..files import replacing
from ..finding.agreement import Agreement, stability
from ..finding.find import find
from ..finding.skill import SkillNeurons
from ..models import Backbone
from ..progress import say
from ..tasks import Task
from ..tuning import bitfit
from ..tuning.config import AdapterConfig, BitFitConfig, TuneConfig
from ..tuning.tuned import Method, tune_weights
from .choices import choices
from .config import PerturbConfig, SteerConfig
from .correlation import correlate
from .curves import BOTTOM, RANDOM, SKILL, perturb
from .importance import mean_importance, of_curves
from .label_words import LabelWordConfig, label_words
from .orders import of_run, of_scores
from .origins import origins
from .pooled import pooled
from .result import Evidence
from .selectivity import selectivity
from .steering import steer
from .words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS: dict[str, Method] = {"Adapters (Figure 12)": AdapterConfig(), "BitFit (Figures 7 and 13)": BitFitConfig()}
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1.5rem 0; display: block; overflow-x: auto }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { text-align: right; padding: .2rem .8rem .2rem 0; white-space: nowrap }
th { font-weight: 400; opacity: .7 }
th:first-child, td:first-child { text-align: left }
figure { margin: 2rem 0 } figcaption { margin-bottom: .4rem }
img { max-width: 100%; background: white; border-radius: .3rem }
"""
SPREADS = {"std": 1.0, "relative": True}
"""The noise that stands beside one of the same size for all neurons: each neuron's own spread."""


@dataclass(frozen=True)
class Gathered:
    """Where everything is, and what came of it: `verdicts` has (experiment, in plain words)."""

    page: Path
    verdicts: tuple[tuple[str, str], ...]


@dataclass
class _Section:
    """One experiment on the page: its title, its pictures' names, verdicts by task."""

    title: str
    pictures: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, str]] = field(default_factory=list)


def gather(
    model: Backbone,
    tasks: Sequence[Task],
    *,
    config: TuneConfig,
    perturbing: PerturbConfig | None = None,
    steering: SteerConfig | None = None,
    out: str | Path = "runs/evidence",
) -> Gathered:
    """Find the skill neurons of every task, and run every experiment on them; two tasks at least.

    `config` tunes the prompts, `perturbing` and `steering` are the options of curves and of steering. The same call
    goes on where a killed one stopped. Raises `SkillNeuronsError` for a single task, whose order stands beside none,
    and for two tasks of one name, which would share a folder.
    """
    out = Path(out)
    names = [task.name for task in tasks]
    if len(names) < 2 or len(set(names)) < len(names):
        raise SkillNeuronsError(
            f"two tasks at least stand side by side, each with a name of its own; given: {', '.join(names) or 'none'}."
        )
    perturbing, steering = perturbing or PerturbConfig(), steering or SteerConfig()
    skills = [find(model, task, config=config, out=out / "runs" / task.name) for task in tasks]
    made = _Maker(out)
    for section in _sections(model, skills, perturbing, steering, made):
        say(f"{section.title}: done")
        made.sections.append(section)
    return Gathered(made.publish(model, skills), tuple(made.verdicts()))


def _sections(
    model: Backbone, skills: Sequence[SkillNeurons], perturbing: PerturbConfig, steering: SteerConfig, made: _Maker
) -> Iterator[_Section]:
    names = [skill.about["task"] for skill in skills]
    found: list[Any] = [selectivity(model, skill) for skill in skills]
    scope = perturbing.scope
    others = {name: [of_run(other, own, scope) for other, own in zip(names, skills, strict=True) if other != name]
              for name in names}  # fmt: skip
    by_index = {
        name: [of_scores(order, scores, skill.widths, perturbing.seed, scope) for order, scores in own.orders().items()]
        for name, skill, own in zip(names, skills, found, strict=True)
    }
    noises = {"perturbation": perturbing}
    if perturbing.edit == "noise" and not perturbing.relative:
        noises["perturbation-relative"] = last = PerturbConfig.make(**perturbing.model_dump() | SPREADS)
    elif perturbing.edit == "baseline":  # which other ways of tuning do not have
        last = PerturbConfig.make(**perturbing.model_dump() | SPREADS | {"edit": "noise"})
    else:
        last = perturbing
    for kept, config in noises.items():
        curves = {}
        for name, skill in zip(names, skills, strict=True):
            orders = others[name] + by_index[name]
            curves[name] = perturb(model, skill, orders=orders, config=config, out=made.out / kept / name)
        of = curves[names[0]].about["edit"]
        yield made.side_by_side(
            f"Perturbation, {of} (Figures 4 and 11)", kept, names, list(curves.values()),
            orders=[SKILL, BOTTOM, RANDOM] if perturbing.bottom else [SKILL, RANDOM],
        )  # fmt: skip
        kept = kept.replace("perturbation", "importance")
        yield made.one(f"Neuronal importance, {of} (Figure 6)", kept, of_curves(curves, *skills))
    section = made.side_by_side("Selectivity index (Figure 15)", "selectivity", names, found)
    section.pictures.append(
        made.panels("selectivity-curves", list(curves.values()), orders=[SKILL, *found[0].orders(), RANDOM])
    )
    yield section
    tuned = []
    for title, method in METHODS.items():
        if isinstance(method, BitFitConfig) and not bitfit.suits(model):
            yield _Section(title, verdicts=[("", "The model's layers have no biases: there is nothing to tune.")])
            continue
        curves = {}
        for name, skill in zip(names, skills, strict=True):
            folder = made.out / method.method / name
            own = tune_weights(model, skill.task, method, config=skill.config, out=folder)
            curves[name] = perturb(model, skill, orders=others[name], tuned=own, config=last, out=folder)
        yield made.side_by_side(
            f"{title}, perturbed in the prompts' order", method.method, names, list(curves.values()),
            orders=[SKILL, BOTTOM, RANDOM] if perturbing.bottom else [SKILL, RANDOM],
        )  # fmt: skip
        tuned.append(of_curves(curves, *skills))
    yield made.one(
        "Neuronal importance under other ways of tuning (Figure 8)", "importance-tuned", mean_importance(*tuned)
    )
    correlation = correlate(*skills)
    section = made.one("Rank correlation between tasks (Figure 5)", "correlation", correlation)
    section.pictures.append(made.draw("correlation-layers", correlation.plot_layers()))  # Figure 14
    yield section
    found = [words(model, skill) for skill in skills]
    yield made.side_by_side("Word selectivity (Tables 2 and 6)", "words", names, found)
    once = LabelWordConfig.make(**skills[0].config.model_dump() | {"trials": 1})  # of each set and each seed
    found = [label_words(model, skill.task, config=once, out=made.out / "label-words" / name)
             for name, skill in zip(names, skills, strict=True)]  # fmt: skip
    yield made.side_by_side("Label words (section 4.4)", "label-words", names, found)
    found = [origins(model, skill.task, skill=skill, out=made.out / "origins" / name)
             for name, skill in zip(names, skills, strict=True)]  # fmt: skip
    yield made.side_by_side("Origins (Table 3)", "origins", names, found, size=(8.4, 3.6))
    found = [pooled(model, skill) for skill in skills]
    yield made.side_by_side("Activations pooled over the input (Figures 3 and 9)", "pooled", names, found)
    found = [choices(skill) for skill in skills]
    yield made.side_by_side("Design choices (Figure 10)", "choices", names, found)
    if all(len(skill.scores) > 1 for skill in skills):
        found = [stability(skill) for skill in skills]
        yield made.side_by_side("Agreement of trials", "stability", names, found, size=(7.0, 3.0))
    found = [steer(model, skill, config=steering) for skill in skills]
    yield made.side_by_side("Steering", "steering", names, found)


@dataclass
class _Maker:
    """Pictures, tables and the page, in one folder."""

    out: Path
    sections: list[_Section] = field(default_factory=list)

    def one(self, title: str, name: str, found: Evidence) -> _Section:
        """A section of one result, of all tasks together."""
        found.save(self.out / name)
        self.tabled(name, found.table())
        return _Section(title, [self.draw(name, found.plot())], [("", found.verdict)])

    def side_by_side(
        self,
        title: str,
        name: str,
        tasks: Sequence[str],
        found: Sequence[Evidence | Agreement],
        size: tuple[float, float] = (6.4, 3.6),
        **how: Any,
    ) -> _Section:
        """A section with a panel for every task."""
        section = _Section(title, [self.panels(name, found, size, **how)])
        self.tabled(name, pd.concat([own.table().assign(task=task) for task, own in zip(tasks, found, strict=True)]))
        for task, own in zip(tasks, found, strict=True):
            if isinstance(own, Evidence):  # which agreement of trials is not: it comes with every finding
                own.save(self.out / name / task)
                section.verdicts.append((task, own.verdict))
        return section

    def panels(
        self, name: str, found: Sequence[Evidence | Agreement], size: tuple[float, float] = (6.4, 3.6), **how: Any
    ) -> str:
        """Save a picture with a panel for each of `found`, drawn as `how` says; its name."""
        with panels(len(found), 2, size) as axes:
            for ax, own in zip(axes, found, strict=True):
                own.plot(ax, **how)
        return self.draw(name, axes[0])

    def draw(self, name: str, ax: Axes) -> str:
        """Save a picture; its name."""
        save(ax, self.out / "figures" / name)
        return name

    def tabled(self, name: str, table: pd.DataFrame) -> None:
        """Save a table."""
        folder = self.out / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    def verdicts(self) -> Iterator[tuple[str, str]]:
        """What came of every experiment."""
        for section in self.sections:
            for task, said in section.verdicts:
                yield f"{section.title}{': ' + task if task else ''}", said

    def publish(self, model: Backbone, skills: Sequence[SkillNeurons]) -> Path:
        """Write the page."""
        rows = [
            {
                "task": skill.about["task"], "kind": skill.about["kind"] or "",
                "prompt": f"{100 * sum(own := skill.results['prompt_accuracy']) / len(own):.1f} %",
                "top neuron": f"{100 * (top := skill.results['top_neuron'])['test_accuracy']:.1f} % "
                f"({100 * top['low']:.1f} to {100 * top['high']:.1f})",
                "commonest label": f"{100 * skill.about['majority']:.1f} %",
            }
            for skill in skills
        ]  # fmt: skip
        parts = ["<h2>What was found, on test</h2>", pd.DataFrame(rows).to_html(index=False, border=0)]
        for section in self.sections:
            parts.append(f"<h2>{html.escape(section.title)}</h2>")
            said = [f"<b>{html.escape(task)}</b> {html.escape(text)}".strip() for task, text in section.verdicts]
            parts.append("<ul>" + "".join(f"<li>{one}</li>" for one in said) + "</ul>")
            parts += [
                f'<figure><img src="figures/{name}.svg" alt="{html.escape(section.title)}"></figure>'
                for name in section.pictures
            ]
        title = f"{model.name}: the evidence"
        page = self.out / "report.html"
        with replacing(page) as temporary:
            temporary.write_text(_wrapped(title, "\n".join(parts)), encoding="utf-8")
        return page


def _wrapped(title: str, body: str) -> str:
    """A whole page of a title, as plain text, and a body of HTML."""
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )
