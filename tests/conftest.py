"""Every test runs with caches of its own and without the hub; set before anything that reads them is imported."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_caches = Path(tempfile.mkdtemp(prefix="skillneurons-tests-"))
for _name in ("HF_ENDPOINT", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN", "HF_XET_CACHE"):
    os.environ.pop(_name, None)
os.environ["SKILLNEURONS_CACHE"] = str(_caches / "skillneurons")
os.environ["HF_HOME"] = str(_caches / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def pytest_unconfigure() -> None:
    shutil.rmtree(_caches, ignore_errors=True)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of the real model and data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("SKILLNEURONS_ASSETS")
    if not folder:
        pytest.skip("SKILLNEURONS_ASSETS is not set: the real model and data are not at hand")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are faster on one thread than on several that wait for each other."""
    import torch

    torch.set_num_threads(1)
