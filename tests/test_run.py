"""A run's directory: what is promised of it, coming back from it, and what it says when something is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import skillneurons as sn

from .commands import files, run
from .families import FAMILIES, save_tiny, tiny
from .makings import Form, make

OPTIONS: dict[str, Any] = {
    "trials": 2, "positions": 3, "steps": 4, "evaluate_every": 2, "lr": 0.05, "init_std": 0.5,
}  # fmt: skip
WORDS = [word for key, value in OPTIONS.items() for word in (f"--{key.replace('_', '-')}", str(value))] + ["--quiet"]


def backbone(name: str = "bert", seed: int = 0) -> sn.Backbone:
    model, tokenizer = tiny(name, seed)
    return sn.load_model(model, tokenizer=tokenizer)


def finding(out: Path, form: Form = "single", name: str = "bert", **options: Any) -> sn.SkillNeurons:
    return sn.find(backbone(name), make(form), out=out, **OPTIONS | options)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two labels; to be looked at only."""
    out = tmp_path_factory.mktemp("runs") / "binary"
    finding(out)
    return out


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three labels and four subtasks; to be looked at only."""
    out = tmp_path_factory.mktemp("runs") / "several"
    finding(out, "three", "t5")
    return out


@pytest.fixture
def broken(binary: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be broken."""
    return shutil.copytree(binary, tmp_path / "run")


def strictly(text: str) -> Any:
    """JSON as the standard has it: no NaN, no infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(("form", "name"), [("single", "bert"), ("three", "t5")])
def test_trial_files_hold_what_is_promised(form: Form, name: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue("binary" if form == "single" else "several")
    subtasks, family = (1 if form == "single" else 4), FAMILIES[name]
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"prompt": ((3, 24), torch.float32)}
    for layer in range(family.layers):
        expected |= {
            f"mean.{layer}": ((5, family.width), torch.float32),
            f"baseline.{layer}": ((subtasks, 3, family.width), torch.float32),
            f"accuracy.{layer}": ((subtasks, 3, family.width), torch.float32),
            f"fired.{layer}": ((subtasks, 2, 3, family.width), torch.int32),
        }
    about = strictly((out / "run.json").read_text())
    for trial in range(2):
        tensors = load_file(out / f"trial-{trial}.safetensors")
        assert {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()} == expected
        for layer in range(family.layers):
            fired = tensors[f"fired.{layer}"]
            assert (fired >= 0).all() and (fired <= torch.tensor(about["totals"])[:, :, None, None]).all()


@pytest.mark.parametrize("form", ["single", "three"])
def test_run_json_holds_what_is_promised(form: Form, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue("binary" if form == "single" else "several")
    about, task = strictly((out / "run.json").read_text()), make(form)
    assert about["task"] == form and about["trials"] == 2 and about["positions"] == 3
    assert about["labels"] == list(task.labels) and about["majority"] == task.majority("test")
    assert about["sizes"] == dict(task.sizes) and about["seeds"] == {"trials": 0, "split": 0}
    assert about["layers"] == [44] * len(about["layers"])
    assert {key: about["config"][key] for key in OPTIONS} == OPTIONS
    assert set(about["fingerprints"]) == {"model", "data", "split", "code"}
    assert about["fingerprints"]["data"] == task.fingerprint
    assert [own["name"] for own in about["subtasks"]] == [own.name for own in task.subtasks]
    for index, subtask in enumerate(task.subtasks):
        names = [task.labels[label] for label in task.dev.labels]
        sides = (subtask.negative, subtask.positive)
        assert about["totals"][index] == [sum(name in side for name in names) for side in sides]
    results = about["results"]
    assert len(results["prompt_accuracy"]) == 2 and all(0 <= own <= 1 for own in results["prompt_accuracy"])
    top = results["top_neuron"]
    assert {"subtask", "layer", "neuron", "predictivity", "test_accuracy", "low", "high"} <= set(top)
    assert ("neurons_accuracy" in results) == (form == "three")
    assert {"seconds", "environment"} <= set(strictly((out / "log.json").read_text()))
    assert not {"seconds", "environment", "threads"} & set(about)
    assert [own["accuracy"] for own in about["tuning"]] == [
        prompt.accuracy for prompt in sn.SkillNeurons.load(out).prompts
    ]


@pytest.mark.parametrize("form", ["single", "three"])
def test_the_rankings_file_holds_what_is_promised(form: Form, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue("binary" if form == "single" else "several")
    table = pq.read_table(out / "neurons.parquet")
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "subtask": pa.string(), "layer": pa.int32(), "neuron": pa.int32(), "predictivity": pa.float64(),
        "std": pa.float64(), "p_value": pa.float64(), "q_value": pa.float64(), "rank": pa.int32(),
        "position": pa.list_(pa.int32()), "sign": pa.list_(pa.int32()),
    }  # fmt: skip
    frame = table.to_pandas()
    neurons = 88 if form == "single" else 132
    names = ["single"] if form == "single" else ["good-rest", "good-bad", "neutral-rest", "bad-neutral", "three"]
    assert frame["subtask"].tolist() == [name for name in names for _ in range(neurons)]
    assert frame["rank"].tolist() == [*range(1, neurons + 1)] * len(names)
    assert {len(own) for column in ("position", "sign") for own in frame[column]} == {2}
    assert set(np.concatenate(frame["sign"].to_list())) == {-1, 1}
    assert set(np.concatenate(frame["position"].to_list())) <= {0, 1, 2}
    assert frame["p_value"].between(0, 1).all() and (frame["q_value"] >= frame["p_value"]).all()


IN_A_PROCESS = """
import hashlib, json, sys
import skillneurons as sn
skill = sn.SkillNeurons.load(sys.argv[1])
state = hashlib.sha256(skill.table().to_json().encode())
for prompt, scores in zip(skill.prompts, skill.scores):
    state.update(prompt.embedding.numpy().tobytes())
    for layer in range(scores.layers):
        for tensor in (scores.mean, scores.baseline, scores.accuracy, scores.fired):
            state.update(tensor(layer).numpy().tobytes())
print(json.dumps([
    state.hexdigest(), list(skill.top(7)), list(skill.bottom(fraction=0.1, scope="layer")), list(skill.random(3)),
    skill.results, [prompt.record() for prompt in skill.prompts], skill.task.fingerprint, repr(skill),
]))
"""


def test_a_fresh_process_finds_everything_as_it_was(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = subprocess.run([sys.executable, "-c", IN_A_PROCESS, several], capture_output=True, check=True, text=True)
    given, sys.argv = sys.argv, ["", str(several)]
    try:
        exec(IN_A_PROCESS, {})
    finally:
        sys.argv = given
    assert fresh.stdout == capsys.readouterr().out and len(fresh.stdout) > 1000


def test_saved_is_the_same_as_written_on_the_way(binary: Path, tmp_path: Path) -> None:
    skill = sn.find(backbone(), make("single"), **OPTIONS)
    skill.save(tmp_path / "saved")
    assert files(tmp_path / "saved") == files(binary)
    again = sn.SkillNeurons.load(tmp_path / "saved")
    again.save(tmp_path / "copied")  # with the task, which came from memory
    assert files(tmp_path / "copied") == files(binary) and "task/task.toml" in files(binary)
    shutil.rmtree(tmp_path / "saved")
    assert sn.SkillNeurons.load(tmp_path / "copied").task == make("single")
    assert again.log == sn.SkillNeurons.load(tmp_path / "copied").log


@pytest.mark.parametrize("form", ["single", "pair", "three"])
def test_a_task_from_memory_comes_back_with_its_run(form: Form, tmp_path: Path) -> None:
    task = make(form, kind="mood", prompts=["it is"])
    skill = sn.find(backbone("gpt2"), task, out=tmp_path, train_limit=50, **OPTIONS)
    loaded = sn.SkillNeurons.load(tmp_path)
    for found in (skill.task, loaded.task):
        assert found == task.limited(train=50) and found.kind == "mood" and found.prompts == ("it is",)
    for prompt, results in zip(loaded.prompts, loaded.results["prompt_accuracy"], strict=True):
        assert sn.evaluate(backbone("gpt2"), loaded.task, prompt).accuracy == results


def test_a_task_from_a_file_is_loaded_from_there_and_checked(tmp_path: Path) -> None:
    make("single").save(tmp_path / "task")
    skill = sn.find(backbone(), sn.load_task(tmp_path / "task"), out=tmp_path / "run", dev_limit=30, **OPTIONS)
    assert not (tmp_path / "run/task").exists()
    assert skill.about["source"]["task"] == str((tmp_path / "task/task.toml").resolve())
    assert sn.SkillNeurons.load(tmp_path / "run").task == make("single").limited(dev=30)
    make("single", seed=1).save(tmp_path / "task")
    with pytest.raises(sn.SkillNeuronsError, match=r"task single .*task\.toml. are no longer those of this run"):
        _ = sn.SkillNeurons.load(tmp_path / "run").task


def test_scores_are_read_wherever_one_has_gone_since(
    binary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(binary.parent)
    skill = sn.SkillNeurons.load(binary.name)
    monkeypatch.chdir(tmp_path)
    assert skill.scores[1].accuracy(0).shape == (1, 3, 44) and skill.task == make("single")
    with pytest.raises(KeyError):
        skill.scores[0].accuracy(2)
    assert len(skill.scores[0].tensors) == 9 and "fired.1" in [*skill.scores[0].tensors]


def test_nothing_is_pickled_and_nothing_else_is_there(binary: Path) -> None:
    names = [path.relative_to(binary).as_posix() for path in binary.rglob("*") if path.is_file()]
    assert sorted(names) == [
        "log.json", "neurons.parquet", "run.json", "task/dev.parquet", "task/task.toml", "task/test.parquet",
        "task/train.parquet", "test.safetensors", "trial-0.safetensors", "trial-1.safetensors",
    ]  # fmt: skip


def damage(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    about = json.loads(path.read_text())
    path.write_text(json.dumps(change(about) or about))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def of_another_format(path: Path) -> None:
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["skillneurons"])
    save_file(load_file(path), path, {"skillneurons": json.dumps(about | {"format": 99})})


def into_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


BREAKAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("run.json", Path.unlink, r"there is no .*run\.json"),
    ("run.json", lambda path: path.write_text("{"), r"run\.json cannot be read as JSON"),
    ("run.json", lambda path: path.write_bytes(b"\xff\xfe"), r"run\.json cannot be read as JSON"),
    ("run.json", lambda path: path.write_text("[]"), r"run\.json was not written by skillneurons"),
    ("run.json", lambda path: path.write_text('{"config": 1}'), r"run\.json was not written by skillneurons"),
    ("run.json", lambda path: damage(path, lambda about: about | {"format": 99}), "format 99, .* reads format 1"),
    ("run.json", lambda path: damage(path, lambda about: about.pop("results") and None), "not whole"),
    ("neurons.parquet", Path.unlink, r"neurons\.parquet cannot be read"),
    ("neurons.parquet", truncate, r"neurons\.parquet cannot be read"),
    ("neurons.parquet", lambda path: path.write_text("rank"), r"neurons\.parquet cannot be read"),
    ("trial-1.safetensors", Path.unlink, r"lacks trial-1\.safetensors"),
    ("test.safetensors", Path.unlink, r"test\.safetensors is missing"),
    ("test.safetensors", truncate, r"test\.safetensors is truncated"),
    ("test.safetensors", without_metadata, r"test\.safetensors is truncated, or not what this run wrote"),
    ("trial-0.safetensors", truncate, r"trial-0\.safetensors is truncated, or not what this run wrote"),
    ("trial-0.safetensors", lambda path: path.write_bytes(b""), r"trial-0\.safetensors is truncated"),
    ("trial-0.safetensors", lambda path: path.write_text("not a tensor in it"), r"not what this run wrote"),
    ("trial-0.safetensors", without_metadata, r"trial-0\.safetensors is truncated, or not what this run wrote"),
    ("trial-0.safetensors", of_another_format, "format 99, .* reads format 1"),
]


@pytest.mark.parametrize(("name", "breakage", "message"), BREAKAGES)
def test_a_broken_run_is_told_in_one_message(
    name: str, breakage: Callable[[Path], object], message: str, broken: Path
) -> None:
    breakage(broken / name)
    with pytest.raises(sn.SkillNeuronsError, match=message) as error:
        sn.SkillNeurons.load(broken)
    assert str(broken) in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["trial-1.safetensors", "neurons.parquet", "test.safetensors"])
def test_the_remedy_that_is_named_is_one(name: str, broken: Path, binary: Path) -> None:
    for gone in (name, "run.json"):
        (broken / gone).unlink()
    sn.find(backbone(), make("single"), out=broken, **OPTIONS)
    assert files(broken) == files(binary)


def test_another_runs_trial_is_not_taken_for_ones_own(broken: Path, tmp_path: Path) -> None:
    finding(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other/trial-1.safetensors", broken)
    with pytest.raises(sn.SkillNeuronsError, match=r"lacks trial-1.safetensors, or holds another run's"):
        sn.SkillNeurons.load(broken)


OTHERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda out: finding(out, seed=3), r"it differs in seed \(0 there, 3 here\)\. Choose another"),
    (
        lambda out: finding(out, lr="auto", batch=4),
        r"differs in batch \(8 there, 4 here\), lr \(0\.05 there, auto here\)",
    ),
    (lambda out: finding(out, dev_limit=30), r"dev_limit \(None there, 30 here\)"),
    (lambda out: finding(out, name="gpt2"), r"differs in model \(BertFor\w+, \w{32} there; GPT2\w+, \w{32} here\)\."),
    (
        lambda out: sn.find(backbone(seed=1), make("single"), out=out, **OPTIONS),
        r"differs in model \(Bert\w+, \w{32} there",
    ),
    (lambda out: finding(out, "pair"), r"data \(single, \w{32} there; pair, \w{32} here\), split \("),
]


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_another_runs_folder_is_refused(
    other: Callable[[Path], object], message: str, state: str, broken: Path
) -> None:
    if state == "unfinished":
        (broken / "unfinished").mkdir()
        (broken / "run.json").rename(broken / "unfinished/plan.json")
    before = files(broken)
    with pytest.raises(sn.SkillNeuronsError, match=message) as error:
        other(broken)
    assert f"{broken} holds another run" in str(error.value)
    assert files(broken) == before


def test_a_run_of_another_version_is_refused(broken: Path) -> None:
    damage(broken / "run.json", lambda about: about | {"version": "0.0.1", "format": 2})
    with pytest.raises(sn.SkillNeuronsError, match=r"format \(2 there, 1 here\), version \(0\.0\.1 there, "):
        finding(broken)


def test_other_hard_prompts_make_another_run(tmp_path: Path) -> None:
    task = replace(make("single"), prompts=("it is",))
    options: dict[str, Any] = {"prompt": "hard", "out": tmp_path}
    skill = sn.find(backbone(), task, **options)
    assert skill.about["trials"] == 1 and sn.find(backbone(), task, **options).about == skill.about
    with pytest.raises(sn.SkillNeuronsError, match=r"differs in prompts \(\w{32} there"):
        sn.find(backbone(), replace(task, prompts=("it was",)), **options)


def test_a_folder_that_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"scripts": {"start": "node ."}}')
    with pytest.raises(sn.SkillNeuronsError, match=r"run\.json was not written by skillneurons"):
        finding(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(sn.SkillNeuronsError, match=r"cannot write .*file.*Not a directory.*choose a folder"):
            finding(out)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command, all but its folder."""
    folder = tmp_path_factory.mktemp("command")
    make("single").save(folder / "task")
    return ["find", str(save_tiny("bert", folder / "model")), str(folder / "task"), *WORDS, "--out"]


def test_a_full_disk_keeps_what_was_finished(words: list[str], tmp_path: Path) -> None:
    """Files of the tuning's state are small, a trial's is not: the limit falls between them."""
    assert run(*words, tmp_path / "whole").status == 0
    size = (tmp_path / "whole/trial-0.safetensors").stat().st_size
    done = run(*words, tmp_path / "run", file_limit=size // 2)
    assert done.status == 2
    assert "cannot write" in done.err and "trial-0.safetensors" in done.err and "is kept" in done.err
    assert "Traceback" not in done.err and len(done.err.strip().splitlines()) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["unfinished"]
    state = tmp_path / "run/unfinished/trial-0.safetensors"
    assert state.exists() and len(load_file(state)) == 4
    assert run(*words, tmp_path / "run").status == 0
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_full_disk_at_the_last_file(words: list[str], tmp_path: Path) -> None:
    """With the trials in place the ranking is written whole or not at all."""
    assert run(*words, tmp_path / "run").status == 0
    whole = files(tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    (tmp_path / "run/neurons.parquet").unlink()
    done = run(*words, tmp_path / "run", file_limit=3000)
    assert done.status == 2 and "neurons.parquet" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "run/neurons.parquet").exists()
    assert run(*words, tmp_path / "run").status == 0
    assert files(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("breakage", "more", "message"),
    [
        (lambda out: None, ["--seed", "5"], "differs in seed (0 there, 5 here)"),
        (lambda out: truncate(out / "trial-0.safetensors"), [], "trial-0.safetensors is truncated"),
        (lambda out: (out / "trial-1.safetensors").unlink(), [], "lacks trial-1.safetensors"),
        (lambda out: (out / "run.json").write_text("{"), [], "run.json cannot be read as JSON"),
        (lambda out: truncate(out / "neurons.parquet"), [], "neurons.parquet cannot be read"),
        (lambda out: damage(out / "run.json", lambda about: about | {"version": "9"}), [], "version (9 there, "),
        (into_a_file, [], "Not a directory"),
    ],
)
def test_the_command_tells_a_mistake_in_one_line_with_status_two(
    breakage: Callable[[Path], object], more: list[str], message: str, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(*words, out).status == 0
    breakage(out)
    done = run(*words, out, *more)
    assert done.status == 2
    assert done.err.startswith("skillneurons: ") and message in done.err
    assert len(done.err.strip().splitlines()) == 1 and done.out == ""


def test_nothing_rests_on_the_log(words: list[str], tmp_path: Path) -> None:
    assert run(*words, tmp_path / "run").status == 0
    (tmp_path / "run/log.json").unlink()
    assert sn.SkillNeurons.load(tmp_path / "run").log == {}
    assert run(*words, tmp_path / "run").status == 0


def test_the_answer_alone_is_on_standard_output(words: list[str], tmp_path: Path) -> None:
    done = run(*words, tmp_path / "run")
    assert done.status == 0 and done.err == ""
    assert done.out.strip().startswith("single on ") and "95 % interval" in done.out
    assert os.fspath(tmp_path / "run") in done.out.replace("\n", "")
