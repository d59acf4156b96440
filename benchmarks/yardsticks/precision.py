"""What bf16 does to a ranking: the same prompts scored in float32 and in bf16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.finding.ranking import TrialBest, rank, reduce_trial

from .figure import Figure, Row, figure
from .setting import Setting, assets
from .whole import NONE

NAME = "bf16"
TITLE = "The ranking in bf16"
METHOD = """Two prompts of 127 positions, tuned in float32 for {steps} steps on SST-2, MiniLM; scored in float32 and \
in bf16 over {train} training and {dev} dev samples. Neurons are ranked by Eq. 6. Beside it, what another prompt does: \
one trial against the other, both in float32. Overlap: the share of the top neurons that both have."""
STEPS = 60
LIMITS = {"train_limit": 1000, "dev_limit": 1000}


def measure(setting: Setting) -> Row:
    """The row."""
    sizes = {limit.removesuffix("_limit"): size for limit, size in LIMITS.items()}
    method = METHOD.format(steps=STEPS, **sizes)
    folder = assets()
    if folder is None or setting.no_bf16:
        return Row(NAME, TITLE, method, skipped=NONE if folder is None else setting.no_bf16)
    place = folder / "models" / "minilm-l6-mlm"
    task = sn.load_task(folder / "tasks" / "sst2" / "task.toml").limited(**sizes)
    model = sn.load_model(place, device=setting.device)
    options: dict[str, Any] = {"trials": 2, "steps": STEPS, "evaluate_every": STEPS, "lr": 3e-3}
    prompts = sn.tune(model, task, **options)
    exact = trials(model, task, prompts)
    rounded = trials(sn.load_model(place, device=setting.device, dtype="bfloat16"), task, prompts)
    figures = [
        *alike("float32 and bf16, the same prompts", exact, rounded, model.widths),
        *alike("one prompt and another, float32", exact[:1], exact[1:], model.widths),
    ]
    return Row(NAME, TITLE, method, tuple(figures))


def trials(model: sn.Backbone, task: sn.Task, prompts: Sequence[sn.Prompt]) -> list[TrialBest]:
    """What a ranking is made of."""
    return [reduce_trial(scores) for scores in sn.score(model, task, prompts)]


def alike(what: str, one: Sequence[TrialBest], other: Sequence[TrialBest], widths: Sequence[int]) -> list[Figure]:
    """How alike two rankings of the same neurons are."""
    tables = [
        rank(own, widths, ["sst2"], "sst2", seed=0).to_pandas().set_index(["layer", "neuron"]) for own in (one, other)
    ]
    first, second = (own.sort_index() for own in tables)
    correlation = float(spearmanr(first["predictivity"], second["predictivity"]).statistic)
    found = [figure(f"{what}: rank correlation", [correlation], "more")]
    for label, top in (("10", 10), ("1 %", round(0.01 * len(first)))):
        both = int(((first["rank"] <= top) & (second["rank"] <= top)).sum())
        found.append(figure(f"{what}: overlap of the top {label}", [both / top], "more"))
    return found
