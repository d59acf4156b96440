"""How long the package takes before it does anything."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from .figure import Row, figure
from .setting import Setting
from .turns import turns

NAME = "startup"
METHOD = """A process of its own each time, from its start to its end, files read before. The bare interpreter, which \
is part of both, stands beside them."""
WORKS = {
    "skillneurons --help": ([str(Path(sysconfig.get_path("scripts")) / "skillneurons"), "--help"], 0.3),
    "import skillneurons": ([sys.executable, "-c", "import skillneurons"], 0.5),
    "the interpreter alone": ([sys.executable, "-c", "pass"], None),
}


def measure(setting: Setting) -> Row:
    """The row."""

    def work(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, check=True, capture_output=True)

    works = {name: work(command) for name, (command, _) in WORKS.items()}
    seconds = turns(works, max(9, setting.repeats), setting.device, NAME, least=0.0)
    figures = (figure(name, seconds[name], "less", "s", asked) for name, (_, asked) in WORKS.items())
    return Row(NAME, "Start-up", METHOD, tuple(figures))
