"""The store: whole or absent, what is written is what is read, at any address."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path

import pytest

from skillneurons import SkillNeuronsError
from skillneurons.study.lease import held
from skillneurons.study.store import Spoiled, Store

CONTENT = {"figures.json": b"{}", "deep/array.bin": bytes(range(256)) * 8}


def output(folder: Path, content: dict[str, bytes] | None = None) -> Path:
    for name, data in (CONTENT if content is None else content).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    address = {
        "folder": str(tmp_path / "store"), "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}",
    }  # fmt: skip
    return Store(address[request.param], lease=0.3)


def one_object(name: str) -> str:
    return f"objects/{hashlib.sha256(CONTENT[name]).hexdigest()}"


def test_what_is_put_is_fetched(store: Store, tmp_path: Path) -> None:
    assert not store.has("a") and store.receipt("a") is None and store.keys() == []
    store.put("a", output(tmp_path / "made"), {"name": "one"})
    assert store.has("a") and store.keys() == ["a"]
    folder = store.fetch("a")
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    receipt = store.receipt("a")
    assert receipt is not None and receipt.about == {"name": "one"} and receipt.size == sum(map(len, CONTENT.values()))
    assert dict(store.verify()) == {"a": None}


def test_the_same_content_is_kept_once(store: Store, tmp_path: Path) -> None:
    for key in ("a", "b"):
        store.put(key, output(tmp_path / key), {"name": key})
    assert len(store.files.sizes("objects")) == len(CONTENT)


def test_a_file_of_two_outputs_is_kept_once_and_told_of_both(store: Store, tmp_path: Path) -> None:
    """Also on this machine, where both are read; what is wrong with it is said of each."""
    shared, own = {"trial-0": b"shared" * 100}, {"run.json": b"{}"}
    store.put("a", output(tmp_path / "a", shared), {})
    store.put("b", output(tmp_path / "b", shared | own), {})
    assert sorted(store.files.sizes("objects").values()) == [2, 600]
    paths = [store.fetch(key) / "trial-0" for key in ("a", "b")]
    assert paths[0].samefile(paths[1]) and paths[0].read_bytes() == shared["trial-0"]
    name = f"objects/{hashlib.sha256(shared['trial-0']).hexdigest()}"
    store.files.write(name, b"ruined" * 100)
    assert dict(store.verify()) == dict.fromkeys("ab", "trial-0 not what was written")
    assert store.keys() == [] and store.files.read(name) is None
    store.put("b", tmp_path / "b", {})
    assert (store.fetch("b") / "trial-0").read_bytes() == shared["trial-0"]
    store.remember("one", {"step": "b"})
    store.put("a", tmp_path / "a", {})
    assert store.sweep() == (1, 0) and dict(store.verify()) == {"b": None}


def test_the_first_output_of_a_key_stays(store: Store, tmp_path: Path) -> None:
    store.put("a", output(tmp_path / "one", {"x": b"1"}), {})
    store.put("a", output(tmp_path / "two", {"x": b"2"}), {})
    assert (store.fetch("a") / "x").read_bytes() == b"1"


@pytest.mark.parametrize("harm", ["flip", "truncate", "lose"])
def test_harm_is_found_told_and_mended(store: Store, tmp_path: Path, harm: str) -> None:
    made = output(tmp_path / "made")
    store.put("a", made, {})
    store.put("b", output(tmp_path / "other", {"y": b"sound"}), {})
    name = one_object("deep/array.bin")
    data = store.files.read(name) or b""
    if harm == "lose":
        store.files.remove(name)
    else:
        store.files.write(name, data[:-1] if harm == "truncate" else data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert store.has("a") == (harm == "flip")  # a size is told without reading, a bit is not
    found = dict(store.verify())
    assert "array.bin" in (found["a"] or "") and found["b"] is None
    with pytest.raises(Spoiled):
        store.fetch("a")
    assert not store.has("a")
    store.put("a", made, {})
    assert dict(store.verify()) == {"a": None, "b": None}
    assert (store.fetch("a") / "deep/array.bin").read_bytes() == CONTENT["deep/array.bin"]


def test_a_flipped_bit_is_found_on_fetching(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("a", output(tmp_path / "made"), {})
    name = one_object("figures.json")
    store.files.write(name, b"[]")
    with pytest.raises(Spoiled):
        store.fetch("a")
    assert not store.has("a") and store.files.read(name) is None  # or the next writer would leave it as it is


def test_a_receipt_is_whole_or_none(store: Store, tmp_path: Path) -> None:
    store.put("a", output(tmp_path / "made"), {})
    written = store.files.read("steps/a.json") or b""
    changed = json.loads(written)
    changed["about"] = {"name": "another"}
    for other in (b"", written[: len(written) // 2], b"[]", json.dumps(changed).encode()):
        store.files.write("steps/a.json", other)
        assert store.receipt("a") is None and not store.has("a")
    assert dict(store.verify()) == {"a": "its receipt is not whole"}
    store.files.write("steps/b.json", written)  # of another key
    assert store.receipt("b") is None


def test_a_receipt_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"x")
    store.put("a", output(tmp_path / "made", {"x": b"x"}), {})
    receipt = store.receipt("a")
    assert receipt is not None
    outside = type(receipt)("a", {}, {"../../../secret": receipt.files["x"]})
    store.files.write("steps/a.json", outside.written())
    with pytest.raises((SkillNeuronsError, Spoiled)):
        store.fetch("a")
    led = type(receipt)("a", {}, {"x": (1, "../../secret")})
    store.files.write("steps/a.json", led.written())
    assert store.receipt("a") is None


def test_a_lease_has_one_owner_until_it_ends(store: Store) -> None:
    other = Store(store.address, lease=0.3)
    with store.leased("a") as ours:
        assert ours
        time.sleep(0.5)  # renewed meanwhile
        with other.leased("a") as theirs:
            assert not theirs
        with other.leased("b") as theirs:
            assert theirs
    with other.leased("a") as theirs:
        assert theirs


@pytest.mark.parametrize(
    ("owner", "alive"),
    [({"host": "elsewhere", "pid": 1, "until": 1e12}, True), ({"host": "elsewhere", "pid": 1, "until": 1.0}, False),
     ({"pid": 2**22 + 1, "until": 1e12}, False), ({"pid": os.getpid(), "until": 1e12}, False)],
)  # fmt: skip
def test_a_lease_ends_with_its_owner_or_its_time(store: Store, owner: dict[str, object], alive: bool) -> None:
    import platform

    name = "leases/a.json"
    store.files.write(name, json.dumps({"host": platform.node(), "process": "other"} | owner).encode())
    assert held(store.files, name) == alive
    with store.leased("a") as ours:
        assert ours != alive


def test_sweeping_leaves_what_a_study_needs(store: Store, tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        store.put(key, output(tmp_path / key, {"x": key.encode()}), {})
    store.remember("one", {"step": "a"})
    store.remember("two", {"step": "b"})
    assert store.sweep() == (1, 1)
    assert sorted(store.keys()) == ["a", "b"]
    store.forget("two")
    with store.leased("b"), pytest.raises(SkillNeuronsError, match="swept while nobody works"):
        store.sweep()
    assert store.sweep() == (1, 1)
    assert dict(store.verify()) == {"a": None} and len(store.files.sizes("objects")) == 1
    with pytest.raises(SkillNeuronsError, match="has the studies one; given: 'two'"):
        store.forget("two")


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(SkillNeuronsError, match="a store is a folder or an address that fsspec knows"):
        Store("nosuch://bucket")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_rights_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(SkillNeuronsError, match=r"cannot write steps/a\.json"):
        Store(tmp_path / "store").files.write("steps/a.json", b"")


def test_a_store_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(SkillNeuronsError, match=r"cannot write|see to room"):
        Store(tmp_path / "store").remember("one", {})
