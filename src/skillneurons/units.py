"""Bytes as people read them.

in_bytes(790_700_000)            # "791 MB"
"""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """A number of bytes to three digits, in powers of 1000: B, kB, MB, GB or TB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:  # what rounds to 1000 is 1 of the next
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
