"""What `find` does beyond finding, and the commands that read its run, as a user gives them."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

import skillneurons as sn

from .commands import run
from .families import save_tiny
from .makings import make

OPTIONS = [
    "--trials", "2", "--positions", "3", "--prompt", "random", "--init-std", "0.5", "--quiet", "--out",
]  # fmt: skip
MORE = ["--permutations", "19", "--null", "random-model", "--peers"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A `find` command, all but its folder."""
    folder = tmp_path_factory.mktemp("command")
    make("three").save(folder / "task")
    return ["find", str(save_tiny("bert", folder / "model")), str(folder / "task"), *OPTIONS]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything beside it; to be looked at only."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = run(*words, out, *MORE)
    assert done.status == 0, done.err
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the logs, which may differ."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_screen_begins_with_the_verdict(words: list[str], whole: Path) -> None:
    done = run(*words, whole, *MORE)  # everything is there: it is shown again
    assert done.status == 0, done.err
    shown = " ".join(done.out.split())
    verdict = sn.SkillNeurons.load(whole).nulls
    assert verdict is not None and verdict.verdict in shown
    assert shown.index(verdict.verdict) < shown.index("Top neurons")
    for what in (
        "The top neuron against",
        "shuffled labels",
        "random-weight model",
        "input length",
        "How alike two trials rank the neurons",
    ):
        assert what in shown
    assert shown.count("Why not simply another order") == 4 and "area under ROC" in shown
    assert "report.html" in shown and "figures" in shown


def test_doubts_may_come_later(words: list[str], whole: Path, tmp_path: Path) -> None:
    """A finding that was held against nothing at first ends as one that was asked for everything at once."""
    out = tmp_path / "run"
    assert run(*words, out).status == 0
    first = contents(out)
    nulls = sn.SkillNeurons.load(out).nulls
    assert nulls is not None and {row.null for row in nulls.rows} == {"input length"}
    assert run(*words, out, "--permutations", "19").status == 0
    assert run(*words, out, "--null", "random-model", "--peers").status == 0
    assert contents(out) == contents(whole)
    kept = ("run.json", "neurons.parquet", "test.safetensors", "trial-0.safetensors")
    assert all(first[name] == contents(out)[name] for name in kept)


@pytest.mark.parametrize(
    "stage", ["random-model/run.json", "nulls.json", "peers.json", "figures/pair.svg", "report.html"]
)
def test_killed_beside_the_finding_and_started_again(words: list[str], whole: Path, tmp_path: Path, stage: str) -> None:
    """What was there when a command was killed at a later stage, with a half file beside it."""
    out = shutil.copytree(whole, tmp_path / "run")
    later = {
        "random-model/run.json": ["random-model/run.json", "nulls.json", "nulls.safetensors", "peers.json"],
        "nulls.json": ["nulls.json", "peers.json", "peers.safetensors", "report.html"],
        "peers.json": ["peers.json", "report.html"],
        "figures/pair.svg": ["figures", "report.html"],
        "report.html": ["report.html"],
    }  # fmt: skip
    for name in later[stage]:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.unlink()
    (out / stage).with_name(f".{Path(stage).name}.abcd1234").write_bytes(b"half")
    done = run(*words, out, *MORE)
    assert done.status == 0, done.err
    assert contents(out) == contents(whole)


def test_a_page_shows_every_picture_and_needs_no_network(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    drawn = list((whole / "figures").glob("*.svg"))
    assert len(re.findall("<svg", page)) == len(drawn)
    assert {path.with_suffix(".png") for path in drawn} <= set((whole / "figures").iterdir())
    assert not re.search(r'(src|href)="(https?:)?//', page)
    nulls = sn.SkillNeurons.load(whole).nulls
    assert nulls is not None and html.escape(nulls.verdict) in page


def test_a_notebook_shows_the_verdict(whole: Path) -> None:
    skill = sn.SkillNeurons.load(whole)
    assert skill.nulls is not None and skill.peers is not None
    assert skill.nulls.verdict in " ".join(repr(skill).split())
    assert html.escape(skill.nulls.verdict) in skill._repr_html_() and "Why not simply" in skill._repr_html_()


def test_a_neuron_is_shown(whole: Path) -> None:
    skill = sn.SkillNeurons.load(whole)
    top = skill.results["top_neuron"]
    done = run("neuron", whole, top["layer"], top["neuron"], "--quiet")
    assert done.status == 0, done.err
    assert f"Neuron {top['neuron']} of layer {top['layer']}" in done.out and "Highest" in done.out
    text = skill.task.dev.rows[0]["text"]
    done = run("neuron", whole, top["layer"], top["neuron"], "--quiet", "--text", text)
    assert done.status == 0 and all(word in done.out for word in text.split())


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        (["2", "0"], "has layers 0 to 1; given: layer 2, neuron 0"),
        (["0", "44"], "layer 0 of .* has neurons 0 to 43; given: layer 0, neuron 44"),
        (["0", "0", "--trial", "5"], "trials 0 to 1; given: 5"),
        (["0", "0", "--subtask", "none"], "a subtask of this run is one of"),
        (["0", "0", "--model", "miniature"], "a run is read with the model it was found in"),
        (["0", "0", "--task", "miniature/films"], "are no longer those of this run"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_message(whole: Path, words_: list[str], message: str) -> None:
    done = run("neuron", whole, *words_)
    assert done.status == 2 and done.out == "" and "Traceback" not in done.err
    assert re.search(message, " ".join(done.err.split()))


def test_runs_are_compared_within_one_model(whole: Path, tmp_path: Path) -> None:
    other = shutil.copytree(whole, tmp_path / "other")
    done = run("compare", whole, other)
    assert done.status == 0, done.err
    assert done.out.count("100.0 %") == 4 and "chance, 95 %" in done.out
    done = run("compare", whole, whole / "random-model")
    assert done.status == 2 and "runs are compared within one model" in done.err
    done = run("compare", whole)
    assert done.status == 2 and "at least two runs are compared; given: 1" in done.err


def test_too_few_dev_samples_for_any_significance_are_told(tmp_path: Path) -> None:
    model = save_tiny("bert", tmp_path / "model")
    make("single", dev=8).save(tmp_path / "task")
    done = run("find", model, tmp_path / "task", *OPTIONS, tmp_path / "run")
    assert done.status == 0, done.err
    assert "too small for any significance" in " ".join(done.out.split())
    done = run("find", model, tmp_path / "task", *OPTIONS, tmp_path / "run", "--permutations", "100")
    assert done.status == 2 and "the least p is" in done.err and len(done.err.strip().splitlines()) == 1
    done = run("find", model, tmp_path / "task", *OPTIONS, tmp_path / "run", "--permutations", "5")
    assert done.status == 2 and "permutations: R permutations give no p below" in done.err


def test_options_that_do_not_fit_are_told_at_once() -> None:
    done = run("find", "model", "task", "--positions", "0", "--trials", "-1", "--permutations", "5")
    assert done.status == 2 and "Traceback" not in done.err
    assert "positions: " in done.err and "trials: " in done.err


def test_more_permutations_than_memory_holds(words: list[str], whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    done = run(*words, out, "--permutations", "500", "--memory", "0.0001")
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1
    told = r"500 permutations take .* for layer 0 alone, and 100 kB are allowed\. At most \d+ would fit"
    assert re.search(told, done.err), done.err
    assert contents(out) == contents(whole)


def test_nulls_json_tells_what_was_tried(whole: Path) -> None:
    about = json.loads((whole / "nulls.json").read_text())
    assert (about["permutations"], about["null"]) == (19, "random-model")
    assert [row["null"] for row in about["rows"][:3]] == ["shuffled labels", "random-weight model", "input length"]
