"""Study files, the steps that are drafted from them, and their keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skillneurons import SkillNeuronsError
from skillneurons.study.bench import Bench
from skillneurons.study.config import EXPERIMENTS, StudyConfig, as_file, read_study
from skillneurons.study.draft import Sizes, draft
from skillneurons.study.drawing import LOOKS
from skillneurons.study.kinds import VERSIONS
from skillneurons.study.plan import MODEL, Plan
from skillneurons.study.price import multiplications, price
from skillneurons.study.step import Step
from skillneurons.study.study import planned

from .studies import write_study

ROOT = Path(__file__).parents[1]
PRINTS = {MODEL: "model", "one": "1", "two": "2"}
STEPS = [
    Step("rank/one", "rank", {"trials": 2}, ("one",), ("score/one",)), Step("score/one", "score", {}, ("one",)),
    Step("both", "correlation", {}, ("one", "two"), ("rank/one", "rank/two")), Step("rank/two", "rank", {}, ("two",)),
]  # fmt: skip


def keys(steps: list[Step] = STEPS, rank: int = 1, model: str = "model", **prints: str) -> dict[str, str]:
    return dict(Plan.of(steps, {**VERSIONS, "rank": rank}, PRINTS | prints | {MODEL: model}).keys)


def changed(after: dict[str, str]) -> set[str]:
    before = keys()
    return {name for name in before if before[name] != after[name]}


def study(text: str, folder: Path) -> StudyConfig:
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return read_study(folder / "study.toml")


def test_each_step_comes_after_its_inputs_and_else_in_the_order_given() -> None:
    assert list(Plan.of(STEPS, VERSIONS, PRINTS).steps) == ["score/one", "rank/one", "rank/two", "both"]


def test_a_key_follows_from_all_that_a_result_follows_from() -> None:
    assert len(set(keys().values())) == len(STEPS) and keys() == keys()
    assert changed(keys(one="another")) == {"score/one", "rank/one", "both"}
    assert changed(keys(two="another")) == {"rank/two", "both"}
    assert changed(keys(model="another")) == set(keys())
    assert changed(keys(rank=2)) == {"rank/one", "rank/two", "both"}
    assert changed(keys([replace(STEPS[0], config={"trials": 3}), *STEPS[1:]])) == {"rank/one", "both"}


def test_names_are_no_part_of_a_key() -> None:
    renamed = [replace(own, name=f"x/{own.name}", inputs=tuple(f"x/{name}" for name in own.inputs)) for own in STEPS]
    assert list(keys(renamed).values()) == list(keys().values())


def test_no_two_steps_of_one_name_no_lost_input_no_cycle() -> None:
    with pytest.raises(SkillNeuronsError, match="given twice: score/one"):
        keys([*STEPS, STEPS[1]])
    with pytest.raises(SkillNeuronsError, match=r"there is no score/one \(of rank/one\)"):
        keys([STEPS[0]])
    with pytest.raises(SkillNeuronsError, match=r"wait for each other: .*score/one.*Take one input out"):
        keys([replace(STEPS[1], inputs=("both",)), *(own for own in STEPS if own is not STEPS[1])])


def test_every_mistake_of_a_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    text = 'name = "my study"\ntask = ["a"]\nexperiments = ["originz"]\n[model]\n[tuning]\nstep = 3\n[prune]\nkeep = 2'
    with pytest.raises(SkillNeuronsError) as told:
        study(text, tmp_path)
    for words in (
        "7 problems", "'task'; did you mean 'tasks'?", "did you mean 'origins'?", "model.source: is missing",
        "tasks: is missing", "did you mean 'steps'?", "prune.keep", "name",
    ):  # fmt: skip
        assert words in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [('experiments = []', "name one at least"), ('experiments = ["transfer"]', "transfer take two tasks at least"),
     ('[tuning]\npreset = "fast"', "a preset is one of paper, quick"),
     ('[tuning]\nprompt = "hard"', "a study tunes its prompts")],
)  # fmt: skip
def test_what_does_not_fit_together_is_told(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SkillNeuronsError, match=words):
        study(f'name = "x"\ntasks = ["sst2"]\nmodel = {{ source = "miniature" }}\n{text}', tmp_path)


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(SkillNeuronsError, match="not valid TOML"):
        study("name = ", tmp_path)
    with pytest.raises(SkillNeuronsError, match="cannot be read"):
        read_study(tmp_path / "nowhere.toml")


def test_paths_start_from_the_file_and_assets_from_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'name = "x"\ntasks = ["./mine", "sst2"]\nmodel = { source = "{assets}/models/a" }'
    monkeypatch.delenv("SKILLNEURONS_ASSETS", raising=False)
    with pytest.raises(SkillNeuronsError, match="Give --assets FOLDER, or set SKILLNEURONS_ASSETS"):
        study(text, tmp_path)
    found = read_study(tmp_path / "study.toml", assets="/real")
    assert found.model.source == "/real/models/a" and found.tasks == (str(tmp_path / "mine"), "sst2")
    monkeypatch.setenv("SKILLNEURONS_ASSETS", "/other")
    assert read_study(tmp_path / "study.toml").model.source == "/other/models/a"


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    file = write_study(tmp_path, ["choices"], ["single"])
    file.write_text(file.read_text().replace("['./single']", "['./single', './single']"), encoding="utf-8")
    with pytest.raises(SkillNeuronsError, match="given twice: single"):
        planned(Bench(read_study(file)))


def test_every_experiment_has_a_look_and_its_steps(tmp_path: Path) -> None:
    assert set(LOOKS) == {"findings", *EXPERIMENTS}
    found = study('name = "x"\ntasks = ["a", "b"]\nmodel = { source = "miniature" }', tmp_path)
    steps = {own.name for own in draft(found, {"a": Sizes(60, 20, 20), "b": Sizes(60, 20, 20, 3)})}
    assert {f"draw/{name}" for name in EXPERIMENTS} < steps
    assert {own.kind for own in draft(found, {"a": Sizes(60, 20, 20), "b": Sizes(60, 20, 20)})} == set(VERSIONS)
    without = {own.name for own in draft(found, {"a": Sizes(60, 20, 20), "b": Sizes(60, 20, 20)}, biases=False)}
    assert {name for name in steps - without if "bitfit" not in name} == set() and "importance-tuned" in without


@pytest.mark.parametrize(
    ("tuning", "anew"),
    [
        ({"trials": 3}, {"rank", "adapter"}), ({"test_limit": 15}, {"rank"}), ({"test_limit": 99}, {"rank"}),
        ({"dev_limit": 15}, {"tune", "score", "rank", "adapter"}),
        ({"train_limit": 25}, {"tune", "score", "rank", "adapter"}),
        ({"positions": 4}, {"tune", "score", "rank"}),
    ],
)  # fmt: skip
def test_an_option_is_in_the_keys_of_what_goes_by_it(tmp_path: Path, tuning: dict[str, int], anew: set[str]) -> None:
    """A further trial leaves those that are there, a limit of test what does not read it."""

    def keys(**sections: dict[str, int]) -> dict[str, str]:
        return dict(planned(Bench(read_study(write_study(tmp_path, ["adapter"], ["single"], **sections)))).keys)

    before, after = keys(), keys(tuning=tuning)
    steps = ("tune/single/1", "score/single/1", "rank/single", "tuned-adapter/single")
    assert {name.split("/")[0].removeprefix("tuned-") for name in steps if before[name] != after[name]} == anew


def test_a_further_task_leaves_the_points_of_others(tmp_path: Path) -> None:
    own = ["perturbation", "importance"]
    two = planned(Bench(read_study(write_study(tmp_path, own, ["single", "three"]))))
    more = planned(Bench(read_study(write_study(tmp_path, own, ["single", "three", "pair"]))))
    assert {name for name in two.keys if two.keys[name] != more.keys[name]} == {
        "perturbation/single", "perturbation/three", "importance", "draw/findings", "draw/perturbation",
        "draw/importance",
    }  # fmt: skip
    assert "perturbation/three/of-single" in two.keys and "perturbation/single/of-pair" in more.keys


@pytest.mark.parametrize("name", ["miniature", "minilm", "paper"])
def test_the_studies_that_are_shipped_are_right(name: str) -> None:
    found = read_study(ROOT / "studies" / f"{name}.toml", assets="/assets")
    assert found.name == name and len(found.tasks) == 7 and (found.chosen == EXPERIMENTS or name == "minilm")


@pytest.mark.parametrize("name", ["miniature", "minilm", "paper"])
def test_a_study_is_written_as_it_is_read(tmp_path: Path, name: str) -> None:
    found = read_study(ROOT / "studies" / f"{name}.toml", assets='/as"sets\\ä')
    (tmp_path / "study.toml").write_text(as_file(found), encoding="utf-8")
    assert read_study(tmp_path / "study.toml") == found


def test_the_paper_is_priced_without_its_model(tmp_path: Path) -> None:
    """By hand: a trial of SST-2's tuning takes at most 4 passes over train, 8 samples a step."""
    text = (ROOT / "studies" / "paper.toml").read_text(encoding="utf-8").replace("FacebookAI/", "./nowhere-")
    text = text.replace('tasks = ["sst2", ', 'experiments = ["choices"]\ntasks = ["sst2"] #')
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    found = price(tmp_path / "study.toml", store=tmp_path / "store", rate=10)
    [tune] = [own for own in found.lines if own.kind == "tune"]
    steps = -(-4 * 53_879 // 8)
    assert (tune.steps, tune.tuned) == (5, 5 * 8 * steps) and tune.passed == 5 * -(-steps // 2000) * 13_470
    assert not found.known and 0.5 < found.hours < 50
    assert price(tmp_path / "study.toml", store=tmp_path / "store", rate=20).hours == pytest.approx(found.hours / 2)


def test_multiplications_are_those_of_the_matrices() -> None:
    from skillneurons.study.config import Shape

    shape = Shape(layers=12, hidden=768, width=3072, vocabulary=50265)
    assert multiplications(shape, 1) == pytest.approx(85e6 + 38.6e6, rel=0.01)  # RoBERTa-base's weights, once each
