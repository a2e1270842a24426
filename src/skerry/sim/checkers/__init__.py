"""What must hold in a world, one idea a file, judged from outside with books of their own.

`look` is asked every virtual second while faults rage, `settled` when the world is healed and has had its time. Both return what is
wrong, in sentences.

The rule: a checker believes no node's own word about itself, and its answers are in an order of their own.
"""

from __future__ import annotations

from typing import Protocol


class Checker(Protocol):
    def look(self) -> list[str]:
        """What is wrong now, and may never be."""
        ...

    def settled(self) -> list[str]:
        """What is wrong in a healed world."""
        ...


class Violation(AssertionError):
    """The world broke a promise."""
