"""Memory that is freed is kept for the next layer, instead of being handed back to the system and asked for again.

keep_freed_memory()

A layer's activations are tens of megabytes. The C library of Linux (glibc) gives such pieces back as soon as they are
freed, and the system clears every page anew when they are asked for again: a tenth of the time of a pass on a CPU, more
in bfloat16. This is a setting of the whole process, so the command line makes it and the package does not; a program of
one's own may. The process holds on to up to a gigabyte more. Elsewhere than on glibc nothing happens.
"""

from __future__ import annotations

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, as malloc.h names them
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; whether it could be told."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another system, another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
