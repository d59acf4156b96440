"""The documentation is true: its Python runs as written, its commands and options exist, its links lead somewhere.

A Python block that is not run says why in a comment just before it: `<!-- not run: needs the hub -->`.
"""

import contextlib
import io
import re
import shlex
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

from skillneurons.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$", re.S | re.M)
NOT_RUN = re.compile(r"<!-- not run: \S.*-->\s*\Z")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(<?([^)>\s]+)>?[^)]*\)")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line of its first line, whether it is to run."""

    language: str
    text: str
    line: int
    runs: bool


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page's text."""
    for found in FENCE.finditer(page):
        indent = len(found["indent"])
        text = "".join(line[indent:] for line in found["text"].splitlines(keepends=True))
        runs = found["language"] == "python" and not NOT_RUN.search(page[: found.start()])
        yield Block(found["language"], text, page.count("\n", 0, found.start()) + 2, runs)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def sessions() -> list[list[str]]:
    """The words of every `$ ...` line in the pages' console blocks."""
    lines = [line for page in PAGES for block in blocks(read(page)) if block.language == "console"
             for line in block.text.replace("\\\n", " ").splitlines()]  # fmt: skip
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def test_blocks_are_told_apart() -> None:
    page = "```python\na\n```\n\n<!-- not run: slow -->\n```python\nb\n```\n- x\n\n  ```console\n  $ c\n  ```\n"
    assert list(blocks(page)) == [
        Block("python", "a\n", 2, True),
        Block("python", "b\n", 7, False),
        Block("console", "$ c\n", 12, False),
    ]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own to work in, and no way out of this machine."""

    def refuse(*_args: Any) -> None:
        raise AssertionError("the documentation's code reaches for the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKILLNEURONS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.runs for block in blocks(read(page)))],
    ids=name,
)
@pytest.mark.usefixtures("offline")
def test_python_runs_as_written(page: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(read(page)):
        if block.runs:
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


@cache
def options(command: str) -> frozenset[str]:
    """The options that `skillneurons COMMAND --help` lists, less those that every command has."""
    help = io.StringIO()
    with contextlib.redirect_stdout(help), pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0, f"no such command: {command}"
    return frozenset(re.findall(r"(?<!\S)--(?!help|no-)[a-z][\w.-]*", help.getvalue()))


@pytest.mark.parametrize(
    "words", [words for words in sessions() if words[0] == "skillneurons"], ids=lambda words: " ".join(words[:3])
)
def test_commands_and_options_exist(words: list[str]) -> None:
    named = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    assert named <= options(words[1]), named - options(words[1])


def test_every_option_is_on_the_page_of_the_command_line() -> None:
    page = read(ROOT / "docs" / "command-line.md")
    for command in ("demo", "find", "perturb", "steer", "words", "inspect"):
        section = page.partition(f"## skillneurons {command}\n")[2].partition("\n## ")[0]
        missing = {option for option in options(command) if f"`{option}`" not in section}
        assert not missing, f"{command}: {missing}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.M))
    named = {words[1] for words in sessions() if words[0] == "make"}
    assert {"demo", "test"} <= named
    assert named <= targets


def anchors(page: str) -> set[str]:
    """The ids of a page's headings, as the documentation's builder makes them."""
    prose = FENCE.sub("", page)
    return {slugify(re.sub(r"[`*]", "", title), "-") for title in re.findall(r"^#+ +(.+?) *$", prose, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", read(page))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(read(file)), f"{name(page)} links to {target}"


def test_every_page_is_in_the_navigation() -> None:
    configuration = read(ROOT / "mkdocs.yml")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES[2:]]
    assert [page for page in pages if f": {page}\n" not in configuration] == []
