"""The whole of `find` against the plain workflow from end to end, on a real model and real data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.finding.ranking import reduce_trial
from skillneurons.tuning.prompt import initial

from .figure import Row, figure, ratio
from .memory import as_usual
from .plain import Plain, find, score
from .setting import Setting, assets
from .turns import turns

NAME = "find"
TITLE = "The whole of find"
METHOD = """`find` from the texts to the ranking measured on test, with a tenth of the steps and samples of the preset \
`quick`: {steps} steps of batch {batch} beside {positions} positions, five evaluations on dev, scores, ranking, test; \
{train} training, {dev} dev and {test} test samples of SST-2, MiniLM (6 layers of 1 536 neurons) in float32. Ours: \
nothing kept from before, texts are tokenised and the model is fingerprinted in each turn; three trials with \
`--together 3`. Plain workflow: the same steps, samples and evaluations, Eq. 3 to 5 and the prompt's accuracy on test, \
for one trial; three take it three times as long. Then both score one prompt, over {same_train} training and \
{same_dev} dev samples, and Eq. 5 of all neurons is compared. In float32 it differs where an activation is within \
rounding of its baseline, as in GELU's flat tail; float64 tells whether that is all. At most three turns."""
STEPS, EVERY, BATCH, LR, POSITIONS, TRIALS = 50, 10, 16, 3e-3, 32, 3
LIMITS = {"train_limit": 400, "dev_limit": 100, "test_limit": 200}
SAME = {"train": 200, "dev": 100}
NONE = "SKILLNEURONS_ASSETS is not set: the real model and data are not at hand"


def measure(setting: Setting) -> Row:
    """The row."""
    sizes = {limit.removesuffix("_limit"): size for limit, size in LIMITS.items()}
    same = {f"same_{split}": size for split, size in SAME.items()}
    method = METHOD.format(steps=STEPS, batch=BATCH, positions=POSITIONS, **sizes, **same)
    folder = assets()
    if folder is None:
        return Row(NAME, TITLE, method, skipped=NONE)
    place = folder / "models" / "minilm-l6-mlm"
    model = sn.load_model(place, device=setting.device)
    task = sn.load_task(folder / "tasks" / "sst2" / "task.toml").limited(**sizes)
    plain = Plain.of(model, task, POSITIONS)
    options: dict[str, Any] = {
        "positions": POSITIONS, "steps": STEPS, "evaluate_every": EVERY, "batch": BATCH, "lr": LR, **LIMITS
    }  # fmt: skip
    start = initial(model, sn.TuneConfig.make(**options), 0).to(setting.device)
    found: list[sn.SkillNeurons] = []
    works: dict[str, Callable[[], object]] = {
        "plain": as_usual(lambda: find(plain, start.clone(), task, STEPS, EVERY, LR, BATCH)),
        "ours": lambda: found.append(anew(model, task, options | {"trials": 1})),
        "together": lambda: anew(model, task, options | {"trials": TRIALS, "together": TRIALS}),
    }
    seconds = turns(works, min(3, setting.repeats), setting.device, NAME)
    plain_of_all = [TRIALS * own for own in seconds["plain"]]
    figures = [
        ratio("one trial: plain workflow / ours", seconds["plain"], seconds["ours"], "more", asked=3.0),
        ratio("three trials: plain workflow / ours", plain_of_all, seconds["together"], "more", asked=3.0),
    ]
    remarks = []
    for dtype, asked in (("float32", None), ("float64", 0.9999)):
        exact = sn.load_model(place, device=setting.device, dtype=dtype)
        same, told = same_ranking(exact, task.limited(**SAME), found[-1].prompts[0])
        figures.append(
            figure(f"one prompt, {dtype}: rank correlation of plain workflow and ours", [same], "more", asked=asked)
        )
        remarks.append(f"{dtype}: {told}")
    return Row(NAME, TITLE, method, tuple(figures), tuple(remarks))


def anew(model: sn.Backbone, task: sn.Task, options: dict[str, Any]) -> sn.SkillNeurons:
    """`find` with nothing kept from before."""
    kept = os.environ.get("SKILLNEURONS_CACHE", "")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SKILLNEURONS_CACHE"] = folder
        try:
            return sn.find(replace(model), task, **options)
        finally:
            os.environ["SKILLNEURONS_CACHE"] = kept


def same_ranking(model: sn.Backbone, task: sn.Task, prompt: sn.Prompt) -> tuple[float, str]:
    """Spearman's correlation of Eq. 5 over all neurons, the plain workflow's and ours; and what differs."""
    plain = Plain.of(model, task, prompt.positions)
    train, dev = (list(split.rows[task.text[0]]) for split in (task.train, task.dev))
    _, accuracy = score(plain, prompt.embedding.to(model.device), train, dev, task.dev.labels)
    theirs = np.maximum(accuracy, 1 - accuracy).max(1).ravel()
    [scores] = sn.score(model, task, [prompt])
    [ours] = reduce_trial(scores).predictivity
    off = np.rint(np.abs(theirs - ours) * len(dev)).astype(int)
    told = (
        f"{int((off > 0).sum())} of {len(ours)} neurons have another predictivity in the plain workflow"
        f"{f', by at most {int(off.max())} of {len(dev)} dev samples' if off.any() else ''}"
    )
    return float(spearmanr(theirs, ours).statistic), told
