"""Receipts: what a step gave, file by file, so that whoever reads it can tell whether it is that.

    receipt = Receipt(key, about, {"curves.json": (1204, sha256(path))})
    Receipt.read(key, receipt.written())             # None for half of one, or one of another key

A receipt is sealed by a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import digest


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
            if not all(re.fullmatch("[0-9a-f]{64}", own) for _, own in content["files"].values()):
                return None  # checksums are names of files
            return cls(key, content["about"], {name: (size, own) for name, (size, own) in content["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def sha256(path: Path) -> str:
    """A file's checksum, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
