"""Studies: done once, resumed wherever they were killed, mended, told where they fail."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import skillneurons as sn
from skillneurons import SkillNeuronsError
from skillneurons.cli.study import Store as StoreCommand
from skillneurons.cli.study import Study as StudyCommand
from skillneurons.study import kinds
from skillneurons.study.config import EXPERIMENTS
from skillneurons.study.kinds import KINDS, VERSIONS, Kind
from skillneurons.study.price import price
from skillneurons.study.published import PUBLISHED, TRIALS, beside_paper
from skillneurons.study.result import StudyResult
from skillneurons.study.store import Store
from skillneurons.study.work import Work

from .studies import begin, results, run, write_study

GOLDEN = Path(__file__).with_name("study_results.json")
FEW = ["choices", "selectivity"]
KILLS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """A study with every experiment."""
    file = write_study(tmp_path_factory.mktemp("whole"))
    return file, run(file)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study, done by an undisturbed process."""
    file = write_study(tmp_path_factory.mktemp("few"), FEW, ["single"])
    process = begin(file)
    process.join()
    assert process.exitcode == 0
    return file.parent


def again(few: Path, folder: Path, *parts: str) -> Path:
    """The same study of the same model and task in another folder, with a copy of some parts."""
    folder.mkdir(exist_ok=True)
    for part in parts:
        shutil.copytree(few / part, folder / part)
    file = folder / "study.toml"
    file.write_text((few / "study.toml").read_text(encoding="utf-8").replace("./", f"{few}/"), encoding="utf-8")
    return file


def test_every_experiment_has_tables_figures_and_verdicts(whole: tuple[Path, StudyResult]) -> None:
    _, result = whole
    assert result.whole and result.failed == {}
    assert [own.experiment for own in result.sections] == ["findings", *EXPERIMENTS]
    for section in result.sections:
        for name in section.tables:
            table = result.table(name)
            markdown = (result.folder / "tables" / f"{name}.md").read_text(encoding="utf-8").splitlines()
            assert len(table) > 0 and len(markdown) == len(table) + 2
        for name in section.figures:
            assert b"<svg" in result.figure(name).read_bytes() and result.figure(name, "png").stat().st_size > 1000
        if section.experiment not in ("findings", "stability"):
            assert section.verdicts and all(said for _, said in section.verdicts)
    assert set(result.table("origins")["task"]) == {"single", "three"}


def test_a_finding_is_that_of_find(whole: tuple[Path, StudyResult]) -> None:
    """Oracle: the same by `find`, which tunes, scores and ranks in one go."""
    file, result = whole
    kept = sn.SkillNeurons.load(result.output("rank/three"))
    model = sn.load_model(str(file.parent / "model"), dtype="float64")
    own = sn.find(model, sn.load_task(file.parent / "three"), config=kept.config)
    pd.testing.assert_frame_equal(kept.table(), own.table())
    assert kept.results == own.results


def test_a_second_time_nothing_is_computed(whole: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch) -> None:
    file, result = whole
    before = results(file.parent)
    monkeypatch.setattr(kinds, "KINDS", {})
    assert run(file).steps == result.steps and results(file.parent) == before
    assert price(file, store=file.parent / "store", rate=1).hours == 0


def test_whoever_changes_results_raises_the_version(whole: tuple[Path, StudyResult]) -> None:
    """The columns' means of what each kind gives, in float64, where machines differ by rounding alone.

    Where this fails a kind's results have changed: raise its version in kinds.py, then remove the file that holds the
    figures and run this test, which writes it anew.
    """
    _, result = whole
    found: dict[str, Any] = {}
    for name, step in result.steps.items():
        if step["kind"] != "draw" and ("three" in name.split("/") or name in EXPERIMENTS):
            found.setdefault(step["kind"], {"version": VERSIONS[step["kind"]]})[name] = _figures(result, name)
    assert set(found) == set(KINDS) - {"draw"}
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was written anew; look at what changed in it")
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for kind, own in found.items():
        same = all(
            own[name] == pytest.approx(kept[kind][name], rel=1e-5, abs=1e-7) for name in own if name != "version"
        )
        assert same == (own["version"] == kept[kind]["version"]), f"{kind}: see this test's text"


def _figures(result: StudyResult, name: str) -> list[float]:
    """Sums over what a step gave: of every array, by its name; of drawn figures such as intervals none."""
    from safetensors.torch import load_file

    arrays = {
        f"{path.name}/{tensor}": values.double().nan_to_num().numpy()
        for path in sorted(result.output(name).glob("*.safetensors"))
        for tensor, values in load_file(path).items()
    }
    return [float(np.abs(arrays[tensor]).sum()) for tensor in sorted(arrays)]


def test_killed_at_twenty_moments_it_ends_with_the_same_bytes(few: Path, tmp_path: Path) -> None:
    draw, done, number, kills = random.Random(0), False, 0, 0
    file = again(few, tmp_path / "0")
    while kills < KILLS or not done:
        process = begin(file, kill_at=draw.randrange(30) if kills < KILLS else None)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        if done := process.exitcode == 0:
            assert results(file.parent) == results(few)
            if kills < KILLS:
                number += 1
                file = again(few, tmp_path / str(number))
    assert not list((file.parent / "store" / "unfinished").iterdir())


@pytest.mark.parametrize("harm", ["flip", "truncate"])
def test_harm_is_found_and_mended(few: Path, tmp_path: Path, harm: str) -> None:
    file = again(few, tmp_path, "store")
    path = max((tmp_path / "store" / "objects").rglob("trial-0.safetensors"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] if harm == "truncate" else data[:-1] + bytes([data[-1] ^ 4]))
    store = Store(tmp_path / "store")
    assert [bool(wrong) for _, wrong in store.verify()].count(True) == 1
    run(file)
    assert path.read_bytes() == data and not any(wrong for _, wrong in store.verify())
    assert {name: own for name, own in results(tmp_path).items() if name != "study.json"} == {
        name: own for name, own in results(few).items() if name != "study.json"
    }


def test_a_spoiled_input_is_made_anew_on_the_way(few: Path, tmp_path: Path) -> None:
    """Without `verify`: what is read is checked, at every step and before it is published."""
    file = again(few, tmp_path, "store")
    store = Store(tmp_path / "store")
    keys = store.studies()["small"]
    for step, part in (("score/single/1", "trial-1.safetensors"), ("draw/choices", "tables/choices.csv")):
        receipt = store.receipt(keys[step])
        assert receipt is not None
        path = tmp_path / "store" / "objects" / receipt.content / part
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    store.withdraw(keys["rank/single"])
    assert run(file).whole
    assert not any(wrong for _, wrong in store.verify())
    assert results(tmp_path)["tables/choices.csv"] == results(few)["tables/choices.csv"]


def test_two_at_once_share_the_work(few: Path, tmp_path: Path) -> None:
    file = again(few, tmp_path)
    processes = [begin(file, out) for out in ("out", "other")]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert results(tmp_path) == results(few)
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").glob("tables/*")} == {
        path.name: path.read_bytes() for path in (few / "out").glob("tables/*")
    }


def test_a_step_that_fails_stops_only_what_needs_it(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(work: Work) -> None:
        (work.out / "half").write_text("half")
        raise SkillNeuronsError("it cannot be. Do otherwise.")

    file = again(few, tmp_path, "store")
    store = Store(tmp_path / "store")
    store.withdraw(store.studies()["small"]["choices/single"])
    store.withdraw(store.studies()["small"]["draw/choices"])
    monkeypatch.setattr(kinds, "KINDS", {**KINDS, "choices": Kind(1, fails)})
    with pytest.raises(SystemExit) as ended:
        StudyCommand(file, tmp_path / "out", str(tmp_path / "store")).run()
    assert ended.value.code == 1
    result = StudyResult.load(tmp_path / "out")
    assert result.failed == {"choices/single": "it cannot be. Do otherwise."} and not result.whole
    assert result.steps["draw/choices"]["state"] == "skipped"
    assert result.steps["draw/choices"]["reason"] == "choices/single"
    assert {own.experiment for own in result.sections} == {"findings", "selectivity"}
    assert "choices/single failed, and 1 steps that need it were skipped: it cannot be" in capsys.readouterr().out
    with pytest.raises(SkillNeuronsError, match="an output is of a finished step"):
        result.output("draw/choices")
    monkeypatch.undo()
    assert run(file).whole and results(tmp_path)["tables/choices.csv"] == results(few)["tables/choices.csv"]


def test_the_commands_of_the_store(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again(few, tmp_path, "store")
    address = str(tmp_path / "store")
    StoreCommand("ls", address).run()
    out = capsys.readouterr().out
    assert "rank/single" in out and "small: 10 of 10 steps are there" in out
    path = max((tmp_path / "store" / "objects").rglob("choices.json"))
    path.write_text("{}")
    with pytest.raises(SystemExit):
        StoreCommand("verify", address).run()
    assert "choices.json not what was written; withdrawn" in capsys.readouterr().out
    StoreCommand("gc", address, ("small",)).run()
    assert "removed: 9 outputs" in capsys.readouterr().out and not list(path.parents[1].iterdir())
    with pytest.raises(SkillNeuronsError, match="--forget is for gc; given: ls"):
        StoreCommand("ls", address, ("small",)).run()


def test_a_dry_run_does_nothing(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = again(few, tmp_path)
    StudyCommand(file, store=str(tmp_path / "store"), dry_run=True, rate=1.0).run()
    out = " ".join(capsys.readouterr().out.split())
    assert "Would run: tune/single/0" in out and "small: 10 steps, 0 there already" in out
    assert not (tmp_path / "store").exists()


def test_a_folder_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(SkillNeuronsError, match="of another version"):
        StudyResult.load(tmp_path)


def test_the_papers_figures_stand_beside_ours(whole: tuple[Path, StudyResult]) -> None:
    _, result = whole
    assert beside_paper("findings", ["single"], [sn.SkillNeurons.load(result.output("rank/single"))]).empty
    skill = sn.SkillNeurons.load(result.output("rank/single"))
    rows = beside_paper("findings", ["sst2"], [skill]).set_index("figure")
    paper, std = PUBLISHED["findings"]["sst2"]["prompt"]
    assert (paper, std) == (0.918, 0.005) and std is not None
    ours = float(np.mean(skill.results["prompt_accuracy"]))
    assert rows.loc["prompt", "difference"] == pytest.approx(ours - paper)
    reach = np.hypot(ours - skill.results["prompt_interval"]["low"], 1.96 * std / np.sqrt(TRIALS))
    assert rows.loc["prompt", "difference_low"] == pytest.approx(ours - paper - reach)
    assert {"label-words-paper", "transfer-paper"} >= {
        name for own in result.sections for name in own.tables if name.endswith("-paper")
    }
