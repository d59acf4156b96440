"""Imports go one way: the contract in pyproject.toml holds, and a wrong import breaks it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Import-linter's verdict on the package under `folder/src`, by the contract in its pyproject.toml."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_package_keeps_the_contract() -> None:
    verdict = lint(ROOT)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's code that a test may spoil, with the contract beside its `src`."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file in (ROOT / "src").rglob("*.py"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return tmp_path / "src" / "skillneurons"


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("errors", "cli"), ("models", "finding"), ("tasks", "models"), ("tuning", "finding")],
)
def test_a_wrong_import_breaks_the_contract(importer: str, imported: str, package: Path) -> None:
    file = package / f"{importer}.py"
    if not file.exists():
        file = package / importer / "__init__.py"
    file.write_text(f"{file.read_text(encoding='utf-8')}\nimport skillneurons.{imported}\n", encoding="utf-8")

    verdict = lint(package.parents[1])

    assert verdict.returncode == 1
    assert f"skillneurons.{importer} is not allowed to import skillneurons.{imported}" in verdict.stdout


def test_a_module_outside_the_layers_breaks_the_contract(package: Path) -> None:
    (package / "elsewhere.py").write_text('"""A module that no layer names."""\n', encoding="utf-8")

    verdict = lint(package.parents[1])

    assert verdict.returncode == 1
    assert "elsewhere" in verdict.stdout + verdict.stderr
