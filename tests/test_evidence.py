"""Every experiment on several tasks by one command, and the commands of the single ones on its runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import skillneurons as sn
from skillneurons.cli.study import Everything
from skillneurons.evidence.config import PerturbConfig, SteerConfig
from skillneurons.study.config import EVIDENCE, read_study
from skillneurons.tuning.config import TuneConfig

from .commands import files, run
from .families import save_tiny
from .makings import make

TUNING = ["--trials", "2", "--positions", "3", "--steps", "4", "--lr", "0.05", "--init-std", "0.5"]
FEW = ["--perturb.most", "0.5", "--perturb.step", "0.5", "--perturb.draws", "2", "--steer.doses", "-1", "1",
       "--steer.draws", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two tasks, and a run of each."""
    folder = tmp_path_factory.mktemp("places")
    save_tiny("bert", folder / "model")
    for form in ("single", "three"):
        make(form, train=30, dev=20, test=20, kind=form).save(folder / form)
        done = run("find", folder / "model", folder / form, *TUNING, "--quiet", "--out", folder / "runs" / form)
        assert done.status == 0, done.err
    return folder


def test_every_experiment_by_one_command(places: Path) -> None:
    out = places / "everything"
    words: list[str | Path] = ["evidence", places / "model", places / "single", places / "three"]
    words += [*TUNING, *FEW, "--quiet", "--out", out]
    first = run(*words)
    assert first.status == 0, first.err
    drawn = {*EVIDENCE, "findings", "correlation-layers", "selectivity-curves"}
    assert {path.stem for path in (out / "figures").glob("*.svg")} == drawn
    for name in EVIDENCE:
        with (out / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("Perturbation", "Neuronal importance", "Rank correlation", "Origins", "BitFit", "Steering"):
        assert title in page
    before = files(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "store/steps").iterdir()}
    again = run(*words)
    assert again.status == 0 and again.out == first.out and files(out) == before
    assert {path: path.stat().st_mtime_ns for path in (out / "store/steps").iterdir()} == times  # done once
    study = read_study(out / "study.toml")
    assert study == Everything(
        model=str(places / "model"), tasks=(str(places / "single"), str(places / "three")), out=out,
        config=TuneConfig(trials=2, positions=3, steps=4, lr=0.05, init_std=0.5),
        perturb=PerturbConfig(most=0.5, step=0.5, draws=2), steer=SteerConfig(doses=(-1.0, 1.0), draws=1),
    ).study()  # fmt: skip
    assert study.perturbation_relative == PerturbConfig(most=0.5, step=0.5, draws=2, std=1.0, relative=True)


def test_what_the_options_leave_out() -> None:
    tasks = ("miniature/films", "miniature/news")
    spreads = Everything("miniature", tasks, perturb=PerturbConfig(relative=True, std=0.5)).study()
    assert set(EVIDENCE) - set(spreads.experiments) == {"perturbation", "importance"}
    assert spreads.perturbation_relative.std == 0.5
    single = Everything("miniature", ("miniature",), config=TuneConfig(trials=1)).study()
    assert set(EVIDENCE) - set(single.experiments) == {"stability"} and len(single.tasks) == 7


def test_one_task_is_too_few(tmp_path: Path) -> None:
    done = run("evidence", "miniature", "miniature/films", "--out", tmp_path / "out")
    assert done.status == 2 and "take two tasks at least" in done.err
    done = run("evidence", "miniature", "miniature/films", "miniature/films", "--out", tmp_path / "out")
    assert done.status == 2 and "given twice: films" in done.err


@pytest.mark.parametrize(
    ("command", "options", "name"),
    [("perturb", ["--others", "three", "--most", "0.5", "--step", "0.5", "--draws", "1"], "curves"),
     ("steer", ["--doses", "-1", "1", "--draws", "1"], "steering"), ("words", ["--least", "2"], "words"),
     ("pooled", [], "pooled"), ("choices", [], "choices"), ("selectivity", ["--tokens", "input"], "selectivity")],
)  # fmt: skip
def test_the_commands_read_a_run(places: Path, command: str, options: list[str], name: str) -> None:
    runs = places / "runs"
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
    places: Path, tmp_path: Path, command: str, options: list[str], names: tuple[str, ...]
) -> None:
    runs = places / "runs"
    done = run(command, runs / "single", runs / "three", *options, "--quiet", "--out", tmp_path)
    assert done.status == 0, done.err
    assert "single" in done.out and "three" in done.out and (tmp_path / f"{names[0]}.json").exists()
    assert all((tmp_path / "figures" / f"{name}.svg").exists() for name in names)


def test_adapters_answer_in_the_prompts_place(places: Path) -> None:
    folder = places / "runs" / "single"
    done = run("perturb", folder, "--by", "adapter", "--most", "0.5", "--step", "0.5", "--draws", "1", "--quiet")
    assert done.status == 0, done.err
    assert sn.Curves.load(folder / "adapter").about["by"] == "adapter"


def test_label_words_by_a_command(places: Path, tmp_path: Path) -> None:
    done = run("label-words", places / "model", places / "single", *TUNING[2:], "--trials", "1", "--sets", "2",
               "--seeds", "2", "--quiet", "--out", tmp_path)  # fmt: skip
    assert done.status == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} >= {"words-1", "words-2", "seed-1", "seed-2", "label_words.json"}
