"""Nothing grows with time alone: every table of every object of a node, found by looking and not by a list of them.

All dictionaries, lists, sets and queues that objects of Skerry hold are counted, by class and attribute, over all nodes of the process.
Two counts with a quiet time between them must be alike.

The rule: whoever adds a table need not tell the checker.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

OURS = "skerry."
NOT_A_NODE = "skerry.sim."  # the world around it remembers what it is asked about later
TABLES = (dict, list, set, deque, bytearray)
SLACK = 1.1  # the counts of one moment differ a little from those of another
SLACK_EACH = 16
# Those that fill up for hours, to a bound of their own: one number for each verb and code; one for each address that asked lately.
FILL_UP = frozenset({"Counter.values", "Quota._left"})

Sizes = dict[str, int]


def sizes() -> Sizes:
    """How much all objects of Skerry in this process hold, by `Class.attribute`, and how many there are of each class."""
    gc.collect()
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        module = getattr(kind, "__module__", "")
        if not isinstance(module, str) or not module.startswith(OURS) or module.startswith(NOT_A_NODE):
            continue
        found[f"objects of {kind.__name__}"] += 1
        for name, value in _attributes(thing):
            if isinstance(value, TABLES):
                found[f"{kind.__name__}.{name}"] += len(value)
            elif isinstance(value, asyncio.Queue):
                found[f"{kind.__name__}.{name}"] += value.qsize()
    return dict(found)


def grown(before: Sizes, after: Sizes) -> list[str]:
    """What is larger than it was."""
    pairs = ((what, before.get(what, 0), count) for what, count in sorted(after.items()) if what not in FILL_UP)
    return [f"{what}: {was}, then {count}" for what, was, count in pairs if count > was * SLACK + SLACK_EACH]


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield name, getattr(thing, name, None)
