"""Task files: every format gives the same task, nothing stale is served, and all mistakes are told at once."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skillneurons.errors import SkillNeuronsError
from skillneurons.tasks import CATALOGUE, Task, load_task
from skillneurons.tasks.spec import TaskFile
from skillneurons.tasks.taskfile import read_task_file, to_toml

Row = dict[str, Any]
WORDS = {"bad": "negative", "good": "positive"}
TEXTS = ["plain", "a, comma", 'a "quote"', "NA", "null", "", " spaced ", "ünï çødé 日本", "2020-01-01", "'", "7", "nan"]
ROWS = [{"text": text, "label": ["bad", "good"][i % 2]} for i, text in enumerate(TEXTS * 2)]
FILE = """
name = "mood"
[data]
train = "train{ending}"
dev = "dev{ending}"
test = "test{ending}"
[words]
bad = "negative"
good = "positive"
"""


def write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path: Path, rows: Sequence[Row]) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pd.DataFrame(rows).to_parquet(path, row_group_size=5)


WRITERS: dict[str, Callable[[Path, Sequence[Row]], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".tsv": write_tsv,
    ".parquet": write_parquet,
}


def task_folder(folder: Path, file: str, **splits: Sequence[Row]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(file, encoding="utf-8")
    for split, rows in splits.items():
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def told(source: Path) -> str:
    with pytest.raises(SkillNeuronsError) as raised:
        load_task(source)
    return str(raised.value)


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_task(ending: str, tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "a [folder]*", FILE.format(ending=ending))
    for split, rows in {"train": ROWS, "dev": ROWS[:6], "test": ROWS[:9]}.items():
        WRITERS[ending](folder / f"{split}{ending}", rows)
    task = load_task(folder)
    assert task == Task.from_rows("mood", train=ROWS, dev=ROWS[:6], test=ROWS[:9], words=WORDS)
    assert task.train.column("text").to_pylist() == TEXTS * 2
    assert task.source == str(folder / "task.toml")
    assert task.train.loaded.cache_files, "the rows are not memory-mapped"


def test_numbers_pairs_subtasks_and_a_held_out_dev(tmp_path: Path) -> None:
    file = """
    name = "claim"
    text = ["first", "second"]
    label = "gold"
    kind = "inference"
    seed = 4
    prompts = ["Is it so?"]
    data.train = "train.jsonl"
    data.test = "test.jsonl"
    [words]
    2 = "yes"
    0 = "no"
    1 = "maybe"
    [[subtasks]]
    name = "yes-no"
    positive = ["2"]
    negative = ["0"]
    """
    rows = [{"second": f"b {i}", "gold": i % 3, "first": f"a {i}", "more": None} for i in range(60)]
    folder = task_folder(tmp_path, file, train=rows, test=rows[:7])
    task = load_task(folder / "task.toml")
    assert task.labels == ("2", "0", "1")
    assert task.text == ("first", "second") == task.train.text
    assert task.test.rows[1] == {"first": "a 1", "second": "b 1", "label": 2}
    assert task.sizes == {"train": 48, "dev": 12, "test": 7}
    assert (task.kind, task.seed, task.prompts) == ("inference", 4, ("Is it so?",))
    assert [part.name for part in task.subtasks] == ["yes-no"]
    expected = Task.from_rows(
        "claim",
        train=rows,
        test=rows[:7],
        text=("first", "second"),
        label="gold",
        words={"2": "yes", "0": "no", "1": "maybe"},
        subtasks=task.subtasks,
        kind="inference",
        seed=4,
        prompts=["Is it so?"],
    )
    assert task == expected


def test_classes_that_a_parquet_file_names(tmp_path: Path) -> None:
    import datasets

    folder = task_folder(tmp_path, FILE.format(ending=".parquet"))
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])})
    for split in ("train", "dev", "test"):
        rows = {"text": [f"text {i}" for i in range(9)], "label": [i % 2 for i in range(9)]}
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(folder / f"{split}.parquet")
    assert load_task(folder).test.labels.tolist() == [(i + 1) % 2 for i in range(9)]
    by_number = FILE.format(ending=".parquet").replace("bad =", "1 =").replace("good =", "0 =")
    (folder / "task.toml").write_text(by_number, encoding="utf-8")
    assert load_task(folder).test.labels.tolist() == [(i + 1) % 2 for i in range(9)]


@pytest.mark.parametrize("values", [(1.0, 2.0), (1.5, 2.5)])
def test_fractions_are_labels_and_nan_is_none(values: tuple[float, float], tmp_path: Path) -> None:
    names = [f"{value:g}" for value in values]
    file = FILE.format(ending=".parquet").replace("bad =", f'"{names[0]}" =').replace("good =", f'"{names[1]}" =')
    folder = task_folder(tmp_path, file)

    def write(split: str, labels: list[float]) -> None:
        table = pa.table({"text": [f"text {i}" for i in range(len(labels))], "label": labels})
        pq.write_table(table, folder / f"{split}.parquet")

    for split in ("train", "dev", "test"):
        write(split, [*values] * 4)
    assert load_task(folder).test.labels.tolist() == [0, 1] * 4
    write("test", [*values, float("nan"), *values])
    assert "test: row 3 has no label" in told(folder)


def test_keep_keeps_the_rows_of_its_labels(tmp_path: Path) -> None:
    file = FILE.format(ending=".jsonl").replace("[data]", '[data]\nkeep = ["bad", "good"]')
    rows = [{"text": f"text {i}", "label": ["bad", "other", "good", None][i % 4]} for i in range(40)]
    task = load_task(task_folder(tmp_path, file, train=rows, dev=rows, test=rows))
    assert task.test.column("text").to_pylist() == [f"text {i}" for i in range(0, 40, 2)]
    assert task.test.labels.tolist() == [0, 1] * 10


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, FILE.format(ending=".jsonl"), train=ROWS, dev=ROWS, test=ROWS)
    before, stamp = load_task(folder), (folder / "test.jsonl").stat()
    write_jsonl(folder / "test.jsonl", [{**row, "text": row["text"].replace("plain", "PLAIN")} for row in ROWS])
    os.utime(folder / "test.jsonl", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (folder / "test.jsonl").stat().st_size == stamp.st_size
    after = load_task(folder)
    assert after.test.rows["text"][0] == "PLAIN"
    assert after.train == before.train
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_is_without_mistakes_and_survives_toml(name: str, tmp_path: Path) -> None:
    file = CATALOGUE[name].file
    assert file.mistakes() == []
    (tmp_path / "task.toml").write_text(to_toml(file), encoding="utf-8")
    found: list[str] = []
    assert read_task_file(tmp_path / "task.toml", found) == file
    assert found == []


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = """
    name = "claim"
    lable = "gold"
    text = ["text", "txt"]
    positive = "yes"
    seed = "x"
    [data]
    train = "train.jsonl"
    dev = "dve.jsonl"
    test = "test.xlsx"
    validation = "dev.jsonl"
    keep = ["perhaps"]
    [words]
    no = "negative"
    maybe = "neutral"
    yes = "negative"
    [[subtasks]]
    name = "yes-rest"
    positive = ["yes", "maybe"]
    negative = ["no", "maybe", "nay"]
    [[subtasks]]
    positive = ["yes"]
    [[subtasks]]
    name = "claim"
    positive = "yes"
    negative = "no"
    """
    rows: list[Row] = [{"text": "a", "title": "b", "label": label} for label in ("yes", "no")]
    text = told(task_folder(tmp_path, file, train=rows, dev=rows))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == f"the task file {tmp_path / 'task.toml'}: {len(lines) - 1} problems"
    assert lines[1:] == [
        "- seed: input should be a valid integer, unable to parse string as an integer (given: 'x')",
        "- subtasks.1.name is missing",
        "- subtasks.1.negative is missing",
        "- data.validation: there is no key 'validation' (keys here: 'train', 'dev', 'test', 'hub', 'config', "
        "'revision', 'keep')",
        "- lable: there is no key 'lable'; did you mean 'label'? (keys here: 'name', 'text', 'label', 'kind', "
        "'positive', 'seed', 'prompts', 'words', 'subtasks', 'data')",
        "- words: the labels no, yes share the label word 'negative'; give each its own",
        "- positive is for two labels: with more, say it in [[subtasks]]",
        "- subtask 'yes-rest': negative: there is no label 'nay' (labels here: 'no', 'maybe', 'yes')",
        "- subtask 'yes-rest': maybe cannot be on both sides",
        "- subtasks: the name 'claim' is taken; each has its own, other than the task's",
        "- data.dev: there is no file 'dve.jsonl'; did you mean 'dev.jsonl'? (files here: 'dev.jsonl', 'train.jsonl')",
        "- data.test: 'test.xlsx' ends in '.xlsx'; files end in .jsonl, .csv, .tsv, .parquet",
        "- data.keep: there is no label 'perhaps' (labels here: 'no', 'maybe', 'yes')",
        "- train: there is no column 'txt'; did you mean 'text'? (columns here: 'text', 'title', 'label')",
    ]


def test_what_is_wrong_in_the_rows_is_told_with_its_place(tmp_path: Path) -> None:
    train: list[Row] = [
        *ROWS,
        {"text": "x", "label": "god"},
        {"text": "x", "label": None},
        {"text": "y", "label": "god"},
    ]
    dev: list[Row] = [{"text": "a", "label": "bad"}, {"text": None, "label": "bad"}]
    test = [{"text": i, "label": [i]} for i in range(3)]
    text = told(task_folder(tmp_path, FILE.format(ending=".jsonl"), train=train, dev=dev, test=test))
    assert "6 problems" in text
    for line in (
        f"train: there is no label 'god'; did you mean 'good'? (labels here: 'bad', 'good'); "
        f"2 rows (the first is row {len(ROWS) + 1}) have it. Give it a word in [words], or list",
        f"train: row {len(ROWS) + 2} has no label",
        "dev: row 2 has no text in 'text'",
        "dev has no sample of 'good' (all are 'bad')",
        "test: column 'label' holds List(Value('int64')), not labels",
        "test: column 'text' holds int64, not text",
    ):
        assert line in text


def test_the_wrong_label_column_is_suspected(tmp_path: Path) -> None:
    file = FILE.format(ending=".jsonl").replace("[data]", 'label = "id"\n[data]')
    rows = [{"text": "a", "label": "bad", "id": f"id-{i}"} for i in range(30)]
    text = told(task_folder(tmp_path, file, train=rows, dev=rows, test=rows))
    assert text.count("there is no label 'id-") == 15
    assert "train: 25 more labels without a word; is 'id' the right column?" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.jsonl", '{"text": "a", "label": "bad"\n', "data.test cannot be read: JSON parse error"),
        ("test.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "label": "x"}\n', r"changed from number to string"),
        ("test.jsonl", "", "'test.jsonl' is empty"),
        ("test.jsonl", "\n \n", "'test.jsonl' is empty"),
        ("test.csv", "text,label\n", "'test.csv' is empty"),
        ("test.csv", "", "data.test cannot be read: No columns to parse"),
        ("test.csv", "text,label\na, b,bad\nc,good\n", "row 1 has more values than the header has columns"),
        ("test.csv", "text,label\na,bad\nb, c,good\n", "Expected 2 fields in line 3, saw 3"),
        ("test.csv", "text,label\na,bad\nb\n", r"there is no label ''.*row 2 has it"),
        ("test.csv", "text;label\na;bad\n", r"no column 'text'.*columns here: 'text;label'"),
        ("test.csv", b"text,label\n\xff,bad\n", "can't decode byte 0xff"),
        ("test.parquet", "text", "data.test cannot be read"),
        ("sub/../../test.csv", None, "leaves the folder"),
        ("sub/test.csv", None, r"there is no file 'sub/test.csv' \(files here: none\)"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, content: str | bytes | None, message: str, tmp_path: Path) -> None:
    file = FILE.format(ending=".jsonl").replace("test.jsonl", name)
    folder = task_folder(tmp_path / "task", file, train=ROWS, dev=ROWS)
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SkillNeuronsError, match=f"problems?\n(.|\n)*{message}"):
        load_task(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("name = mood", r"not valid TOML: .*line 1, column 8"),
        ('a = "a"\na = "b"\nc = ""', r"not valid TOML: .*line 2"),
        ("", r"name is missing(.|\n)*at least two labels(.|\n)*data.train is missing(.|\n)*data.test is missing"),
        ('data.hub = "sst2"', "data.hub is 'owner/name'"),
        ('data.train = "a.csv"\ndata.test = "a.csv"\ndata.config = "x"', "data.config is for a dataset on the hub"),
        ("data = 3", "data: input should be"),
        ("words = [1]", "words: input should be a valid dictionary"),
        ("words.a = 1", r"words.a: input should be a valid string \(given: 1\)"),
        ("subtasks = [3]", "subtasks.0: input should be"),
        ('text = ["a", "b", "c"]', "text names one column, or two"),
        ('text = ["a", 3]', r"text.1: input should be a valid string \(given: 3\)"),
        (
            '[[subtasks]]\nname = "a"\npositve = "x"',
            "subtasks.0.positve: there is no key 'positve'; did you mean 'positive'",
        ),
    ],
)
def test_a_file_that_is_no_task_file(file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SkillNeuronsError, match=message):
        load_task(task_folder(tmp_path, file))


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    folder = task_folder(
        tmp_path, FILE.format(ending=".jsonl").replace("test.jsonl", "test.parquet"), train=ROWS, dev=ROWS
    )
    pd.DataFrame({"text": [], "label": []}).to_parquet(folder / "test.parquet")
    assert "'test.parquet' is empty" in told(folder)


def test_paths_that_are_no_task_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in told(tmp_path)
    assert "cannot be read: No such file" in told(tmp_path / "other.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    assert "is not UTF-8" in told(tmp_path / "latin.toml")


def test_an_unknown_name_lists_what_is_known() -> None:
    pytest.importorskip("skillneurons.tasks.miniature")
    for name, near in {"sst": "sst2", "miniature/fims": "miniature/films", "imbd": "imdb"}.items():
        with pytest.raises(SkillNeuronsError) as raised:
            load_task(name)
        text = str(raised.value)
        assert text.startswith(f"there is no task {name!r}")
        assert f"Did you mean {near}" in text
        for known in (*CATALOGUE, "miniature/films"):
            assert known in text.split("Known tasks: ")[1]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    folder = task_folder(tmp_path / "task", FILE.format(ending=".jsonl"), train=ROWS, dev=ROWS, test=ROWS)
    assert "HF_DATASETS_CACHE; free some space or set it" in told(folder)


def test_loading_leaves_the_libraries_settings_alone(tmp_path: Path) -> None:
    import datasets

    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    load_task(task_folder(tmp_path, FILE.format(ending=".jsonl"), train=ROWS, dev=ROWS, test=ROWS))
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before


def test_a_specs_defaults_are_those_of_a_file() -> None:
    file = TaskFile(name="mood", words=WORDS)
    assert (file.text, file.label, file.seed, file.labels) == (("text",), "label", 0, ("bad", "good"))
