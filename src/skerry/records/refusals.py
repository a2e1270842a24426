"""What was offered and not taken in, kept apart from what is here: by whom it was offered, why not, and when it is tried again.

Two nodes compare what they hold. What one of them refused it does not hold, and would be shown at every comparison from then on; so for
the peer that offered it, and for that peer alone, it counts as known until it is tried again. Waits double from `FIRST_MS` to `MOST_MS`.

The rule: a refusal is remembered, never obeyed: it expires by itself, and nobody can fill the memory (`PEER_MAX`, `ALL_MAX`).
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.records.items import Items
from skerry.records.record import HOUR_MS, Rejection

PEER_MAX = 1000  # of one peer; the oldest goes
ALL_MAX = 10_000
FIRST_MS = 10 * 60 * 1000
MOST_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Refused:
    """One record that a peer holds and we don't take. `retry_ms`: Unix ms, from when on it may come again."""

    peer: bytes
    item: bytes
    reason: Rejection
    detail: str
    times: int
    retry_ms: int


class Refusals:
    """The memory of one node."""

    def __init__(self) -> None:
        self._by_peer: dict[bytes, dict[bytes, Refused]] = {}
        self._items: dict[bytes, Items] = {}
        self._peers: dict[bytes, set[bytes]] = {}  # item -> who offered it

    def __len__(self) -> int:
        return sum(map(len, self._by_peer.values()))

    def note(self, peer: bytes, item: bytes, reason: Rejection, detail: str, *, now_ms: int) -> None:
        """A peer offered it, and it was refused."""
        held = self._by_peer.setdefault(peer, {})
        before = held.pop(item, None)
        times = before.times + 1 if before is not None else 1
        wait_ms = min(FIRST_MS * 2 ** min(times - 1, 10), MOST_MS)
        held[item] = Refused(peer, item, reason, detail, times, now_ms + wait_ms)
        self._items.setdefault(peer, Items()).add(item)
        self._peers.setdefault(item, set()).add(peer)
        if len(held) > PEER_MAX:
            self._drop(peer, next(iter(held)))
        elif len(self) > ALL_MAX:
            fullest = max(self._by_peer, key=lambda one: len(self._by_peer[one]))
            self._drop(fullest, next(iter(self._by_peer[fullest])))

    def is_noted(self, peer: bytes, item: bytes) -> bool:
        return item in self._by_peer.get(peer, {})

    def known(self, peer: bytes, *, now_ms: int) -> Items:
        """What that peer holds and would offer in vain now. What is due again stays noted, so that its waits grow, and is not in it."""
        items = self._items.get(peer)
        if items is None:
            return Items()
        for item, refused in self._by_peer[peer].items():
            if refused.retry_ms <= now_ms:
                items.remove(item)
        return items

    def forget(self, item: bytes, *, peer: bytes | None = None) -> None:
        """It is here now, from whomever; or (`peer`) that one does not hold it any more."""
        for one in [peer] if peer is not None else sorted(self._peers.get(item, ())):
            if self.is_noted(one, item):
                self._drop(one, item)

    def all(self) -> list[Refused]:
        """The oldest of each peer first."""
        return [refused for peer in sorted(self._by_peer) for refused in self._by_peer[peer].values()]

    def _drop(self, peer: bytes, item: bytes) -> None:
        del self._by_peer[peer][item]
        self._items[peer].remove(item)
        self._peers[item].discard(peer)
        if not self._peers[item]:
            del self._peers[item]
        if not self._by_peer[peer]:
            del self._by_peer[peer], self._items[peer]
