"""What a node forwards for others, and no more: how many pipes, for whom, how fast. All bounds stand here, each with its reason.

A pipe has two ends, both nodes that proved who they are, and counts for both of them. A contact makes as many nodes as it likes, so its
pipes also count together. Bytes are not refused but made to wait: `passed` says for how long the sender of too many is not read. Where all
together send too many, only those wait who take more than their share.

The rule: whoever relays for others stays as quick for its own, and no node takes the pipes of all the others. A refusal names its bound.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from skerry.channel.admission import Quota
from skerry.errors import Code, Refused
from skerry.identity.keys import short

PIPES_MAX = 256  # at once, of all nodes: each costs two TLS connections, 0.3 MiB, so 77 MiB
PIPES_EACH_MAX = 64  # of one node: a link and its bulk connection to some thirty others
PIPES_PAIR_MAX = 8  # between two nodes: a link and its bulk connection, those that they replace, and somebody who only looks
PIPES_CONTACT_MAX = 64  # of one contact, whichever of its nodes they join
PIPES_CONTACTS_MAX = 128  # of all contacts: the other half is our own formation's
OPENINGS_AT_ONCE = 64  # of one dialler, or one contact: after a relay has gone all its pipes are opened anew at once
OPENINGS_PER_S = 2.0  # from then on: an opening costs two TLS handshakes, 4 ms, so one node takes 1 % of a processor
COME_S = 5.0  # in which both ends have to be there: a handshake's time
LEAVE_S = 5.0  # for what an end has not read yet when its pipe is over: 128 KiB at 200 kbit/s
IDLE_S = 60.0  # without a byte: the link in a pipe pings every 10 s, so this one is nobody's
BYTES_PER_S = 96 * 1024 * 1024  # through all pipes, both ways: to forward so many takes a ninth of a processor (1.2 ms a MiB)
BYTES_PER_S_EACH = 64 * 1024 * 1024  # through one: a large value does not take all of it
BURST_S = 0.25  # what may pass at once is what this time brings: calls never wait
DEBT_S = 2.0  # of its share a pipe owes at most: it used what others left, which is forgiven when they come. The smallest holds a read
READ_BYTES = 4096  # that each read counts beside what it brings: it takes 30 us, so many small ones cost 0.7 of a processor at the worst
PAUSE_S_MIN = 0.001  # what a loop can wait; shorter pauses are owed
HELD_BYTES = 128 * 1024  # written to an end that does not read; above it the other end is not read


class Flow:
    """Bytes that may pass: so many a second, and what `BURST_S` of it brings at once. Who takes more owes it, at most `debt_s` of it."""

    def __init__(self, *, now: float, debt_s: float = math.inf) -> None:
        self._left = math.inf
        self._at = now
        self._debt_s = debt_s

    def passed(self, size_bytes: int, *, per_s: float, now: float) -> float:
        """Seconds until nothing is owed."""
        self._left = min(self._left + (now - self._at) * per_s, per_s * BURST_S) - size_bytes
        self._left = max(self._left, -per_s * self._debt_s)
        self._at = now
        return max(-self._left / per_s, 0.0)


@dataclass(slots=True)
class _Pipe:
    """`own`: all that passes through it; `share`: the same, beside what would be its share if all pipes were used alike."""

    ends: tuple[bytes, bytes]
    contact: bytes
    own: Flow
    share: Flow


class PipeQuota:
    """One relay's. `now` is a time in seconds that only goes on."""

    def __init__(self, *, now: float) -> None:
        self._pipes: dict[int, _Pipe] = {}
        self._each: Counter[bytes] = Counter()  # pipes of a node
        self._pairs: Counter[frozenset[bytes]] = Counter()
        self._contacts: Counter[bytes] = Counter()
        self._all = Flow(now=now)
        self._openings = Quota(at_once=OPENINGS_AT_ONCE, per_s=OPENINGS_PER_S)
        self._number = 0
        self.bytes_passed = 0

    def __len__(self) -> int:
        return len(self._pipes)

    def of(self, node: bytes) -> int:
        """How many pipes a node has an end of."""
        return self._each[node]

    def open(self, dialler: bytes, called: bytes, *, now: float, contact: bytes = b"") -> int:
        """A pipe between two, of our formation or of a contact; returns its number. Raises Refused(busy) that names the bound."""
        if not self._openings.take((contact or dialler).hex(), now=now):
            raise Refused(
                f"one {'contact' if contact else 'node'} opens {OPENINGS_AT_ONCE} pipes at once here, then {OPENINGS_PER_S:g} a second",
                code=Code.BUSY,
                hint="try again in a moment",
            )
        for count, most, whose in (
            (len(self._pipes), PIPES_MAX, "this relay"),
            (self._each[dialler], PIPES_EACH_MAX, short(dialler)),
            (self._each[called], PIPES_EACH_MAX, short(called)),
            (self._pairs[frozenset((dialler, called))], PIPES_PAIR_MAX, f"the pair of {short(dialler)} and {short(called)}"),
            (self._contacts[contact] if contact else 0, PIPES_CONTACT_MAX, "this contact"),
            (self._contacts.total() if contact else 0, PIPES_CONTACTS_MAX, "all contacts together"),
        ):
            if count >= most:
                raise Refused(f"{most} pipes here are all that {whose} may have", code=Code.BUSY, hint="the other relay may have room")
        self._number += 1
        self._pipes[self._number] = _Pipe((dialler, called), contact, Flow(now=now), Flow(now=now, debt_s=DEBT_S))
        self._count(self._pipes[self._number], 1)
        return self._number

    def close(self, number: int) -> None:
        """Fine for one that is closed already."""
        pipe = self._pipes.pop(number, None)
        if pipe is not None:
            self._count(pipe, -1)

    def _count(self, pipe: _Pipe, step: int) -> None:
        self._each.update(dict.fromkeys(pipe.ends, step))
        self._pairs[frozenset(pipe.ends)] += step
        if pipe.contact:
            self._contacts[pipe.contact] += step
        if step < 0:
            self._each, self._pairs, self._contacts = +self._each, +self._pairs, +self._contacts  # none that nobody has

    def passed(self, number: int, size_bytes: int, *, now: float) -> float:
        """That many came in one read, and went through a pipe; for how many seconds nothing more is read from its end."""
        self.bytes_passed += size_bytes
        counted, pipe = size_bytes + READ_BYTES, self._pipes[number]
        all_s = self._all.passed(counted, per_s=BYTES_PER_S, now=now)
        share_s = pipe.share.passed(counted, per_s=BYTES_PER_S / len(self._pipes), now=now)
        pause_s = max(pipe.own.passed(counted, per_s=BYTES_PER_S_EACH, now=now), min(all_s, share_s))
        return pause_s if pause_s >= PAUSE_S_MIN else 0.0
