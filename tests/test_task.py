"""A task in memory: what it is made of, its splits, limits, fingerprints, and that a saved one comes back equal."""

import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skillneurons.errors import SkillNeuronsError
from skillneurons.tasks import Split, Subtask, Task, load_task
from skillneurons.tasks.split import hold_out

WORDS = {"bad": "negative", "good": "positive"}
THREE = {"no": "negative", "maybe": "neutral", "yes": "positive"}


def rows(n: int, labels: Mapping[str, str] = WORDS, **extra: Any) -> list[dict[str, Any]]:
    names = list(labels)
    return [{"text": f"text {i}", "label": names[i % len(names)], **extra} for i in range(n)]


def binary(n: int = 100, **options: Any) -> Task:
    return Task.from_rows("mood", train=rows(n), test=rows(11), words=WORDS, **options)


def triple(**options: Any) -> Task:
    return Task.from_rows("claim", train=rows(90, THREE), test=rows(12, THREE), words=THREE, **options)


def texts(split: Split) -> list[str]:
    return split.column("text").to_pylist()


def test_a_binary_task() -> None:
    task = binary()
    assert task.binary
    assert task.labels == ("bad", "good")
    assert task.subtasks == (Subtask("mood", ("good",), ("bad",)),)
    assert task.sizes == {"train": 80, "dev": 20, "test": 11}
    assert task.test.rows[3] == {"text": "text 3", "label": 1}
    assert task.test.labels.tolist() == [i % 2 for i in range(11)]
    assert task.majority() == 6 / 11
    assert repr(task) == "Task('mood': bad, good; train 80, dev 20, test 11)"


def test_positive_turns_a_binary_task() -> None:
    task = binary(positive="bad")
    assert task.labels == ("bad", "good")
    assert task.subtasks == (Subtask("mood", ("bad",), ("good",)),)


def test_more_labels_are_taken_one_against_the_rest() -> None:
    task = triple()
    assert not task.binary
    assert task.subtasks == (
        Subtask("no-rest", ("no",), ("maybe", "yes")),
        Subtask("maybe-rest", ("maybe",), ("no", "yes")),
        Subtask("yes-rest", ("yes",), ("no", "maybe")),
    )
    given = triple(subtasks=[{"name": "yes-no", "positive": "yes", "negative": ["no"]}])
    assert given.subtasks == (Subtask("yes-no", ("yes",), ("no",)),)


@pytest.mark.parametrize(("count", "train", "dev"), [(67_349, 53_879, 13_470), (392_702, 314_161, 78_541), (6, 4, 2)])
def test_a_fifth_is_held_out_rounded_up(count: int, train: int, dev: int) -> None:
    rest, held = hold_out(count, 0)
    assert (len(rest), len(held)) == (train, dev)
    assert np.array_equal(np.sort(np.concatenate([rest, held])), np.arange(count))


def test_dev_is_a_random_fifth_by_seed() -> None:
    order = np.random.default_rng(7).permutation(100)
    task = binary(seed=7)
    assert texts(task.dev) == [f"text {i}" for i in sorted(order[:20])]
    assert texts(task.train) == [f"text {i}" for i in sorted(order[20:])]
    assert binary(seed=7).split_fingerprint == task.split_fingerprint
    assert binary(seed=8).split_fingerprint != task.split_fingerprint


def test_a_given_dev_leaves_train_whole() -> None:
    task = Task.from_rows("mood", train=rows(10), dev=rows(4), test=rows(6), words=WORDS)
    assert task.sizes == {"train": 10, "dev": 4, "test": 6}
    assert texts(task.train) == [f"text {i}" for i in range(10)]


def test_frames_and_rows_give_the_same_task() -> None:
    frame = pd.DataFrame(rows(100, note=1.5))
    assert Task.from_frame("mood", frame, test=pd.DataFrame(rows(11)), words=WORDS) == binary()
    coded = frame.assign(label=frame["label"].map({"bad": 0, "good": 1})).astype("category")
    by_number = Task.from_frame(
        "mood", coded, test=coded[:11], words={"0": "negative", "1": "positive"}, text="text", label="label"
    )
    assert np.array_equal(by_number.train.labels, binary().train.labels)


def test_one_frame_is_split_in_three() -> None:
    task = Task.from_frame("mood", pd.DataFrame(rows(100)), words=WORDS, seed=3)
    assert task.sizes == {"train": 64, "dev": 16, "test": 20}
    everything = texts(task.train) + texts(task.dev) + texts(task.test)
    assert sorted(everything) == sorted(f"text {i}" for i in range(100))


@pytest.mark.parametrize("values", [(0, 1), (np.int64(0), np.int64(1)), (0.0, 1.0), ("0", "1")])
def test_numbers_are_labels(values: tuple[Any, Any]) -> None:
    given = [{"text": f"text {i}", "label": values[i % 2]} for i in range(20)]
    task = Task.from_rows("mood", train=given, test=given, words={"0": "negative", "1": "positive"})
    assert task.test.labels.tolist() == [0, 1] * 10


def test_truth_values_are_labels() -> None:
    given = [{"text": f"text {i}", "label": i % 2 == 1} for i in range(20)]
    task = Task.from_rows("mood", train=given, test=given, words={"false": "no", "true": "yes"})
    assert task.test.labels.tolist() == [0, 1] * 10


def test_limits_choose_at_random_and_keep_the_order() -> None:
    task = binary(1000)
    small, smaller = task.limited(train=100, dev=50, test=5), task.limited(train=30)
    assert small.sizes == {"train": 100, "dev": 50, "test": 5}
    positions = [texts(task.train).index(text) for text in texts(small.train)]
    assert positions == sorted(positions)
    assert positions != list(range(100))
    assert set(texts(smaller.train)) < set(texts(small.train))
    assert task.limited(train=100, dev=50, test=5) == small
    assert task.limited(train=5000, dev=None) == task
    assert small.subtasks == task.subtasks


def test_limits_that_leave_too_little() -> None:
    with pytest.raises(SkillNeuronsError, match=r"2 problems(.|\n)*at least 1 sample(.|\n)*test: 0(.|\n)*") as raised:
        binary().limited(train=1, test=0)
    assert "train has no sample of" in str(raised.value)
    assert "raise its limit of 1" in str(raised.value)


def test_fingerprints_tell_what_differs() -> None:
    task = binary()
    changed = [
        Task.from_rows("other", train=rows(100), test=rows(11), words=WORDS),
        Task.from_rows("mood", train=rows(100), test=rows(11), words={"bad": "sad", "good": "positive"}),
        Task.from_rows("mood", train=rows(100), test=rows(11)[::-1], words=WORDS),
        Task.from_rows("mood", train=rows(102), test=rows(11), words=WORDS),
        binary(positive="bad"),
        binary(seed=1),
    ]
    prints = {other.fingerprint for other in [task, *changed]}
    assert len(prints) == len(changed) + 1
    assert binary(source="elsewhere") == task
    assert hash(binary()) == hash(task)


def test_a_splits_fingerprint_knows_where_texts_end() -> None:
    def fingerprint(*pairs: tuple[str, str]) -> str:
        given = [{"a": a, "b": b, "label": i % 2} for i, (a, b) in enumerate(pairs)]
        words = {"0": "no", "1": "yes"}
        return Task.from_rows("t", train=given, dev=given, test=given, text=("a", "b"), words=words).test.fingerprint

    told = [
        fingerprint(("ab", "c"), ("d", "")),
        fingerprint(("a", "bc"), ("d", "")),
        fingerprint(("ab", "c"), ("", "d")),
        fingerprint(("abc", "d"), ("", "")),
        fingerprint(("a", "c"), ("bd", "")),
        fingerprint(("ab", "c"), ("d", ""), ("", ""), ("", "")),
    ]
    assert len(set(told)) == len(told)
    assert fingerprint(("ab", "c"), ("d", "")) == told[0]


def test_a_splits_fingerprint_does_not_see_how_it_is_held() -> None:
    task = binary(50_000)
    everything = Task.from_rows("mood", train=rows(4), dev=rows(50_000), test=rows(4), words=WORDS).dev
    shuffled = np.random.default_rng(0).permutation(50_000)
    assert everything.take(shuffled).take(np.argsort(shuffled)).fingerprint == everything.fingerprint
    assert everything.take(shuffled).fingerprint != everything.fingerprint
    assert pickle.loads(pickle.dumps(task)).fingerprint == task.fingerprint


def test_take_takes_in_the_order_asked() -> None:
    split = binary().train.take([5, 2, 9]).take([2, 0])
    assert texts(split) == [texts(binary().train)[9], texts(binary().train)[5]]
    assert split.rows["text"][:] == texts(split)
    assert split.labels.tolist() == split.rows["label"][:]
    assert len(split.take([])) == 0
    assert split.take([]).column("text").to_pylist() == []


@pytest.mark.parametrize(
    "task",
    [
        binary(seed=5, positive="bad", kind="sentiment", prompts=['say "yes"\n\\o/ \x7f é']),
        triple(subtasks=[Subtask("yes against no", ("yes",), ("no",))]).limited(train=20),
        Task.from_rows(
            'a "name"',
            train=[{"x y": "ü\n", "b": "", "label": ["-", "ja!"][i % 2]} for i in range(20)],
            test=[{"x y": "\t\"'", "b": "NA", "label": ["-", "ja!"][i % 2]} for i in range(4)],
            text=("x y", "b"),
            words={"-": "nein\\", "ja!": "ja"},
        ),
    ],
    ids=["binary", "triple", "odd names"],
)
def test_a_saved_task_comes_back_equal(task: Task, tmp_path: Path) -> None:
    path = task.save(tmp_path / "task")
    for source in (path, path.parent, str(path.parent)):
        again = load_task(source)
        assert again == task
        assert again.fingerprint == task.fingerprint
        assert again.source == str(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    load_task(path).save(path.parent)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SkillNeuronsError, match="cannot write"):
        binary().save(tmp_path / "file" / "task")


def test_all_problems_of_rows_are_told_at_once() -> None:
    with pytest.raises(SkillNeuronsError) as raised:
        Task.from_rows(
            "mood",
            train=[{"text": "a", "lable": "bad"}, {"text": "b", "lable": "good"}],
            dev=[{"text": "a", "label": "bad"}, {"text": 7, "label": "good"}],
            test=[{"text": "a", "label": "bad"}, {"text": None, "label": "god"}, {"text": "c", "label": None}],
            words=WORDS,
            positive="godo",
            lables="label",  # type: ignore[call-arg]
        )
    text = str(raised.value)
    assert text.splitlines()[0] == "the task 'mood' cannot be made: 7 problems"
    for line in (
        "lables: there is no key 'lables'; did you mean 'label'?",
        "positive: there is no label 'godo'; did you mean 'good'? (labels here: 'bad', 'good')",
        "train: there is no column 'label'; did you mean 'lable'? (columns here: 'text', 'lable')",
        "dev: column 'text' holds texts, but row 2 has a int",
        "test: row 2 has no text in 'text'",
        "test: row 3 has no label",
        "test: there is no label 'god'; did you mean 'good'? (labels here: 'bad', 'good'); row 2 has it",
    ):
        assert f"  - {line}" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task.from_rows("m", train=[], test=rows(4), words=WORDS), "train is empty"),
        (lambda: Task.from_rows("m", train=rows(40), test=[], words=WORDS), "test is empty"),
        (lambda: Task.from_rows("m", train=rows(40)[::2], test=rows(4), words=WORDS), r"no sample of 'good' \(all are"),
        (lambda: Task.from_rows("m", train=rows(40), test=rows(4), words={"bad": "no"}), "at least two labels"),
        (lambda: Task.from_rows("m", train=rows(40), test=rows(4), words={"bad": "no", "good": "no "}), "share the"),
        (lambda: Task.from_rows("m", train=rows(2), test=rows(4), words=WORDS), "after 20 % of train were set apart"),
        (lambda: Task.from_rows("m", train=[("a", "b")], test=rows(4), words=WORDS), "row 1 is a tuple"),  # type: ignore[list-item]
        (lambda: Task.from_frame("m", rows(9), words=WORDS), "not a pandas DataFrame"),  # type: ignore[arg-type]
        (lambda: Task.from_frame("m", pd.DataFrame({"text": ["a", 1], "label": [0, 1]}), words=WORDS), "mixes kinds"),
        (lambda: Task.from_frame("m", pd.DataFrame({"text": [3, 1], "label": [0, 1]}), words=WORDS), "not text"),
        (lambda: Task.from_frame("m", pd.DataFrame({"label": ["bad", "good"]}), words=WORDS), "no column 'text'"),
        (lambda: binary(seed=-1), "seed: .*greater than or equal to 0"),
        (lambda: binary(text=("text", "text")), "two different"),
        (lambda: binary(text=("label",)), "column of its own"),
        (lambda: binary(subtasks=[Subtask("s", ("good",), ("bad",))]), "more than two labels"),
        (lambda: triple(positive="yes"), "for two labels"),
        (lambda: triple(subtasks=[Subtask("s", ("yes",), ("yes", "nope"))]), "(?s)no label 'nope'.*both sides"),
        (lambda: triple(subtasks=[Subtask("claim", ("yes",), ())]), "(?s)'claim' is taken.*negative names no label"),
    ],
)
def test_each_mistake_has_its_message(make: Any, message: str) -> None:
    with pytest.raises(SkillNeuronsError, match=message):
        make()


def test_tasks_do_not_load_what_they_do_not_need() -> None:
    code = (
        "import sys, skillneurons.tasks; assert not {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
