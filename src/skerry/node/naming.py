"""This node's claim to its name: which, and since when.

The rule: a claim is as old as the day on which the name was taken, however often the node was away since.
"""

from __future__ import annotations

from skerry.identity.codec import decode, encode
from skerry.node.membership import FACTS
from skerry.ports import Store

NAME = "name"  # what `up` takes where nobody says otherwise
CLAIM = "claim"


def claim(store: Store, name: str, *, now_ms: int) -> int:
    """Since when this home claims `name` (Unix ms): from now on, where it did not before."""
    held = store.fact(FACTS, CLAIM)
    if held is not None:
        claimed, since_ms = decode(held)
        if claimed == name:
            return int(since_ms)
    store.set_fact(FACTS, CLAIM, encode([name, now_ms]))
    return now_ms


def keep_name(store: Store, name: str) -> None:
    store.set_fact(FACTS, NAME, name.encode())
