"""Files under an address: a folder, or anything that fsspec knows, such as an object store or a shared disk.

    files = Files("runs/store"); files = Files("s3://bucket/store")
    files.write("steps/1.json", b"..."); files.read("steps/1.json")     # None where there is none
    files.create("leases/1.json", b"...")                               # False where there is one already
    files.size("objects/1"); files.sizes("steps"); files.remove("objects/1")

In a folder a file is written in `.writing`, where a kill leaves it, and renamed; elsewhere one request puts it, and
nothing is ever renamed.
Whoever reads checks what was read: no promise of the address is relied on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..errors import SkillNeuronsError, Unwritable
from ..files import unwritable

WRITING = ".writing"
"""The folder of files that are not whole yet."""


class Files:
    """Files by their names under `address`; folders come and go with them.

    Every method raises `SkillNeuronsError` where the address does not answer, has no room or gives no rights; one that
    writes, `Unwritable`.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        try:
            self._fs, self.root = url_to_fs(self.address, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise SkillNeuronsError(
                f"a store is a folder or an address that fsspec knows; {self.address} is neither: {error}. Give a "
                "folder, or install what its protocol needs."
            ) from None
        self.folder = Path(self.root) if isinstance(self._fs, LocalFileSystem) else None
        """The folder, where the address is one of this machine."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        with self._explained("read", name):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in place of an earlier one."""
        with self._explained("write", name):
            path = self._path(name, made=True)
            if self.folder is None:
                self._fs.pipe_file(path, content)
            else:
                with self._written(content) as temporary:
                    temporary.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none yet; whether it was written."""
        with self._explained("write", name):
            path = self._path(name, made=True)
            try:
                if self.folder is None:
                    self._fs.pipe_file(path, content, mode="create")
                else:
                    with self._written(content) as temporary:
                        os.link(temporary, path)  # whole from the first moment on
            except FileExistsError:
                return False
        return True

    def put(self, name: str, source: Path) -> None:
        """Write a file's content, however large."""
        with self._explained("write", name):
            path = self._path(name, made=True)
            if self.folder is None:
                self._fs.put_file(str(source), path)
            else:
                with self._written(source) as temporary:
                    temporary.replace(path)

    def size(self, name: str) -> int | None:
        """A file's bytes; None where there is no such file."""
        with self._explained("read", name):
            try:
                about = self._fs.info(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return int(about["size"]) if about["type"] == "file" else None

    def sizes(self, under: str) -> dict[str, int]:
        """The files under a folder, at any depth: their names and bytes; none where there is no such folder."""
        with self._explained("read", under):
            found = self._fs.find(self._path(under), detail=True)
        start = len(self.root.rstrip("/")) + 1
        return {path[start:]: int(about["size"]) for path, about in sorted(found.items())}

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it; nothing where there is none."""
        with self._explained("remove", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(name), recursive=True)

    def _path(self, name: str, made: bool = False) -> str:
        path = f"{self.root.rstrip('/')}/{name}"
        if made:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return path

    @contextlib.contextmanager
    def _written(self, content: bytes | Path) -> Iterator[Path]:
        """A whole file with this content, or that of another file, on the disk of the folder while the block runs."""
        (Path(self.root) / WRITING).mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=Path(self.root) / WRITING)
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(handle)
            Path(name).chmod(0o644)  # others may work in the store, too
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, what: str, name: str) -> Iterator[None]:
        """The many errors of many kinds of addresses as one of ours."""
        try:
            yield
        except (SkillNeuronsError, FileNotFoundError):
            raise
        except Exception as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}".strip()
            kind = Unwritable if what == "write" else SkillNeuronsError
            raise kind(
                f"cannot {what} {name} in {self.address}: {reason}. What was finished before is kept; see to room, "
                "rights or the connection, or choose another store, and run the same command again."
            ) from error


def linked(source: Path, path: Path, writing: Path) -> None:
    """Give a file a second name, in place of what has that name; a copy where the disk knows no second names.

    `writing` is a folder of the same disk, where a kill leaves what has no name yet. Raises `Unwritable`.
    """
    try:
        for folder in (path.parent, writing):
            folder.mkdir(parents=True, exist_ok=True)
        temporary = writing / uuid.uuid4().hex
        try:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # it stays where both names were of one file already
    except OSError as error:
        raise unwritable(path, error) from error
