"""What is freed stays with the process, where the C library can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from skillneurons.allocator import keep_freed_memory
if {told} and not keep_freed_memory():
    sys.exit(7)
def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)          # every page is written, as it is cleared
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touched()
print(sum(touched() for _ in range(5)))
"""


def faults(told: bool) -> int:
    """Pages that the system had to give, in five pieces of 64 MB one after another."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(told=told)], capture_output=True, text=True, check=False
    )
    if done.returncode == 7:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    assert faults(told=True) < faults(told=False) / 10
