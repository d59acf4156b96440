"""The store: what the steps of studies gave, by their keys.

    store = Store("runs/store")                      # or any address that fsspec knows
    with store.leased(key) as ours: ...
    store.put(key, folder, about)                    # the files of `folder`, then their receipt
    store.fetch(key)                                 # a folder with these files, checked
    store.verify(); store.sweep()

Where it all lies:

    objects/<checksum>         a file, under the SHA-256 of its content
    steps/<key>.json           a step's receipt: its kind and name, its inputs, its files with sizes and checksums
    leases/<key>.json          who is at work on it, and until when
    logs/<key>.json            what may differ: seconds, machine
    studies/<name>.json        the keys that a study needs

and on this machine, in the store's folder or, of an address that is none, in the user's cache:

    outputs/<content>/...      the files of one output by their names: second names of the objects
    unfinished/<key>/          state of work under way

An output is there when its receipt is, which is written last and carries a checksum of itself: what is half written is
not there. What has the same content is written once. A receipt is never replaced by another of its key, so whoever
reads an output twice reads the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import SkillNeuronsError
from ..files import cache_folder, digest, inside, replacing
from .files import WRITING, Files, linked
from .lease import SECONDS, held, leased
from .receipt import Receipt, sha256


class Spoiled(Exception):
    """An output of a key is not what its receipt says; the receipt has been withdrawn."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Store:
    """What steps gave, under `address`; `lease` are the seconds after which unrenewed work is anybody's."""

    def __init__(self, address: str | Path, lease: float = SECONDS) -> None:
        self.address = str(address)
        self.files = Files(address)
        self.lease = lease
        self.here = self.files.folder or cache_folder() / "study" / digest(self.address)
        """Where outputs are read and work is done, on this machine."""
        self._checked: set[str] = set()

    def receipt(self, key: str) -> Receipt | None:
        """The receipt of a key; None where there is none that is whole."""
        return Receipt.read(key, self.files.read(f"steps/{key}.json"))

    def has(self, key: str) -> bool:
        """Whether an output is there, by its receipt and its files' sizes."""
        receipt = self.receipt(key)
        return receipt is not None and not self._missing(receipt)

    def put(self, key: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Keep the files of `folder` as the output of `key`, unless one is there already."""
        paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        receipt = Receipt(key, about, {name: (path.stat().st_size, sha256(path)) for name, path in paths.items()})
        for name, path in paths.items():
            size, checksum = receipt.files[name]
            if self.files.size(_object(checksum)) != size:
                self.files.put(_object(checksum), path)
        if not self.has(key):
            self.files.write(f"steps/{key}.json", receipt.written())

    def fetch(self, key: str) -> Path:
        """A folder with the files of an output, which are not to be changed.

        Raises `Spoiled` where the output is not there or not whole; its receipt is gone then.
        """
        receipt = self.receipt(key)
        if receipt is None or self._missing(receipt):
            self.withdraw(key)
            raise Spoiled(key)
        folder = self.here / "outputs" / receipt.content
        if key in self._checked:
            return folder
        for name, (_, checksum) in receipt.files.items():
            path = inside(folder, name)
            if _is(path, checksum):
                continue
            if (source := self._brought(checksum)) is None:
                self.files.remove(_object(checksum))  # or the next writer would leave it as it is
                self.withdraw(key)
                raise Spoiled(key)
            linked(source, path, self.here / WRITING)
        self._checked.add(key)
        return folder

    def withdraw(self, key: str) -> None:
        """Take back the receipt of a key: its step is to be done anew."""
        self.files.remove(f"steps/{key}.json")
        self._checked.discard(key)

    def leased(self, key: str) -> AbstractContextManager[bool]:
        """Take the lease of a key while the block runs; yields whether it could be taken."""
        return leased(self.files, f"leases/{key}.json", self.lease)

    def scratch(self, key: str) -> Path:
        """Where work under way on a key may keep its state; on this machine."""
        return self.here / "unfinished" / key

    def keys(self) -> list[str]:
        """The keys of all receipts, whole or not."""
        names = (Path(name) for name in self.files.sizes("steps"))
        return [name.stem for name in names if name.suffix == ".json"]

    def receipts(self) -> Iterator[Receipt]:
        """All receipts that are whole."""
        return (receipt for key in self.keys() if (receipt := self.receipt(key)) is not None)

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Read everything again: every key, with what is wrong, None where nothing is. What is wrong is withdrawn."""
        sound: dict[str, bool] = {}
        for key, receipt in {key: self.receipt(key) for key in self.keys()}.items():
            if receipt is None:
                self.withdraw(key)
                yield key, "its receipt is not whole"
                continue
            for checksum in {own for _, own in receipt.files.values()} - sound.keys():
                sound[checksum] = self._sum(checksum) == checksum
                if not sound[checksum]:
                    self.files.remove(_object(checksum))
            wrong = [name for name, (_, checksum) in receipt.files.items() if not sound[checksum]]
            if wrong:
                self.withdraw(key)
            yield key, f"{', '.join(wrong)} not what was written" if wrong else None

    def log(self, key: str, about: Mapping[str, Any]) -> None:
        """Keep what may differ between two runs of a step."""
        self.files.write(f"logs/{key}.json", json.dumps(about).encode())

    def told(self, key: str) -> dict[str, Any]:
        """What `log` kept; nothing where there is none."""
        try:
            return dict(json.loads(self.files.read(f"logs/{key}.json") or b"{}"))
        except ValueError:
            return {}

    def remember(self, study: str, keys: Mapping[str, str]) -> None:
        """Keep the keys that a study needs, by the names of its steps."""
        self.files.write(f"studies/{study}.json", json.dumps(dict(keys), indent=1).encode())

    def studies(self) -> dict[str, dict[str, str]]:
        """The studies, with the keys that each needs by the names of its steps."""
        found = {}
        for name in self.files.sizes("studies"):
            if (written := self.files.read(name)) is not None and name.endswith(".json"):
                found[Path(name).stem] = dict(json.loads(written))
        return found

    def forget(self, study: str) -> None:
        """A study needs nothing any more. Raises `SkillNeuronsError` where there is no such study."""
        if study not in (known := self.studies()):
            raise SkillNeuronsError(f"{self.address} has the studies {', '.join(known) or '(none)'}; given: {study!r}.")
        self.files.remove(f"studies/{study}.json")

    def sweep(self) -> tuple[int, int]:
        """Remove what no study needs: outputs, logs, state of work. Returns how many outputs, and the bytes.

        Raises `SkillNeuronsError` while somebody is at work in the store.
        """
        busy = [name for name in self.files.sizes("leases") if held(self.files, name)]
        if busy:
            raise SkillNeuronsError(
                f"a store is swept while nobody works in it; {len(busy)} steps of {self.address} are under way. Wait "
                "for them, or stop them."
            )
        needed = {key for keys in self.studies().values() for key in keys.values()}
        live = [receipt for receipt in self.receipts() if receipt.key in needed]
        checksums = {checksum for receipt in live for _, checksum in receipt.files.values()}
        gone = [key for key in self.keys() if key not in needed]
        dead = {name: size for name, size in self.files.sizes("objects").items() if name.split("/")[1] not in checksums}
        for key in gone:
            self.withdraw(key)
        for name in dead:
            self.files.remove(name)
        for name in self.files.sizes("logs"):
            if Path(name).stem not in needed:
                self.files.remove(name)
        self.files.remove("leases")
        contents = {receipt.content for receipt in live}
        to_do = needed - {receipt.key for receipt in live}
        for part, wanted in (("objects", checksums), ("outputs", contents), ("unfinished", to_do), (WRITING, set())):
            for path in (self.here / part).glob("*"):
                if path.name not in wanted:
                    _removed(path)
        return len(gone), sum(dead.values())

    def _missing(self, receipt: Receipt) -> list[str]:
        return [name for name, (size, own) in receipt.files.items() if self.files.size(_object(own)) != size]

    def _brought(self, checksum: str) -> Path | None:
        """A file of the store, on this machine; None where it is not what it was."""
        path = self.here / _object(checksum)
        if self.files.folder is None and not _is(path, checksum):
            with replacing(path) as temporary:
                temporary.write_bytes(self.files.read(_object(checksum)) or b"")
        return path if _is(path, checksum) else None

    def _sum(self, checksum: str) -> str | None:
        """What the checksum of a file of the store is now; None where it is gone."""
        if self.files.folder is not None:
            path = self.files.folder / _object(checksum)
            return sha256(path) if path.is_file() else None
        content = self.files.read(_object(checksum))
        return None if content is None else hashlib.sha256(content).hexdigest()


def _object(checksum: str) -> str:
    return f"objects/{checksum}"


def _is(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256(path) == checksum


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
