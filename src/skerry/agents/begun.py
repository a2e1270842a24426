"""Which tasks a worker has begun, in memory that it shares with its node.

A node hands each task over with a turn, a number that counts up. The worker notes the highest turn that it has reached before it begins the
task. Whatever the worker would say over its connection can be lost when it dies; what stands in this memory can't be.

The rule: what has begun is known to have begun. A task that has not may be taken for begun, where a larger one overtook it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import tempfile

_TURN = struct.Struct("=Q")


class Begun:
    """The highest turn that was reached, 0 before the first."""

    __slots__ = ("_memory",)

    def __init__(self, descriptor: int = -1) -> None:
        """Over the file that `shared_file` made; -1: within this process alone."""
        self._memory = mmap.mmap(descriptor, _TURN.size)

    def reach(self, turn: int) -> None:
        if turn > self.turn:
            _TURN.pack_into(self._memory, 0, turn)

    @property
    def turn(self) -> int:
        turn: int = _TURN.unpack_from(self._memory)[0]
        return turn


def shared_file() -> int:
    """A descriptor of a file that has no name and room for one turn. Raises OSError."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("skerry-begun")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _TURN.size)
    return descriptor
