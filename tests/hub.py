"""A small dataset hub on loopback, for the library's own client: the paper's datasets, a few rows each.

    with serving(DATASETS) as endpoint:
        subprocess.run(..., env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"})

Ids, configurations, columns, splits and names of classes are those of the real hub; the rows are made up. A repository
has a card (README.md) whose header declares features and files, and one Parquet file a split.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import posixpath
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Config:
    """One configuration: its text columns and its label's classes, in column order, and the rows of each split."""

    columns: Sequence[str]
    classes: Sequence[str]
    splits: Mapping[str, int]
    hidden: Sequence[str] = ()  # splits whose labels are all -1

    def table(self, split: str) -> pa.Table:
        """`split`'s rows: the classes in turn, each text naming its split, row, column and class."""
        labels = [-1 if split in self.hidden else row % len(self.classes) for row in range(self.splits[split])]
        names = [self.classes[label] for label in labels]
        values: dict[str, list[Any]] = {"label": labels, "idx": list(range(len(labels)))}
        texts = {c: [f"{split} {row} {c} {name}" for row, name in enumerate(names)] for c in self.columns}
        return pa.table({column: values.get(column, texts[column]) for column in self.columns})

    def features(self) -> list[dict[str, Any]]:
        """The columns as a dataset card declares them."""
        classes = {"class_label": {"names": {str(number): name for number, name in enumerate(self.classes)}}}
        kinds: dict[str, Any] = {"label": classes, "idx": "int64"}
        return [{"name": column, "dtype": kinds.get(column, "string")} for column in self.columns]


TOPICS = (
    "Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation", "Building",
    "NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork",
)  # fmt: skip
DATASETS: dict[str, dict[str, Config]] = {
    "stanfordnlp/sst2": {
        "default": Config(
            ("idx", "sentence", "label"),
            ("negative", "positive"),
            {"train": 40, "validation": 10, "test": 6},
            hidden=("test",),
        )
    },
    "stanfordnlp/imdb": {
        "plain_text": Config(
            ("text", "label"), ("neg", "pos"), {"train": 40, "test": 12, "unsupervised": 8}, hidden=("unsupervised",)
        )
    },
    "cardiffnlp/tweet_eval": {
        "emotion": Config(("text", "label"), ("anger", "joy", "optimism", "sadness"), {"train": 8, "test": 8}),
        "sentiment": Config(
            ("text", "label"), ("negative", "neutral", "positive"), {"train": 60, "validation": 9, "test": 12}
        ),
    },
    "nyu-mll/glue": {
        "mnli": Config(
            ("premise", "hypothesis", "label", "idx"),
            ("entailment", "neutral", "contradiction"),
            {"train": 60, "validation_matched": 9, "validation_mismatched": 6, "test_matched": 3, "test_mismatched": 3},
            hidden=("test_matched", "test_mismatched"),
        ),
        "qnli": Config(
            ("question", "sentence", "label", "idx"),
            ("entailment", "not_entailment"),
            {"train": 40, "validation": 8, "test": 4},
            hidden=("test",),
        ),
    },
    "fancyzhx/ag_news": {
        "default": Config(("text", "label"), ("World", "Sports", "Business", "Sci/Tech"), {"train": 80, "test": 16})
    },
    "fancyzhx/dbpedia_14": {
        "dbpedia_14": Config(("label", "title", "content"), TOPICS, {"train": 280, "test": 56}),
    },
}


def repository(configs: Mapping[str, Config]) -> dict[str, bytes]:
    """The files of a dataset's repository by path."""
    files, infos, sections = {}, [], []
    for name, config in configs.items():
        counts = [{"name": split, "num_bytes": 0, "num_examples": rows} for split, rows in config.splits.items()]
        infos.append({"config_name": name, "features": config.features(), "splits": counts})
        paths = [{"split": split, "path": f"{name}/{split}-*"} for split in config.splits]
        sections.append({"config_name": name, "data_files": paths})
        for split in config.splits:
            buffer = io.BytesIO()
            pq.write_table(config.table(split), buffer)
            files[f"{name}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    header = json.dumps({"dataset_info": infos, "configs": sections})  # JSON is YAML too
    return {"README.md": f"---\n{header}\n---\n".encode(), **files}


@contextlib.contextmanager
def serving(datasets: Mapping[str, Mapping[str, Config]]) -> Iterator[str]:
    """Serve `datasets` on a free port of the loopback address; yield the endpoint's URL."""
    repositories = {name: repository(configs) for name, configs in datasets.items()}
    handler = type("Handler", (_Handler,), {"repositories": repositories})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    repositories: Mapping[str, Mapping[str, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what was asked is of no interest to a test."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        match unquote(urlsplit(self.path).path).strip("/").split("/"):
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "datasets", owner, name, "revision", revision]:
                self._describe(f"{owner}/{name}", revision)
            case ["api", "datasets", owner, name, "tree", revision, *path]:
                self._list(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._refuse(404, "NotFound", "no such address")

    def _files(self, name: str, revision: str) -> Mapping[str, bytes] | None:
        if name not in self.repositories:
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        if revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return None
        return self.repositories[name]

    def _describe(self, name: str, revision: str) -> None:
        files = self._files(name, revision)
        if files is not None:
            siblings = [{"rfilename": path} for path in files]
            self._send({"_id": COMMIT[:24], "id": name, "sha": COMMIT, "private": False, "siblings": siblings})

    def _list(self, name: str, revision: str, folder: str) -> None:
        files = self._files(name, revision)
        if files is not None:
            folders = {posixpath.dirname(path) for path in files} - {""}
            entries = [{"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0} for path in folders]
            entries += [
                {"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
                for path, content in files.items()
            ]
            self._send([entry for entry in entries if posixpath.dirname(str(entry["path"])) == folder])

    def _resolve(self, name: str, revision: str, path: str) -> None:
        files = self._files(name, revision)
        if files is None:
            return
        if path not in files:
            self._refuse(404, "EntryNotFound", "Entry not found", commit=COMMIT)
            return
        content = files[path]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_oid(content)}"')
        self._finish(content, "application/octet-stream")

    def _refuse(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self._finish(json.dumps({"error": message}).encode(), "application/json")

    def _send(self, value: Any) -> None:
        self.send_response(200)
        self._finish(json.dumps(value).encode(), "application/json")

    def _finish(self, content: bytes, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
