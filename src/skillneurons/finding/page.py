"""A run's page: what the first screen says, and its pictures, to be opened from disk.

publish(skill)        # RUN/figures/*.svg, *.png, and RUN/report.html
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from .pictures import draw
from .run import Run
from .show import as_html

if TYPE_CHECKING:
    from .skill import SkillNeurons

PAGE = "report.html"
FIGURES = "figures"
_CAPTIONS = {
    "predictivity": "Predictivity of all neurons",
    "nulls": "Predictivity of all neurons, with what the nulls produce beside it",
    "pooled": "Predictivity at prompt positions, and of activations pooled over the input",
    "layers": "Predictivity by layer",
    "activations": "The top neuron's activations by label, on test",
    "two-neurons": "The two best neurons' activations by label, on test",
    "trials": "How alike two trials rank the neurons, beside chance",
    "peers": "The best neuron by each order, on test",
    "learning": "Accuracy on dev as the prompts were tuned",
    "learning-loss": "Loss as the prompts were tuned",
}
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


def publish(skill: SkillNeurons) -> Path:
    """Draw the run's pictures and write its page into its folder; returns the page. The same run, the same bytes."""
    assert skill.folder is not None
    shutil.rmtree(skill.folder / FIGURES, ignore_errors=True)  # pictures of less than is known now, and halves of some
    drawn = [path for path in draw(skill, skill.folder / FIGURES) if path.suffix == ".svg"]
    title = f"{skill.about['task']}: skill neurons"
    told = as_html(skill.about, skill.nulls, skill.agreement, skill.peers)
    figures = "\n".join(_figure(path) for path in drawn)
    page = skill.folder / PAGE
    with replacing(page) as temporary:
        temporary.write_text(wrapped(title, f"{told}\n{figures}"), encoding="utf-8")
    Run(skill.folder).tidy()
    return page


def wrapped(title: str, body: str) -> str:
    """A whole page of a title, as plain text, and a body of HTML."""
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _figure(path: Path) -> str:
    caption = _CAPTIONS[re.split(r"-\d+-", path.stem, maxsplit=1)[0]]  # a subtask, which the picture names, comes after
    return f'<figure><figcaption>{caption}</figcaption><img src="{FIGURES}/{path.name}" alt="{caption}"></figure>'
