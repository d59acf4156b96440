"""Pages as a reader and a browser see them.

seen = Seen.of(page.read_text())           # seen.tags, seen.ids, seen.text, seen.headings
@browser                                    # a test that takes headless Chromium
browse(page, "#neuron=1.3")                # the document as it is once its script has run
browse(page, script="document.title = innerWidth", width=390)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--virtual-time-budget=5000",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@dataclass
class Seen(HTMLParser):
    """The elements of a page with their attributes, and its text without scripts and styles."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    _silent: bool = False

    @classmethod
    def of(cls, page: str) -> Seen:
        """Read a whole page."""
        seen = cls()
        HTMLParser.__init__(seen)
        seen.feed(page)
        seen.close()
        return seen

    @property
    def ids(self) -> list[str]:
        """Of all elements that have one."""
        return [given["id"] for _, given in self.tags if "id" in given]

    @property
    def headings(self) -> list[int]:
        """Their levels, in order."""
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]

    def named(self, *tags: str) -> list[dict[str, str]]:
        """The attributes of the elements of some names."""
        return [given for tag, given in self.tags if tag in tags]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._silent = tag in ("script", "style")
        self.text += " " if tag in ("td", "th", "dt", "dd", "p", "li") else ""

    def handle_data(self, data: str) -> None:
        """Text between elements."""
        if not self._silent:
            self.text += data


def browse(page: Path, link: str = "", *, script: str = "", width: int = 1280) -> str:
    """The page after its script has run; `script` runs after it, in a copy whose policy allows that."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as folder:
        if script:
            text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
            page = Path(folder) / "copy.html"
            page.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        words = [f"--user-data-dir={folder}/user", f"--window-size={width},844", "--dump-dom", f"file://{page}{link}"]
        done = subprocess.run([CHROMIUM, *FLAGS, *words], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout
