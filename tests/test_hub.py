"""The catalogue through the library's own hub client, against a small hub on loopback."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skillneurons.tasks import CATALOGUE

from .hub import COMMIT, DATASETS, serving

LOAD = """
import json, time
from skillneurons.errors import SkillNeuronsError
from skillneurons.tasks import load_task

def told(source):
    try:
        task = load_task(source)
    except SkillNeuronsError as error:
        return str(error)
    splits = {"train": task.train, "dev": task.dev, "test": task.test}
    return {
        name: [[*(row[column] for column in task.text), task.labels[row["label"]]] for row in split.rows]
        for name, split in splits.items()
    }
"""
BROKEN = {
    "unknown": 'hub = "nobody/nothing"',
    "split": 'hub = "stanfordnlp/sst2"\ntest = "validaton"',
    "revision": 'hub = "stanfordnlp/sst2"\nrevision = "v9"',
    "config": 'hub = "nyu-mll/glue"\nconfig = "qnl"',
    "hidden": 'hub = "stanfordnlp/sst2"',
    "good": f'hub = "stanfordnlp/sst2"\ntest = "validation"\nrevision = "{COMMIT}"',
}


def task_file(folder: Path, name: str) -> str:
    """A task file on one of the `BROKEN` data sections."""
    path = folder / f"{name}.toml"
    words = 'words = {negative = "negative", positive = "positive"}'
    path.write_text(f'name = "{name}"\ntext = "sentence"\n{words}\n[data]\n{BROKEN[name]}\n', encoding="utf-8")
    return str(path)


def run(code: str, home: Path, **environment: str) -> Any:
    """What the code prints as JSON, in a process of its own: the libraries read their settings once, at import."""
    settings = {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-c", LOAD + code], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("huggingface")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    return {name: task_file(folder, name) for name in BROKEN}


@pytest.fixture(scope="module")
def loaded(home: Path, files: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every task of the catalogue and every broken file, as one process told them while the hub was up."""
    with serving(DATASETS) as endpoint:
        sources = {**{name: name for name in CATALOGUE}, **files}
        code = f"print(json.dumps({{name: told(source) for name, source in {sources!r}.items()}}))"
        yield run(code, home, HF_ENDPOINT=endpoint)


def expected(name: str, split: str) -> list[list[str]]:
    """The rows of a task's hub split: texts and label, of the labels that are kept."""
    file = CATALOGUE[name].file
    assert file.data.hub is not None
    configs = DATASETS[file.data.hub]
    config = configs[file.data.config or next(iter(configs))]
    table = config.table(split).to_pylist()
    rows = [[*(row[column] for column in file.text), config.classes[row[file.label]]] for row in table]
    return [row for row in rows if row[-1] in (file.data.keep or config.classes)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_loads(name: str, loaded: dict[str, Any]) -> None:
    splits, names = loaded[name], CATALOGUE[name].file.data.splits()
    assert isinstance(splits, dict), splits
    assert splits["test"] == expected(name, names["test"])
    if "dev" in names:
        assert splits["dev"] == expected(name, names["dev"])
        assert splits["train"] == expected(name, names["train"])
    else:
        everything = expected(name, names["train"])
        assert len(splits["dev"]) == -(-len(everything) // 5)
        assert Counter(map(tuple, splits["train"] + splits["dev"])) == Counter(map(tuple, everything))
    assert {row[-1] for row in splits["train"]} == set(CATALOGUE[name].file.words)


def test_the_catalogues_sizes_are_the_papers_but_for_two() -> None:
    assert [name for name, entry in CATALOGUE.items() if entry.differs] == ["ag_news", "dbpedia"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown", "'nobody/nothing' doesn't exist on the Hub or cannot be accessed. Check the id"),
        ("split", "'stanfordnlp/sst2': there is no split 'validaton'; did you mean 'validation'?"),
        ("revision", "Revision 'v9' doesn't exist for dataset 'stanfordnlp/sst2'"),
        ("config", "'nyu-mll/glue', configuration 'qnl' cannot be loaded"),
        (
            "hidden",
            "test: 6 rows (the first is row 1) have no label; leave them out, or name a split that has its labels",
        ),
    ],
)
def test_what_the_hub_does_not_have(name: str, message: str, loaded: dict[str, Any]) -> None:
    assert "1 problem\n" in loaded[name]
    assert message in loaded[name]


def test_without_the_hub_a_kept_copy_serves(home: Path, files: dict[str, str], loaded: dict[str, Any]) -> None:
    sources = {name: files[name] for name in ("good", "revision", "unknown")} | {"ag_news": "ag_news"}
    wait = "time.sleep = lambda seconds: None\n"  # the client tries for half a minute
    code = f"{wait}print(json.dumps({{name: told(source) for name, source in {sources!r}.items()}}))"
    alone = run(code, home, HF_ENDPOINT="http://127.0.0.1:9")
    assert alone["good"] == loaded["good"]
    assert isinstance(alone["good"], dict)
    assert alone["ag_news"] == loaded["ag_news"]
    assert f"the hub cannot be reached for revision 'v9', and the copy kept here is of {COMMIT}" in alone["revision"]
    for part in ("'nobody/nothing' cannot be loaded from the hub", "Check the network", "name them in a task file"):
        assert part in alone["unknown"]
