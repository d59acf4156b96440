"""What is installed: every version pinned, and a wheel that holds the whole package, data files too."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def closure(requirement: Requirement, found: set[str]) -> set[str]:
    """The names of all that a requirement brings along here, added to `found`."""
    name = canonicalize_name(requirement.name)
    visited = {f"{name}[{extra}]" for extra in (requirement.extras or {""})}
    if visited <= found:
        return found
    found |= visited
    try:
        needs = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:  # of another system, or an extra that is not installed
        return found
    for need in needs:
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}):
            closure(need, found)
    return found


def test_every_version_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines}
    built = [Requirement("hatchling"), Requirement("editables")]
    needed: set[str] = set()
    for requirement in [Requirement("skillneurons[dev,sentencepiece]"), *built]:
        closure(requirement, needed)
    names = {name.partition("[")[0] for name in needed} - {"skillneurons"}
    assert len(names) > 50
    assert names <= pinned, sorted(names - pinned)


def test_the_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "skillneurons").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - held == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
