"""The plain workflow asks for memory as any program does; ours keeps what is freed (skillneurons/allocator.py).

works["plain"] = as_usual(plain)            # one process, so the setting is turned round for the time of the call
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from skillneurons.allocator import keep_freed_memory

_USUAL = {-1: 64 << 20, -3: 32 << 20, -4: 65536}
"""glibc's trim threshold, the size from which it maps, how much it maps: the first two at the most they grow to."""


def as_usual(work: Callable[[], object]) -> Callable[[], object]:
    """The work with glibc's own settings; after it freed memory is kept again, where it could be told so."""

    def done() -> object:
        if not keep_freed_memory():
            return work()
        for setting, value in _USUAL.items():
            ctypes.CDLL(None).mallopt(setting, value)
        try:
            return work()
        finally:
            keep_freed_memory()

    return done
