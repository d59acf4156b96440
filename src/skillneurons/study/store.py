"""The store: what the steps of studies gave, by their keys.

    store = Store("runs/store")                      # or any address that fsspec knows
    with store.leased(key) as ours: ...
    store.put(key, folder, about)                    # the files of `folder`, then their receipt
    store.fetch(key)                                 # a folder with these files, checked
    store.verify(); store.sweep()

Where it all lies:

    objects/<content>/...      files of one output, under a hash of their names and contents
    steps/<key>.json           a step's receipt: its kind and name, its inputs, its files with sizes and checksums
    leases/<key>.json          who is at work on it, and until when
    logs/<key>.json            what may differ: seconds, machine
    studies/<name>.json        the keys that a study needs
    unfinished/<key>/          state of work under way; of a store that is no folder, in the user's cache

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SkillNeuronsError
from ..files import cache_folder, digest, inside, replacing
from .files import WRITING, Files
from .lease import SECONDS, held, leased


class Spoiled(Exception):
    """An output of a key is not what its receipt says; the receipt has been withdrawn."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True)
class Receipt:
    """What a step gave: `files` has, by name, bytes and SHA-256; `about` its kind, its name and its inputs' keys."""

    key: str
    about: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]

    @property
    def content(self) -> str:
        """The hash of the files' names and contents."""
        return digest(*(part for name, (_, checksum) in sorted(self.files.items()) for part in (name, checksum)))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def written(self) -> bytes:
        """As the store keeps it, sealed."""
        content = {"key": self.key, "about": dict(self.about), "files": dict(self.files)}
        whole = json.dumps(content, sort_keys=True)
        return json.dumps({"seal": digest(whole), **content}, indent=1, sort_keys=True).encode()

    @classmethod
    def read(cls, key: str, written: bytes | None) -> Receipt | None:
        """What was written; None where it is not whole, or of another key."""
        try:
            content = json.loads(written or b"")
            seal = content.pop("seal")
            if seal != digest(json.dumps(content, sort_keys=True)) or content["key"] != key:
                return None
            return cls(key, content["about"], {name: (size, own) for name, (size, own) in content["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class Store:
    """What steps gave, under `address`; `lease` are the seconds after which unrenewed work is anybody's."""

    def __init__(self, address: str | Path, lease: float = SECONDS) -> None:
        self.address = str(address)
        self.files = Files(address)
        self.lease = lease
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
        there = self.files.sizes(f"objects/{receipt.content}")
        for name, path in paths.items():
            kept = f"objects/{receipt.content}/{name}"
            if there.get(kept) != receipt.files[name][0]:
                self.files.put(kept, path)
        if not self.has(key):
            self.files.write(f"steps/{key}.json", receipt.written())

    def fetch(self, key: str) -> Path:
        """A folder with the files of an output; of an address that is no folder, a copy in the user's cache.

        Raises `Spoiled` where the output is not there or not whole; its receipt is gone then.
        """
        receipt = self.receipt(key)
        if receipt is None or self._missing(receipt):
            self.withdraw(key)
            raise Spoiled(key)
        own = self.files.folder or cache_folder() / "study"
        folder = own / "objects" / receipt.content
        if key in self._checked:
            return folder
        for name, (_, checksum) in receipt.files.items():
            path = inside(folder, name)
            if self.files.folder is None and not (path.exists() and sha256(path) == checksum):
                with replacing(path) as temporary:
                    temporary.write_bytes(self.files.read(f"objects/{receipt.content}/{name}") or b"")
            if sha256(path) != checksum:
                self._discard(receipt, name)
                raise Spoiled(key)
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
        own = self.files.folder or cache_folder() / "study"
        return own / "unfinished" / key

    def keys(self) -> list[str]:
        """The keys of all receipts, whole or not."""
        names = (Path(name) for name in self.files.sizes("steps"))
        return [name.stem for name in names if name.suffix == ".json"]

    def receipts(self) -> Iterator[Receipt]:
        """All receipts that are whole."""
        return (receipt for key in self.keys() if (receipt := self.receipt(key)) is not None)

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Read everything again: every key, with what is wrong, None where nothing is. What is wrong is withdrawn."""
        for key in self.keys():
            receipt = self.receipt(key)
            if receipt is None:
                self.withdraw(key)
                yield key, "its receipt is not whole"
                continue
            wrong = [name for name, (_, checksum) in receipt.files.items() if self._sum(receipt, name) != checksum]
            for name in wrong:
                self._discard(receipt, name)
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
        receipts = {receipt.key: receipt for receipt in self.receipts()}
        live = {receipt.content for key, receipt in receipts.items() if key in needed}
        gone = [key for key in self.keys() if key not in needed]
        dead = {name: size for name, size in self.files.sizes("objects").items() if name.split("/")[1] not in live}
        for key in gone:
            self.withdraw(key)
        for content in {name.split("/")[1] for name in dead}:
            self.files.remove(f"objects/{content}")
        for name in self.files.sizes("logs"):
            if Path(name).stem not in needed:
                self.files.remove(name)
        for name in ("leases", WRITING):
            self.files.remove(name)
        for folder in self.scratch("").glob("*"):
            if folder.name not in needed:
                shutil.rmtree(folder, ignore_errors=True)
        return len(gone), sum(dead.values())

    def _missing(self, receipt: Receipt) -> list[str]:
        under = f"objects/{receipt.content}"
        there = self.files.sizes(under)
        return [name for name, (size, _) in receipt.files.items() if there.get(f"{under}/{name}") != size]

    def _discard(self, receipt: Receipt, name: str) -> None:
        """A file is not what it was: remove it, so that it's written anew, and the receipts that count on it."""
        self.files.remove(f"objects/{receipt.content}/{name}")
        for other in list(self.receipts()):
            if other.content == receipt.content:
                self.withdraw(other.key)

    def _sum(self, receipt: Receipt, name: str) -> str | None:
        kept = f"objects/{receipt.content}/{name}"
        if self.files.folder is not None:
            path = inside(self.files.folder, kept)
            return sha256(path) if path.is_file() else None
        content = self.files.read(kept)
        return None if content is None else hashlib.sha256(content).hexdigest()


def sha256(path: Path) -> str:
    """A file's checksum, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
