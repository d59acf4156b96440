"""A run's page: every picture stands on it once, under what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import skillneurons as sn
from skillneurons.finding.page import publish

from .families import tiny
from .makings import make

SUBTASKS = [
    {"name": "5-star", "positive": ["positive"], "negative": ["negative", "neutral"]},
    {"name": "layers-2-trials", "positive": ["neutral"], "negative": ["negative", "positive"]},
]


def test_every_picture_has_its_caption_whatever_the_subtasks_are_called(tmp_path: Path) -> None:
    model, tokenizer = tiny("bert")
    task = make("three", subtasks=SUBTASKS)
    skill = sn.find(
        sn.load_model(model, tokenizer=tokenizer), task, trials=2, positions=3, prompt="random", out=tmp_path
    )
    page = publish(skill).read_text(encoding="utf-8")
    shown = re.findall(r"<figcaption>(.*?)</figcaption><img src=\"figures/(.*?)\.svg\" alt=\"(.*?)\">", page)
    ends = ("1-5-star", "2-layers-2-trials")
    several = {
        "predictivity": "Predictivity of all neurons",
        "layers": "Predictivity by layer",
        "activations": "The top neuron's activations by label, on test",
    }
    expected = {f"{kind}-{end}": caption for end in ends for kind, caption in several.items()} | {
        "two-neurons": "The two best neurons' activations by label, on test",
        "trials": "How alike two trials rank the neurons, beside chance",
    }
    assert {name: caption for caption, name, _ in shown} == expected and len(shown) == len(expected)
    assert all(caption == alternative for caption, _, alternative in shown)
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == set(expected)
