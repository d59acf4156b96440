"""A study's page: claims counted, the paper beside, commands that work, every neuron as it was found."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skillneurons import SkillNeurons, SkillNeuronsError
from skillneurons.cli import _parse
from skillneurons.finding.nulls.config import NullConfig
from skillneurons.report.claims import CLAIMS, outcome, told
from skillneurons.report.command import command, of_experiment, of_run
from skillneurons.report.neurons import MOST, NONE, Finding, Neurons
from skillneurons.report.of_study import publish
from skillneurons.report.report import report
from skillneurons.study.config import EXPERIMENTS, read_study
from skillneurons.study.result import StudyResult
from skillneurons.tuning.config import TuneConfig

from .commands import run as run_command
from .pages import Seen, browse, browser
from .studies import run, write_study

FEW = ["perturbation", "correlation", "words"]
SUBTASKS = ("good-rest", "good-bad", "neutral-rest", "bad-neutral")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """A study's file and what came of it; one of its tasks bears the name of one of the paper's."""
    file = write_study(tmp_path_factory.mktemp("report"), FEW)
    task = file.parent / "single" / "task.toml"
    task.write_text(task.read_text(encoding="utf-8").replace('"single"', '"sst2"', 1), encoding="utf-8")
    return file, run(file)


@pytest.fixture(scope="module")
def page(whole: tuple[Path, StudyResult]) -> Path:
    """Its page, of which nothing but the study's folder is left to look at."""
    copy = whole[1].folder.parent / "copy"
    shutil.copytree(whole[1].folder, copy)
    return report(copy)


def words(page: Path) -> str:
    """The page's text, blanks as single ones."""
    return " ".join(Seen.of(page.read_text(encoding="utf-8")).text.split())


def test_every_section_stands_on_it(whole: tuple[Path, StudyResult], page: Path) -> None:
    _, result = whole
    seen, text = Seen.of(page.read_text(encoding="utf-8")), words(page)
    for section in result.sections:
        assert f"{section.experiment}-section" in seen.ids
        for _, said in section.verdicts:
            assert " ".join(said.split()) in text
    assert len(seen.named("svg")) == sum(len(own.figures) for own in result.sections)
    assert len(set(seen.ids)) == len(seen.ids)
    assert f"Not tried: {', '.join(name for name in EXPERIMENTS if name not in FEW)}." in text


def test_claims_are_counted_as_their_sentences_come_out(whole: tuple[Path, StudyResult], page: Path) -> None:
    _, result = whole
    found = {(own.claim.experiment, own.claim.part): own for own in told(result.sections, result.table("findings"))}
    assert len(found) == len(CLAIMS)
    for section in result.sections:
        for part, own in (
            (own.claim.part, own) for own in found.values() if own.claim.experiment == section.experiment
        ):
            if section.experiment != "findings":
                assert part == 0 and [said for _, said, _ in own.sentences] == [said for _, said in section.verdicts]
            assert sum(own.count(result) for result in ("holds", "fails", "open")) == len(own.sentences)
    assert {task for task, _, _ in found["findings", 0].sentences} == {"sst2", "three"}
    assert found["origins", 0].sentences == () and words(page).count("not tried") == sum(
        not own.sentences for own in found.values()
    )


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Holds: a; b.", "holds"), ("Does not hold: a; b.", "fails"), ("Cannot be told: for.", "open"),
        ("Cannot be told with this much data: whether a; b.", "open"), ("No claim is tested here: x.", None),
        ("No claim yet: these neurons are more predictive than input length.", "open"),
        ("These neurons are more predictive than anything the nulls produce: x.", "holds"),
        ("These neurons are not more predictive than everything the nulls produce: x.", "fails"),
    ],
)  # fmt: skip
def test_a_sentence_tells_its_outcome(sentence: str, expected: str | None) -> None:
    assert outcome(sentence) == expected


@pytest.mark.parametrize(
    ("neurons", "reach", "majority", "expected"),
    [(0.9, 0.01, 0.5, "holds"), (0.8, 0.01, 0.5, "fails"), (0.86, 0.1, 0.5, "open"), (0.9, 0.01, 0.9, "open")],
)
def test_neurons_are_near_the_prompt_or_not(neurons: float, reach: float, majority: float, expected: str) -> None:
    row = {"task": "some", "prompt": 0.9, "prompt_low": 0.89, "prompt_high": 0.91, "neurons": neurons}
    row["majority"] = majority
    row |= {"neurons_low": neurons - reach, "neurons_high": neurons + reach}
    [found] = [own for own in told([], pd.DataFrame([row])) if own.claim.experiment == "findings"]
    assert [own for _, _, own in found.sentences] == [expected]


def test_the_papers_figures_stand_beside_ours(whole: tuple[Path, StudyResult], page: Path) -> None:
    _, result = whole
    text, paper = words(page), result.table("findings-paper").set_index("figure")
    own = paper.loc["prompt"]
    assert f"sst2 prompt {100 * own['value']:.1f}" in text and "91.8 ± 0.5" in text
    low, high = 100 * own["difference_low"], 100 * own["difference_high"]
    assert f"{100 * own['difference']:+.1f} {low:+.1f} to {high:+.1f}" in text


def test_every_command_gives_the_same_options(whole: tuple[Path, StudyResult]) -> None:
    """Oracle: the command line itself."""
    study = read_study(whole[0])
    names = ["sst2", "three"]
    expected: dict[str, Any] = {
        "perturbation": study.perturbation, "perturbation-relative": study.perturbation_relative,
        "adapter": study.perturbation_relative, "bitfit": study.perturbation_relative,
        "importance": study.perturbation, "importance-relative": study.perturbation_relative,
        "importance-tuned": study.perturbation_relative, "steering": study.steering, "prune": study.prune,
        "transfer": study.transfer, "findings": study.tuning, "nulls": study.tuning, "origins": study.tuning,
    }  # fmt: skip
    for experiment in ("findings", *EXPERIMENTS):
        lines = of_experiment(study, experiment, names)
        assert len(set(lines)) == len(lines) > 0
        for line in lines:
            first, *given = shlex.split(line)
            parsed = _parse(given)
            assert first == "skillneurons" and given[0] in line
            if experiment in expected:
                assert parsed.config == expected[experiment]
    nulls = _parse(shlex.split(of_experiment(study, "nulls", names)[0])[1:])
    assert nulls.nulls == study.nulls and nulls.dtype == "float64"
    asked = _parse(shlex.split(of_experiment(study, "label-words", names)[1])[1:])
    assert (asked.sets, asked.seeds, asked.config.trials) == (2, 2, 1)


def test_the_command_of_a_run_gives_the_run(whole: tuple[Path, StudyResult]) -> None:
    skill = SkillNeurons.load(whole[1].output("rank/three"))
    parsed = _parse(shlex.split(of_run(skill.about, "runs/three", NullConfig(permutations=19), peers=True))[1:])
    source = skill.about["source"]
    assert (parsed.model, parsed.task, parsed.dtype) == (source["model"], source["task"], "float64")
    assert parsed.config == skill.config and parsed.nulls.permutations == 19 and parsed.peers
    about = {**skill.about, "source": {**source, "task": None, "random_weights": True}}
    parsed = _parse(shlex.split(of_run(about, "runs/three"))[1:])
    assert parsed.task == "runs/three/task" and parsed.random_weights


def test_only_what_differs_stands_in_a_command() -> None:
    assert command("find", "a b", TuneConfig()) == "skillneurons find 'a b'"
    assert command("find", TuneConfig(lr="auto", steps=5), only=("lr",)) == "skillneurons find --lr auto"


def unpacked(neurons: Neurons) -> list[pd.DataFrame]:
    """The embedded columns, read as the module describes them."""
    about, data = json.loads(neurons.about), zlib.decompress(base64.b64decode(neurons.data))
    at, found = 0, []
    for ranking in about["rankings"]:
        columns: dict[str, Any] = {}
        kinds = {"index": "<u4", "rank": "<u4", "predictivity": "<u2", "std": "<u2", "q": "<u2", "subtask": "u1"}
        for name, kind in {**kinds, **{f"spot {trial}": "<u2" for trial in range(ranking["trials"])}}.items():
            columns[name] = np.frombuffer(data, kind, ranking["rows"], at)
            at += columns[name].nbytes
        found.append(pd.DataFrame(columns).assign(task=ranking["task"]))
        found[-1]["subtask"] = [ranking["subtasks"][place] for place in columns["subtask"]]
    assert at == len(data)
    return found


def test_every_neuron_can_be_looked_up_as_it_was_found(whole: tuple[Path, StudyResult]) -> None:
    skill = SkillNeurons.load(whole[1].output("rank/three"))
    frames = unpacked(Neurons.of([Finding(skill.about, skill.table())]))
    assert [frame["subtask"].unique().tolist() for frame in frames] == [
        [own["name"]] for own in skill.about["subtasks"]
    ]
    starts = np.cumsum([0, *skill.widths])
    for frame in frames:
        table = skill.table()
        own = table[table["subtask"] == frame["subtask"].iloc[0]].sort_values("rank").reset_index(drop=True)
        assert (frame["index"] == starts[own["layer"]] + own["neuron"]).all() and (frame["rank"] == own["rank"]).all()
        for name in ("predictivity", "std"):
            np.testing.assert_allclose(frame[name] / (NONE - 1), own[name], atol=1e-5)
        np.testing.assert_allclose(10 ** (-frame["q"] / 1000), own["q_value"], rtol=2e-3)
        for trial in range(2):
            np.testing.assert_array_equal(frame[f"spot {trial}"] // 2, own["position"].str[trial])
            np.testing.assert_array_equal(frame[f"spot {trial}"] % 2 == 1, own["sign"].str[trial] > 0)


def test_of_many_subtasks_the_best_is_told(whole: tuple[Path, StudyResult]) -> None:
    skill = SkillNeurons.load(whole[1].output("rank/three"))
    subtasks = [*skill.about["subtasks"], {"name": "fifth", "positive": [], "negative": []}]
    assert len(subtasks) == MOST + 1
    table = skill.table()
    fifth = table[table["subtask"] == "good-rest"].assign(subtask="fifth", std=np.nan)
    fifth["rank"] = fifth["rank"].to_numpy()[::-1]
    table = pd.concat([table[table["subtask"] != "three"], fifth])
    [frame] = unpacked(Neurons.of([Finding({**skill.about, "subtasks": subtasks}, table)]))
    best = table.groupby(["layer", "neuron"], as_index=False)["rank"].min()
    index = np.cumsum([0, *skill.widths])[best["layer"]] + best["neuron"]
    assert dict(zip(frame["index"], frame["rank"], strict=True)) == dict(zip(index, best["rank"], strict=True))
    assert (frame.loc[frame["subtask"] == "fifth", "std"] == NONE).all() and (frame["subtask"] == "fifth").any()


def test_the_same_folder_gives_the_same_bytes(whole: tuple[Path, StudyResult], page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "study")
    assert report(tmp_path / "study").read_bytes() == page.read_bytes() == publish(whole[1]).read_bytes()


def test_what_failed_is_told_and_what_it_said_is_text(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "study")
    path = tmp_path / "study" / "study.json"
    own = json.loads(path.read_text(encoding="utf-8"))
    own["steps"]["words/three"] |= {"state": "failed", "reason": "no <b>room</b>"}
    own["steps"]["draw/words"] |= {"state": "skipped", "reason": "words/three"}
    own["sections"] = [section for section in own["sections"] if section["experiment"] != "words"]
    path.write_text(json.dumps(own), encoding="utf-8")
    text = words(report(tmp_path / "study"))
    assert "words/three failed: no <b>room</b> 1 steps that need it were skipped." in text
    assert "Not there, for steps that failed or were left out: words." in text


@browser
def test_a_neuron_is_told_of_every_task(whole: tuple[Path, StudyResult], page: Path) -> None:
    rows = whole[1].table("words")
    own = rows[(rows["task"] == "sst2") & (rows["way"] == "activation") & (rows["end"] == "top")]
    layer, neuron = own[["layer", "neuron"]].iloc[0]
    shown = Seen.of(browse(page, f"#neuron={layer}.{neuron}")).text
    part = shown.partition(f"Neuron {neuron} of layer {layer}")[2]
    assert "sst2 1 " in part and all(f"three: {name}" in part for name in SUBTASKS)
    assert f"sst2, most active at: {', '.join(own['text'])}" in part


def test_the_command_says_where_the_page_is(page: Path) -> None:
    before = page.read_bytes()
    done = run_command("report", page.parent)
    assert done.status == 0 and str(page) in done.out.replace("\n", "") and page.read_bytes() == before


def test_a_study_ends_with_its_page(whole: tuple[Path, StudyResult], page: Path, tmp_path: Path) -> None:
    file, result = whole
    done = run_command("study", file, "--store", result.store, "--out", tmp_path / "out", "--quiet")
    assert done.status == 0 and "report.html" in done.out
    assert (tmp_path / "out" / "report.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no"), ({}, "has neither"), ({"study.json": "{"}, "cannot be read as JSON"),
        ({"study.json": '{"format": 9}'}, "another version"), ({"study.json": '{"format": 1}'}, "not whole"),
        ({"study.json": '{"format": 1, "study": {}, "steps": {}, "sections": [], "store": ""}'}, "another version"),
        ({"run.json": "[]"}, "not written by skillneurons"), ({"unfinished/plan.json": "{}"}, "unfinished run"),
    ],
)  # fmt: skip
def test_a_folder_that_has_no_page(content: dict[str, str] | None, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    for name, text in (content or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if content == {}:
        folder.mkdir()
    with pytest.raises(SkillNeuronsError, match=message) as error:
        report(folder)
    assert re.search(r"(Give|Use|A study's|A run is|the same|name: Field required)", str(error.value))
    assert not (folder / "report.html").exists()


def test_names_that_lead_out_of_the_folder_are_refused(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "study")
    path = tmp_path / "study" / "study.json"
    own = json.loads(path.read_text(encoding="utf-8"))
    own["sections"][0]["figures"] = ["../../secret"]
    path.write_text(json.dumps(own), encoding="utf-8")
    with pytest.raises(SkillNeuronsError, match="leaves the folder"):
        report(tmp_path / "study")
