"""Two nodes that dial each other at the same moment: which of the two connections stays.

Both sides come to the same answer, from what both know: who dialled which, and whose id is lower. What one side was told it remembers for
as long as that connection is there: told once that it stays, a node that dials again has lost it.

The rule: of two nodes that want each other one connection stays, and both keep the same.
"""

from __future__ import annotations

from skerry.channel.link import Link

SIMULTANEOUS_S = 2.0  # two connections opened within it crossed; later the one who dials again has lost the first


class Crossing:
    """One node's choices. `ours`: its id."""

    def __init__(self, ours: bytes) -> None:
        self._ours = ours
        self._preferred: dict[bytes, Link] = {}  # to another one that was opened at the same time, by the peer's id

    def stays(self, known: Link, new: Link, *, now: float) -> bool:
        """Whether the link we had stays and the new one goes. `now`: the loop's time in seconds."""
        if now - known.opened_at > SIMULTANEOUS_S:
            return False  # the side that dials again has lost the one before
        if known.connection.is_relayed != new.connection.is_relayed:
            return new.connection.is_relayed  # the straight one stays
        if known.dialled == new.dialled or self._preferred.get(known.id) is known:
            return False  # told before that this one stays, it dials again: it has lost it and we don't know yet
        lower_dials = known.dialled == (self._ours < known.id)
        if lower_dials:
            self._preferred[known.id] = known
        return lower_dials

    def forget(self, link: Link) -> None:
        """It is gone."""
        if self._preferred.get(link.id) is link:
            del self._preferred[link.id]
