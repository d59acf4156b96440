"""Leases: who is at work on what, so that two processes on one store do not do the same work twice.

    with leased(files, "leases/1.json") as ours:         # False where another process is at it
        if ours: ...

A lease has an owner and an end, and is renewed while its block runs. One whose end has passed, or whose owner was a
process of this machine that is gone, is taken over. Leases save work and no more: what two processes write under one
key is the same, so nothing is spoiled where both of them, at the same moment or after a long sleep, take a lease for
theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from ..errors import SkillNeuronsError
from .files import Files

SECONDS = 60.0
"""How long a lease lasts that nobody renews; renewed three times as often."""
_PROCESS = uuid.uuid4().hex  # a process that comes after this one may have its number


@contextlib.contextmanager
def leased(files: Files, name: str, seconds: float = SECONDS) -> Iterator[bool]:
    """Take the lease `name`, keep it while the block runs; yields whether it could be taken."""
    if not _taken(files, name, seconds):
        yield False
        return
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(files, name, seconds, done), daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        done.set()
        renewing.join()
        with contextlib.suppress(SkillNeuronsError):  # it ends by itself
            if _mine(_read(files, name)):
                files.remove(name)


def held(files: Files, name: str) -> bool:
    """Whether a process is at work under this lease."""
    return _alive(_read(files, name))


def _taken(files: Files, name: str, seconds: float) -> bool:
    if files.create(name, _content(seconds)):
        return True
    if held(files, name):
        return False
    files.write(name, _content(seconds))
    return _mine(_read(files, name))  # of several that take it over, the last


def _renew(files: Files, name: str, seconds: float, done: threading.Event) -> None:
    while not done.wait(seconds / 3):
        with contextlib.suppress(SkillNeuronsError):  # a lease that lapses costs work at most
            if not _mine(_read(files, name)):
                return
            files.write(name, _content(seconds))


def _content(seconds: float) -> bytes:
    owner = {"host": platform.node(), "pid": os.getpid(), "process": _PROCESS, "until": time.time() + seconds}
    return json.dumps(owner).encode()


def _read(files: Files, name: str) -> dict[str, Any]:
    """The lease; nothing where there is none, or half of one."""
    try:
        found = json.loads(files.read(name) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _mine(lease: dict[str, Any]) -> bool:
    return bool(lease.get("process") == _PROCESS and lease.get("pid") == os.getpid())


def _alive(lease: dict[str, Any]) -> bool:
    if not isinstance(until := lease.get("until"), float) or until < time.time():
        return False
    if lease.get("host") != platform.node() or os.name != "posix":
        return True
    if lease["pid"] == os.getpid():
        return bool(lease.get("process") == _PROCESS)
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
