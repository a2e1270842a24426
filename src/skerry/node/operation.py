"""One line of the verb table.

The rule: a verb is defined once, with who may call it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skerry.node.policy import Right

if TYPE_CHECKING:
    from skerry.node.node import Node


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb. `handler(node, request, caller)` returns the reply; `caller` is the id of whoever asks.

    contact   the right of a contact's entry that opens it to contacts (`border.py`); empty where none does
    """

    verb: str
    right: Right
    request: type
    reply: type
    handler: Callable[[Node, Any, bytes], Awaitable[Any]]
    about: str
    contact: str = ""


async def elsewhere(_: Node, __: Any, ___: bytes) -> Any:
    """The handler of a verb that `operations.serve` answers by itself: tasks stream, and who meets has to show a grant."""
    raise AssertionError("answered in `serve`")
