"""Ray as an engine: two nodes give what one process gives, also with a worker killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skillneurons import SkillNeuronsError
from skillneurons.study.on_ray import Place
from skillneurons.study.store import Store

from .studies import results, run, write_study

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes of one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.add_node(**node)
    yield made.address
    made.shutdown()


def test_two_nodes_give_what_one_process_gives_though_a_worker_is_killed(cluster: str, tmp_path: Path) -> None:
    file = write_study(tmp_path / "ray", ["choices"], ["single"])
    store = Store(tmp_path / "ray" / "store")
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        """The first worker that holds a lease, in the middle of its step."""
        while not killed and not over.is_set():
            for name in store.files.sizes("leases"):
                owner = json.loads(store.files.read(name) or b"{}")
                if owner.get("pid") not in (None, os.getpid()):
                    os.kill(owner["pid"], signal.SIGKILL)
                    killed.append(owner["pid"])
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run(file, engine="ray", place=Place(address=cluster))
    finally:
        over.set()
        killer.join()
    assert found.whole, found.failed
    assert len(killed) == 1
    local = write_study(tmp_path / "local", ["choices"], ["single"])
    assert run(local).steps == found.steps  # the same keys
    one, other = results(tmp_path / "ray"), results(tmp_path / "local")
    for name in one:
        if name.startswith(("tables/", "figures/")):
            assert one[name] == other[name]
    keys = store.keys()
    owners = {store.told(key)["process"] for key in keys}
    assert os.getpid() not in owners and len(owners) <= 4  # a worker does many steps


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    file = write_study(tmp_path, ["choices"], ["single"])
    with pytest.raises(SkillNeuronsError, match=r"Ray cluster 127\.0\.0\.1:1 does not answer: .*refused"):
        run(file, engine="ray", place=Place(address="127.0.0.1:1"))


def test_a_store_that_cannot_be_written_ends_the_study_once(cluster: str, tmp_path: Path) -> None:
    file = write_study(tmp_path, ["choices"], ["single"])
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "objects").write_text("a file in the folder's place")
    with pytest.raises(SkillNeuronsError, match=r"^cannot write objects/"):
        run(file, engine="ray", place=Place(address=cluster))
