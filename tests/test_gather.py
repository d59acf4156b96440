"""Every experiment on several tasks by one command, and the commands of the single ones on its runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

import skillneurons as sn
from skillneurons.evidence.config import PerturbConfig, SteerConfig
from skillneurons.evidence.gather import gather
from skillneurons.tuning.config import TuneConfig

from .commands import files, run
from .families import save_tiny
from .makings import make

TUNING = ["--trials", "2", "--positions", "3", "--steps", "4", "--lr", "0.05", "--init-std", "0.5"]
EXPERIMENTS = {
    "adapter", "bitfit", "choices", "correlation", "importance", "importance-relative", "importance-tuned",
    "label-words", "origins", "perturbation", "perturbation-relative", "pooled", "selectivity", "stability", "steering",
    "words",
}  # fmt: skip


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path, str]:
    folder = tmp_path_factory.mktemp("gathered")
    words: list[Any] = ["evidence", save_tiny("bert", folder / "model")]
    for form in ("single", "three"):
        make(form, train=30, dev=20, test=20, kind=form).save(folder / form)
        words.append(folder / form / "task.toml")
    words += [
        *TUNING,
        "--perturb.most",
        "0.5",
        "--perturb.step",
        "0.5",
        "--perturb.draws",
        "2",
    ]
    words += ["--steer.doses", "-1", "1", "--steer.draws", "1", "--quiet", "--out", folder / "out"]
    done = run(*words)
    assert done.status == 0, done.err
    return words, folder / "out", done.out


def test_every_experiment_has_picture_table_and_verdict(gathered: tuple[list[Any], Path, str]) -> None:
    _, out, screen = gathered
    assert {path.stem for path in (out / "tables").iterdir()} == EXPERIMENTS
    drawn = {path.stem for path in (out / "figures").glob("*.svg")}
    assert (
        drawn
        == EXPERIMENTS | {"correlation-layers", "selectivity-curves"}
        == {path.stem for path in (out / "figures").glob("*.png")}
    )
    page = (out / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'src="figures/([\w-]+)\.svg"', page)) == drawn
    for name in EXPERIMENTS:
        with (out / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) > 0
    for title in ("Perturbation", "Neuronal importance", "Rank correlation", "Origins", "BitFit", "Steering"):
        assert title in screen and title in page
    assert len(re.findall(r"(Holds|Does not hold|Cannot be told|No claim)", screen)) >= len(EXPERIMENTS) - 2


def test_a_second_time_gives_the_same(gathered: tuple[list[Any], Path, str]) -> None:
    words, out, screen = gathered
    before = files(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    done = run(*words)
    assert done.status == 0 and done.out == screen
    assert files(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == times  # found once


@pytest.mark.parametrize(
    ("command", "options", "name"),
    [("perturb", ["--others", "three", "--most", "0.5", "--step", "0.5", "--draws", "1"], "curves"),
     ("steer", ["--doses", "-1", "1", "--draws", "1"], "steering"), ("words", ["--least", "2"], "words"),
     ("pooled", [], "pooled"), ("choices", [], "choices"), ("selectivity", ["--tokens", "input"], "selectivity")],
)  # fmt: skip
def test_the_commands_read_a_run(
    gathered: tuple[list[Any], Path, str], command: str, options: list[str], name: str
) -> None:
    runs = gathered[1] / "runs"
    given = [str(runs / "three") if word == "three" else word for word in options]
    done = run(command, runs / "single", *given, "--quiet")
    assert done.status == 0, done.err
    assert "single" in done.out and (runs / "single" / f"{name}.json").exists()
    assert (runs / "single/figures" / f"{name}.svg").exists()


@pytest.mark.parametrize(
    ("command", "options", "names"),
    [("correlate", [], ("correlation", "correlation-layers")),
     ("importance", ["--most", "0.5", "--step", "0.5", "--draws", "1", "--by", "bitfit"], ("importance",))],
)  # fmt: skip
def test_the_commands_read_several_runs(
    gathered: tuple[list[Any], Path, str], tmp_path: Path, command: str, options: list[str], names: tuple[str, ...]
) -> None:
    runs = gathered[1] / "runs"
    done = run(command, runs / "single", runs / "three", *options, "--quiet", "--out", tmp_path)
    assert done.status == 0, done.err
    assert "single" in done.out and "three" in done.out and (tmp_path / f"{names[0]}.json").exists()
    assert all((tmp_path / "figures" / f"{name}.svg").exists() for name in names)


def test_adapters_answer_in_the_prompts_place(gathered: tuple[list[Any], Path, str]) -> None:
    folder = gathered[1] / "runs" / "single"
    done = run("perturb", folder, "--by", "adapter", "--most", "0.5", "--step", "0.5", "--draws", "1", "--quiet")
    assert done.status == 0, done.err
    assert sn.Curves.load(folder / "adapter").about["by"] == "adapter"


def test_label_words_by_a_command(gathered: tuple[list[Any], Path, str], tmp_path: Path) -> None:
    words, _, _ = gathered
    done = run("label-words", *words[1:3], *TUNING[2:], "--trials", "1", "--sets", "2", "--seeds", "2", "--quiet",
               "--out", tmp_path)  # fmt: skip
    assert done.status == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} >= {"words-1", "words-2", "seed-1", "seed-2", "label_words.json"}


def test_one_task_is_too_few(tmp_path: Path) -> None:
    model = sn.load_model(save_tiny("bert", tmp_path / "model"))
    options: dict[str, Any] = {
        "config": TuneConfig.make(steps=2), "perturbing": PerturbConfig(), "steering": SteerConfig()
    }  # fmt: skip
    with pytest.raises(sn.SkillNeuronsError, match=r"two tasks at least stand side by side.*given: single"):
        gather(model, [make("single")], out=tmp_path / "out", **options)
    with pytest.raises(sn.SkillNeuronsError, match="given: single, single"):
        gather(model, [make("single"), make("single")], out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
