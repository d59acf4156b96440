"""Studies: done once, resumed wherever they were killed, mended, told where they fail."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

import skillneurons as sn
from skillneurons import SkillNeuronsError
from skillneurons.cli.study import Store as StoreCommand
from skillneurons.cli.study import Study as StudyCommand
from skillneurons.evidence.curves import Curves
from skillneurons.evidence.result import Evidence
from skillneurons.evidence.selectivity import INDEX, Selectivity
from skillneurons.files import unwritable
from skillneurons.study import doing
from skillneurons.study.bench import Bench
from skillneurons.study.config import EXPERIMENTS, read_study
from skillneurons.study.doing import Outcome
from skillneurons.study.kinds import KINDS, VERSIONS, Kind
from skillneurons.study.local import Local
from skillneurons.study.price import price
from skillneurons.study.published import PUBLISHED, TRIALS, beside_paper
from skillneurons.study.result import StudyResult
from skillneurons.study.settle import settle
from skillneurons.study.store import Store
from skillneurons.study.study import planned, run_study
from skillneurons.study.work import Work
from skillneurons.study.workers import beside, suited

from .commands import files
from .families import tiny
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
    for part in parts:  # without the objects' second names, which would be files of their own
        shutil.copytree(few / part, folder / part, ignore=shutil.ignore_patterns("outputs"))
    file = folder / "study.toml"
    file.write_text((few / "study.toml").read_text(encoding="utf-8").replace("./", f"{few}/"), encoding="utf-8")
    return file


def kept(store: Store, step: str, part: str) -> Path:
    """The file that the store holds of a part of a step's output."""
    receipt = store.receipt(store.studies()["small"][step])
    assert receipt is not None and store.files.folder is not None
    return store.files.folder / "objects" / receipt.files[part][1]


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


@pytest.mark.parametrize("name", ["perturbation-relative", "adapter"])
def test_points_found_one_by_one_are_the_curves_of_one_call(whole: tuple[Path, StudyResult], name: str) -> None:
    """Oracle: `perturb`, undivided, to the last bit."""
    file, result = whole
    study, kept = read_study(file), Curves.load(result.output(f"{name}/three"))
    model = sn.load_model(study.model.source, dtype="float64")
    three, single = (sn.SkillNeurons.load(result.output(f"rank/{task}")) for task in ("three", "single"))
    orders = [sn.of_run("single", single)]
    tuned = []
    if name == "adapter":
        files = sorted(result.output("tuned-adapter/three").iterdir())
        tuned = [sn.Tuned.load(path) for path in files]
    else:
        index = Selectivity.load(result.output("selectivity/three")).index
        orders.append(sn.of_scores(INDEX, index, three.widths, seed=0))
    own = sn.perturb(model, three, orders=orders, tuned=tuned, config=study.perturbation_relative)
    assert kept.about == own.about and kept.rows == own.rows
    assert torch.equal(kept.arrays["right"], own.arrays["right"])


def test_findings_one_by_one_are_those_of_one_call(whole: tuple[Path, StudyResult]) -> None:
    """Oracle: `origins` and `label_words`, undivided."""
    file, result = whole
    study = read_study(file)
    model, task = sn.load_model(study.model.source, dtype="float64"), sn.load_task(study.tasks[1])
    skill = sn.SkillNeurons.load(result.output("rank/three"))
    pairs: list[tuple[Evidence, Evidence]] = [
        (sn.Origins.load(result.output("origins/three")), sn.origins(model, task, skill=skill)),
        (
            sn.LabelWordSets.load(result.output("label-words/three")),
            sn.label_words(model, task, config=study.label_word_options),
        ),
    ]
    for kept, own in pairs:
        assert {**kept.about, "identity": ""} == {**own.about, "identity": ""} and kept.rows == own.rows
        assert set(kept.arrays) == set(own.arrays)
        assert all(torch.equal(kept.arrays[array], own.arrays[array]) for array in own.arrays)


def test_several_processes_share_the_steps(few: Path, tmp_path: Path) -> None:
    """This one only looks on, and finds all done."""
    file = again(few, tmp_path)
    bench, store, threads = Bench(read_study(file)), Store(tmp_path / "store"), torch.get_num_threads()
    plan = planned(bench)
    with beside(store, bench, plan, 3):
        deadline = time.monotonic() + 300
        while not all(map(store.has, plan.keys.values())) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert torch.get_num_threads() == threads and not multiprocessing.active_children()
    assert not store.files.sizes("leases")
    assert os.getpid() not in {store.told(key)["process"] for key in plan.keys.values() if store.told(key)}
    assert run(file, workers=3).whole and results(tmp_path) == results(few)


def test_how_many_processes_suit_a_machine() -> None:
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    assert suited(backbone, 6) == 6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skillneurons.study.workers.SMALL", 1000)
        assert suited(backbone, 6) == 1


def test_a_step_gives_the_same_bytes_under_newer_code(
    whole: tuple[Path, StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = whole
    again(file.parent, tmp_path, "store")
    store = Store(tmp_path / "store")
    before = files(tmp_path / "store" / "steps")
    keys = store.studies()["small"]
    for step in ("score/three/0", "rank/three", "origins/three/hard-prompts", "tuned-adapter/three", "adapter/three"):
        store.withdraw(keys[step])
    for name in ("finding.find.code", "study.doing.code"):
        monkeypatch.setattr(f"skillneurons.{name}", lambda: "newer")
    for name in ("finding.find.version", "tuning.tuned.version"):
        monkeypatch.setattr(f"skillneurons.{name}", lambda _: "9.9")
    assert len(store.keys()) == len(before) - 5 and run(tmp_path / "study.toml").whole
    assert files(tmp_path / "store" / "steps") == before


def test_a_trial_is_on_the_disk_once(few: Path) -> None:
    store = Store(few / "store")
    keys = store.studies()["small"]
    one, run_ = (store.fetch(keys[step]) / "trial-1.safetensors" for step in ("score/single/1", "rank/single"))
    assert one.samefile(run_) and one.samefile(kept(store, "rank/single", "trial-1.safetensors"))


def test_a_second_time_nothing_is_computed(whole: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch) -> None:
    file, result = whole
    before = results(file.parent)
    monkeypatch.setattr(doing, "KINDS", {})
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
    Store(file.parent / "store").sweep()  # of what a kill left
    assert not list((file.parent / "store" / "unfinished").iterdir()) and results(file.parent) == results(few)


@pytest.mark.parametrize("harm", ["flip", "truncate"])
def test_harm_is_found_and_mended(few: Path, tmp_path: Path, harm: str) -> None:
    file = again(few, tmp_path, "store")
    store = Store(tmp_path / "store")
    path = kept(store, "score/single/0", "trial-0.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-1] if harm == "truncate" else data[:-1] + bytes([data[-1] ^ 4]))
    keys = store.studies()["small"]
    assert {key: wrong for key, wrong in store.verify() if wrong} == {
        keys[step]: "trial-0.safetensors not what was written" for step in ("score/single/0", "rank/single")
    }
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
        path = kept(store, step, part)
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
    monkeypatch.setattr(doing, "KINDS", {**KINDS, "choices": Kind(1, fails)})
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


class Full(MemoryFileSystem):  # type: ignore[misc]
    """A store whose room ends."""

    protocol = "full"
    room = 10**9

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if (size := Path(lpath).stat().st_size) > Full.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        Full.room -= size
        super().put_file(lpath, rpath, **options)


def test_a_store_without_room_ends_the_study(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, as what it is, and not step by step; what was finished is kept, and is what it should be."""
    fsspec.register_implementation("full", Full, clobber=True)
    monkeypatch.setattr(Full, "store", {})
    monkeypatch.setattr(Full, "pseudo_dirs", [""])
    monkeypatch.setattr(Full, "room", 50_000)
    monkeypatch.setenv("SKILLNEURONS_CACHE", str(tmp_path / "cache"))
    file, store = again(few, tmp_path), Store("full://store")
    with pytest.raises(SkillNeuronsError, match=r"cannot write objects/.*: No space left on device"):
        run_study(file, store="full://store", out=tmp_path / "out")
    done = len(store.keys())
    assert done > 0 and not any(wrong for _, wrong in store.verify()) and not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("out-*")) and not store.files.sizes("leases")
    Full.room = 10**9
    assert run_study(file, store="full://store", out=tmp_path / "out").whole
    assert files(tmp_path / "out" / "tables") == files(few / "out" / "tables")


def test_a_step_without_room_ends_the_study(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(work: Work) -> None:
        raise unwritable(work.out / "choices.json", OSError(errno.ENOSPC, "No space left on device"))

    file = again(few, tmp_path)
    monkeypatch.setattr(doing, "KINDS", {**KINDS, "tune": Kind(1, full)})
    with pytest.raises(SkillNeuronsError, match=r"cannot write .*choices\.json: No space left on device"):
        run(file)


def test_waiting_asks_for_little_and_ever_less_often(monkeypatch: pytest.MonkeyPatch, few: Path) -> None:
    bench = Bench(read_study(few / "study.toml"))
    plan, store = planned(bench), Store(few / "store")
    asked: list[str] = []
    waits: list[float] = []
    outcomes: dict[str, Outcome] = {}

    def has(_: Store, key: str) -> bool:
        asked.append(key)
        return False

    @contextmanager
    def taken(_: Store, key: str) -> Iterator[bool]:
        yield False

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 7:
            monkeypatch.setattr(Store, "has", lambda *_: True)

    monkeypatch.setattr(Store, "has", has)
    monkeypatch.setattr(Store, "leased", taken)
    monkeypatch.setattr("skillneurons.study.settle.time.sleep", sleep)
    settle(store, plan, Local(store, bench, plan), outcomes)
    assert waits == [0.3, 0.6, 1.2, 2.4, 4.8, 5.0, 5.0] and {own.state for own in outcomes.values()} == {"kept"}
    assert asked == 7 * [plan.keys["tune/single/0"], plan.keys["tune/single/1"]]  # all others wait for these


def test_the_folder_knows_its_store_wherever_both_lie(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("store", "out"):
        shutil.copytree(few / part, tmp_path / "moved" / part)
    monkeypatch.chdir(tmp_path)
    result = StudyResult.load("moved/out")
    monkeypatch.chdir("/")
    assert result.output("rank/single").is_relative_to(tmp_path) and result.store == str(tmp_path / "moved" / "store")
    assert sn.SkillNeurons.load(result.output("rank/single")).about["task"] == "single"


def test_the_commands_of_the_store(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again(few, tmp_path, "store")
    address = str(tmp_path / "store")
    StoreCommand("ls", address).run()
    out = capsys.readouterr().out
    assert "rank/single" in out and "small: 10 of 10 steps are there" in out
    path = Store(address).fetch(Store(address).studies()["small"]["choices/single"]) / "choices.json"
    path.write_text("{}")  # the very file of the store
    with pytest.raises(SystemExit):
        StoreCommand("verify", address).run()
    assert "choices.json not what was written; withdrawn" in capsys.readouterr().out
    StoreCommand("gc", address, ("small",)).run()
    assert "removed: 9 outputs" in capsys.readouterr().out
    assert not list((tmp_path / "store" / "objects").iterdir()) + list((tmp_path / "store" / "outputs").iterdir())
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
