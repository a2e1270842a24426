"""Letters that could not be delivered, or that an agent of this node could not handle: kept with the reason, until somebody looks.

Whoever runs the node sees them (`skerry letter list`), has them tried again, or drops them. There is an end to how many are kept: then the
oldest go.

What is to be written is returned, so that it goes into one commit with whatever it belongs to; `note` and `forget` are called once it is
on the disk. What they say lies on the disk alone.

The rule: nothing that was sent is gone without a trace. No clock is read here.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import msgspec

from skerry.agents.letters import Letter
from skerry.channel.messages import convert
from skerry.errors import ProtocolError
from skerry.identity.codec import pack, unpack
from skerry.ports import Fact, Store
from skerry.wiring.outbox import Target

SPACE = "aside"  # the space of facts: letter id -> Kept
KEPT_MAX = 1000  # 48 MiB at most
log = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """As it lies on the disk.

    code, reason   why, as the receiver's node or the handler said
    target         whom it was for
    at_ms          when it was put aside
    taken          it was handed to an agent of this node, which could not handle it; else it could not be delivered
    voucher        by which its receiver takes it from us (`vouchers.py`)
    """

    letter: Letter
    code: str
    reason: str
    target: Target = Target("", b"")
    at_ms: int = 0
    taken: bool = False
    voucher: bytes = b""


@dataclass(frozen=True, slots=True)
class Slip:
    """What is known of it without looking at the disk."""

    id: str
    sender: str
    target: Target
    code: str
    reason: str
    at_ms: int
    size_bytes: int
    taken: bool


class Aside:
    """One node's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        slips = []
        for key, data in store.facts(SPACE):
            try:
                slips.append(_slip(key, read_aside(data)))
            except ProtocolError as error:  # what is damaged stays where it is
                log.error("the letter %s that was put aside can't be read: %s", key, error)
        self._slips = {slip.id: slip for slip in sorted(slips, key=lambda slip: (slip.at_ms, slip.id))}  # oldest first

    def __len__(self) -> int:
        return len(self._slips)

    def slips(self) -> list[Slip]:
        """Oldest first."""
        return list(self._slips.values())

    def counts(self) -> dict[str, int]:
        """How many there are, by the id of the agent that they were for."""
        return dict(Counter(slip.target.agent for slip in self._slips.values()))

    def read(self, letter_id: str) -> Kept | None:
        """One with what it says."""
        data = self._store.fact(SPACE, letter_id) if letter_id in self._slips else None
        return read_aside(data) if data is not None else None

    def facts(self, kept: list[Kept]) -> list[Fact]:
        """What to write so that these are kept, in place of the oldest where there are too many."""
        surplus = list(self._slips)[: max(len(self._slips) + len(kept) - KEPT_MAX, 0)]
        written: list[Fact] = [(SPACE, one.letter.id, pack(msgspec.to_builtins(one, builtin_types=(bytes,)))) for one in kept[-KEPT_MAX:]]
        return [*((SPACE, key, None) for key in surplus), *written]

    def note(self, kept: list[Kept]) -> None:
        self._slips.update((one.letter.id, _slip(one.letter.id, one)) for one in kept)
        for key in list(self._slips)[: max(len(self._slips) - KEPT_MAX, 0)]:
            del self._slips[key]

    def forget(self, letter_id: str) -> None:
        self._slips.pop(letter_id, None)


def dropped(letter_id: str) -> Fact:
    """What to write so that one is kept no more."""
    return (SPACE, letter_id, None)


def read_aside(data: bytes) -> Kept:
    """Raises ProtocolError."""
    kept = convert(unpack(data), Kept)
    if not kept.letter.is_sound:
        raise ProtocolError("a letter that is no letter")
    return kept


def _slip(key: str, kept: Kept) -> Slip:
    letter = kept.letter
    return Slip(key, letter.sender, kept.target, kept.code, kept.reason, kept.at_ms, len(letter.content), kept.taken)
