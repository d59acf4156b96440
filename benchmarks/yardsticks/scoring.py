"""The scoring pass: against the plain workflow, and against the bare encoder over the same batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import skillneurons as sn
from skillneurons.finding.score import score_trial
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import initial

from .figure import Figure, Row, ratio
from .memory import as_usual
from .plain import Plain, score
from .setting import Setting
from .shape import LENGTHS, POSITIONS, backbone, task
from .tuning import name
from .turns import turns

NAME = "scoring"
METHOD = """One trial's scores: a pass over {train} training samples for the baselines and one over {dev} dev samples \
for the accuracies (at 28 tokens; a sixth of them at 300), with what comes before and after the passes; texts are \
tokenised beforehand for ours. Plain workflow: in float32, one subtask, over {share} samples. Bare encoder: \
the library's encoder forward over the very batches, embeddings there, nothing read. Two subtasks: three labels. \
Times are of one sample."""
PLAIN = {torch.float32: 1.6, torch.bfloat16: 3.0}
BARE = {torch.float32: 1.05, torch.bfloat16: 1.10}
PLAIN_GPU, BARE_GPU = {torch.bfloat16: 10.0}, {torch.bfloat16: 1.10}


def measure(setting: Setting) -> Row:
    """The row."""
    train, dev, share = sizes(setting)
    figures = [figure for tokens in LENGTHS for figure in at(setting, tokens)]
    told = "the same" if share == 1 else f"one in {share} of these"
    return Row(
        NAME, "The scoring pass", METHOD.format(train=train, dev=dev, share=told), tuple(figures), setting.remarks
    )


def sizes(setting: Setting) -> tuple[int, int, int]:
    """Samples of train and of dev, and of how many the plain workflow scores one."""
    return (6000, 1500, 50) if setting.gpu else (312, 156, 6)


def at(setting: Setting, tokens: int) -> list[Figure]:
    """The figures at one length."""
    *whole, share = sizes(setting)
    train, dev = (size if tokens == LENGTHS[0] else size // 6 for size in whole)
    models = {dtype: backbone(setting.shape, dtype, setting.device) for dtype in setting.dtypes}
    embedding = initial(models[torch.float32], sn.TuneConfig.make(positions=POSITIONS), 0)
    prompt = sn.Prompt(embedding, "random", 0, 0.5, 0.5, dev)
    tasks = {count: task(models[torch.float32], tokens, train, dev, count) for count in (1, 2)}
    works: dict[str, Callable[[], object]] = {}
    few = task(models[torch.float32], tokens, train // share, dev // share)
    works["plain"] = as_usual(plain_pass(models[torch.float32], few, prompt))
    for dtype, model in models.items():
        for count, own in tasks.items():
            works[f"ours {dtype} {count}"] = our_pass(Inputs(model, own, POSITIONS), prompt)
        works[f"bare {dtype}"] = bare_pass(Inputs(model, tasks[1], POSITIONS), prompt)
    seconds = turns(works, setting.repeats, setting.device, f"{NAME}, {tokens} tokens")
    plain = [share * own for own in seconds["plain"]]
    figures = []
    for dtype in models:
        ours, bare = {count: seconds[f"ours {dtype} {count}"] for count in tasks}, seconds[f"bare {dtype}"]
        asked = (PLAIN_GPU, BARE_GPU) if setting.gpu else (PLAIN, BARE)
        over_plain, over_bare = (own.get(dtype) if tokens == LENGTHS[0] else None for own in asked)
        figures += [
            ratio(name(tokens, dtype, "plain workflow / ours"), plain, ours[1], "more", over_plain),
            ratio(name(tokens, dtype, "ours / bare encoder"), ours[1], bare, "less", over_bare),
            ratio(name(tokens, dtype, "ours, two subtasks / bare encoder"), ours[2], bare, "less", over_bare),
        ]
    return [replace(own, seconds=tuple(value / (train + dev) for value in own.seconds)) for own in figures]


def plain_pass(model: sn.Backbone, task: sn.Task, prompt: sn.Prompt) -> Callable[[], object]:
    """The plain workflow's scores."""
    plain = Plain.of(model, task, POSITIONS)
    train, dev = list(task.train.rows["text"]), list(task.dev.rows["text"])
    return lambda: score(plain, prompt.embedding.to(model.device), train, dev, task.dev.labels)


def our_pass(inputs: Inputs, prompt: sn.Prompt) -> Callable[[], object]:
    """The package's scores."""
    return lambda: score_trial(inputs, prompt)


def bare_pass(inputs: Inputs, prompt: sn.Prompt) -> Callable[[], object]:
    """The encoder over the batches of both splits."""
    stack: Any = inputs.backbone.stack
    soft = prompt.embedding.to(inputs.backbone.device)
    batches = [inputs.batch(split, chosen, soft) for split in ("train", "dev") for chosen in inputs.by_length(split)]

    @torch.no_grad()
    def work() -> None:
        for batch in batches:
            stack(inputs_embeds=batch.embeddings, attention_mask=batch.attention)

    return work
