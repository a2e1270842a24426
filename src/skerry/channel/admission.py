"""Who may wait at a door, and how often somebody may come: two counts, by address.

A `Crowd` holds those who have not shown yet that they are wanted: so many in all, so many from one address. Where it is full somebody
has to go, and it is the one who has waited longest of the address that has most there: who floods pushes out his own, and honest ones,
who need milliseconds, are gone before it is their turn. A `Quota` says how often: so many at once, so many a second from then on.

The rule: what strangers cost is bounded for each address and for all together, and one address's flood takes no place of another's.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
ADDRESSES_MAX = 4096  # that a quota remembers; above it those that have all of it back are forgotten, then the oldest


class Crowd(Generic[T]):
    """Those who wait, at most `most` of them and at most `most_each` of one address. Whoever comes over this machine's own socket has
    the address "" and is not counted: the system says that it is ours."""

    def __init__(self, *, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._address: dict[T, str] = {}
        self._at: dict[str, dict[T, None]] = {}  # those of each address, in the order in which they came

    def __len__(self) -> int:
        return len(self._address)

    def __contains__(self, one: object) -> bool:
        return one in self._address

    def all(self) -> list[T]:
        return list(self._address)

    def enter(self, one: T, address: str) -> T | None:
        """`one` comes in; returns who has to go for it, and is out already."""
        goes: T | None = None
        if address and len(self._at.get(address, ())) >= self._most_each:
            goes = self._oldest_of(address)
        elif address and len(self._address) - len(self._at.get("", ())) >= self._most:
            goes = self._oldest_of(max((at for at in self._at if at), key=lambda at: len(self._at[at])))
        if goes is not None:
            self.leave(goes)
        self._address[one] = address
        self._at.setdefault(address, {})[one] = None
        return goes

    def leave(self, one: T) -> None:
        """It is through, or gone. Fine for one that is out already."""
        address = self._address.pop(one, None)
        if address is not None:
            del self._at[address][one]
            if not self._at[address]:
                del self._at[address]

    def _oldest_of(self, address: str) -> T:
        return next(iter(self._at[address]))


class Room:
    """Bytes that many may hold together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    def take(self, size: int) -> bool:
        """Whether there was room for it."""
        if self.held_bytes + size > self._bytes_max:
            return False
        self.held_bytes += size
        return True

    def give(self, size: int) -> None:
        self.held_bytes -= size


class Quota:
    """A token bucket for each address: `at_once`, and then `per_s`."""

    def __init__(self, *, at_once: float, per_s: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._left: dict[str, tuple[float, float]] = {}  # address -> what was left, and when

    def __len__(self) -> int:
        return len(self._left)

    def left(self, address: str, *, now: float) -> float:
        """How much of it is left."""
        left, then = self._left.get(address, (self._at_once, now))
        return min(self._at_once, left + max(now - then, 0.0) * self._per_s)

    def take(self, address: str, *, now: float) -> bool:
        """Use one; whether there was one."""
        left = self.left(address, now=now)
        if left < 1:
            return False
        self._left.pop(address, None)  # so that those who came last stand last
        self._left[address] = (left - 1, now)
        if len(self._left) > ADDRESSES_MAX:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        for address in [one for one in self._left if self.left(one, now=now) >= self._at_once]:
            del self._left[address]
        if len(self._left) > ADDRESSES_MAX:
            for address in list(self._left)[: ADDRESSES_MAX // 4]:  # many at once: to look through all costs a millisecond
                del self._left[address]
