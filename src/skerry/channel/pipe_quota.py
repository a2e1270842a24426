"""What a node forwards for others, and no more: how many pipes, for whom, how fast. All bounds stand here, each with its reason.

A pipe has two ends, both nodes that proved who they are, and counts for both of them. Bytes are not refused but made to wait: `passed`
says for how long the sender of too many is not read.

The rule: whoever relays for others stays as quick for its own, and no node takes the pipes of all the others. A refusal names its bound.
"""

from __future__ import annotations

from collections import Counter

from skerry.channel.admission import Quota
from skerry.errors import Code, Refused
from skerry.identity.keys import short

PIPES_MAX = 256  # at once, of all nodes: each costs two TLS connections, 0.3 MiB, so 77 MiB
PIPES_EACH_MAX = 64  # of one node: a link and its bulk connection to some thirty others
OPENINGS_AT_ONCE = 64  # of one dialler: after a relay has gone all its pipes are opened anew at once
OPENINGS_PER_S = 2.0  # from then on: an opening costs two TLS handshakes, 4 ms, so one node takes 1 % of a processor
COME_S = 5.0  # in which both ends have to be there: a handshake's time
IDLE_S = 60.0  # without a byte: the link in a pipe pings every 10 s, so this one is nobody's
BYTES_PER_S = 96 * 1024 * 1024  # through all pipes, both ways: to forward so many takes a ninth of a processor (1.2 ms a MiB)
BYTES_PER_S_EACH = 64 * 1024 * 1024  # through one: a large value does not take all of it
BURST_S = 0.25  # what may pass at once is what this time brings: calls never wait
READ_BYTES = 4096  # that each read counts beside what it brings: it takes 30 us, so many small ones cost 0.7 of a processor at the worst
PAUSE_S_MIN = 0.001  # what a loop can wait; shorter pauses are owed
HELD_BYTES = 128 * 1024  # written to an end that does not read; above it the other end is not read


class Flow:
    """Bytes that may pass: `per_s`, and what `BURST_S` of them bring at once. Who takes more owes it."""

    def __init__(self, per_s: float, *, now: float) -> None:
        self._per_s = per_s
        self._left = per_s * BURST_S
        self._at = now

    def passed(self, size_bytes: int, *, now: float) -> float:
        """Seconds until nothing is owed."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._per_s * BURST_S) - size_bytes
        self._at = now
        return max(-self._left / self._per_s, 0.0)


class PipeQuota:
    """One relay's. `now` is a time in seconds that only goes on."""

    def __init__(self, *, now: float) -> None:
        self._ends: dict[int, tuple[bytes, bytes]] = {}
        self._each: Counter[bytes] = Counter()
        self._flows: dict[int, Flow] = {}
        self._all = Flow(BYTES_PER_S, now=now)
        self._openings = Quota(at_once=OPENINGS_AT_ONCE, per_s=OPENINGS_PER_S)
        self._number = 0
        self.bytes_passed = 0

    def __len__(self) -> int:
        return len(self._ends)

    def of(self, node: bytes) -> int:
        """How many pipes a node has an end of."""
        return self._each[node]

    def open(self, dialler: bytes, called: bytes, *, now: float) -> int:
        """A pipe between two; returns its number. Raises Refused(busy) that names the bound."""
        if not self._openings.take(dialler.hex(), now=now):
            raise Refused(
                f"more than {OPENINGS_PER_S:g} pipes a second, {OPENINGS_AT_ONCE} at once, are opened for nobody",
                code=Code.BUSY,
                hint="try again in a moment",
            )
        if len(self._ends) >= PIPES_MAX:
            raise Refused(f"this relay forwards {PIPES_MAX} pipes already", code=Code.BUSY, hint="the other relay may have room")
        for node in (dialler, called):
            if self._each[node] >= PIPES_EACH_MAX:
                raise Refused(
                    f"{short(node)} has {PIPES_EACH_MAX} pipes over this relay already",
                    code=Code.BUSY,
                    hint="the other relay may have room",
                )
        self._number += 1
        self._ends[self._number] = (dialler, called)
        self._each.update((dialler, called))
        self._flows[self._number] = Flow(BYTES_PER_S_EACH, now=now)
        return self._number

    def close(self, number: int) -> None:
        """Fine for one that is closed already."""
        for node in self._ends.pop(number, ()):
            self._each[node] -= 1
            if not self._each[node]:
                del self._each[node]
        self._flows.pop(number, None)

    def passed(self, number: int, size_bytes: int, *, now: float) -> float:
        """That many came in one read, and went through a pipe; for how many seconds nothing more is read from its end."""
        self.bytes_passed += size_bytes
        counted = size_bytes + READ_BYTES
        pause_s = max(self._all.passed(counted, now=now), self._flows[number].passed(counted, now=now))
        return pause_s if pause_s >= PAUSE_S_MIN else 0.0
