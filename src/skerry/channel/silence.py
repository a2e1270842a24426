"""Watches the links of a node: whoever says nothing is asked, who does not answer is ended, and so is who asks and does not read.

Two thousand links are looked at in handfuls, for to look at all of them at once holds up everything else for a hundredth of a second,
twice a second. And those over which nothing was said, either way, since the last look have nothing to show: they are passed over until
they would be asked. In a formation of 200 nodes that is nearly all of them, nearly always.

The rule: a link that is dead is known to be within seconds, and what peers ask for and don't read stays bounded, all of it together too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.channel.link import Link
from skerry.errors import Code, Refused, SkerryError, Unreachable

WATCH_S = 0.5  # how often each link is looked at
AT_ONCE = 64  # links in one turn of the loop: half a millisecond
PING_AFTER_S = 10.0  # of silence on a link that nobody waits on
PING_AFTER_WAITING_S = 1.0  # of silence on any node's link, while somebody waits in vain on one: where one fell silent, others may have too
DEAD_AFTER_S = 2.0  # of silence after we asked: with the second before, a call that can't succeed ends within 5 s
STUCK_S = 30.0  # how long a peer may read too little of what it asked for
UNSENT_BYTES_MAX = 128 * 1024 * 1024  # written to all peers together and not read by them; above it the one with the most ends
IDLE_MAX = 10_000  # what a peer may say in that time that leads to nothing: 100 pings, or 10,000 parts of streams that we gave up


class Watch:
    """`all_links`: every open one; `is_node`: whether it is the link to a node."""

    def __init__(self, all_links: Callable[[], list[Link]], is_node: Callable[[Link], bool]) -> None:
        self._all_links = all_links
        self._is_node = is_node
        self._asked: dict[bytes, float] = {}  # token -> when we pinged it
        self._rests_until: dict[bytes, float] = {}  # token -> when we would ping it, if nothing is said before
        self._left: list[Link] = []  # to be looked at in this round
        self._unsent: dict[Link, int] = {}  # of this round: bytes that are not read
        self._waiting: dict[Link, float] = {}  # on which somebody waited when we last looked, and when they had last said something
        self._one_waits = False  # since the last look or longer, and nothing comes: not just for a way there and back
        self._round_began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """There is something to watch. Fine where it has begun."""
        if self._timer is None:
            self._timer = self._loop.call_later(WATCH_S, self._begin_round)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def forget(self, link: Link) -> None:
        """It is gone."""
        self._asked.pop(link.token, None)
        self._rests_until.pop(link.token, None)

    def _begin_round(self) -> None:
        self._round_began = now = self._loop.time()
        links, rests_until = self._all_links(), self._rests_until
        before, waiting = self._waiting, {link: link.last_heard for link in links if link.waits}
        self._one_waits = any(before.get(link) == heard and self._is_node(link) for link, heard in waiting.items())
        self._waiting = waiting
        if not self._one_waits:
            links = [link for link in links if link.connection.stirred or link in waiting or now >= rests_until.get(link.token, 0.0)]
        self._left = links
        self._go_on()

    def _go_on(self) -> None:
        now = self._loop.time()
        some, self._left = self._left[:AT_ONCE], self._left[AT_ONCE:]
        for link in some:
            if not link.closed:
                self._look_at(link, now)
        if self._left:
            self._timer = self._loop.call_later(0, self._go_on)  # not in the same turn
            return
        self._end_the_worst()
        self._timer = self._loop.call_later(max(self._round_began + WATCH_S - now, 0), self._begin_round)

    def _look_at(self, link: Link, now: float) -> None:
        if link.take_idle() > IDLE_MAX:
            return link.abort(Refused("the peer says too much that leads to nothing", code=Code.BUSY))
        unsent = link.connection.unsent_bytes
        if unsent:
            if link.connection.stuck_s > STUCK_S:
                return link.abort(_deaf())
            self._unsent[link] = unsent
        silent_s = now - link.last_heard
        asked = self._asked.get(link.token)
        if asked is not None and link.last_heard >= asked:
            del self._asked[link.token]
            asked = None
        if asked is not None:
            if now - asked > DEAD_AFTER_S:
                link.abort(Unreachable(f"the peer said nothing for {silent_s:.0f} s", code=Code.CONNECTION_LOST, outcome_unknown=True))
        elif silent_s > PING_AFTER_WAITING_S and silent_s > self._patience_s(link):
            self._asked[link.token] = now
            link.ping()
        elif not unsent:
            link.connection.stirred = False
            self._rests_until[link.token] = link.last_heard + PING_AFTER_S
        return None

    def _patience_s(self, link: Link) -> float:
        return PING_AFTER_WAITING_S if link.waits or (self._one_waits and self._is_node(link)) else PING_AFTER_S

    def _end_the_worst(self) -> None:
        """Where all together leave too much unread."""
        found, self._unsent = self._unsent, {}
        unsent = sum(found.values())
        while unsent > UNSENT_BYTES_MAX:
            worst = max(found, key=lambda link: found[link])
            unsent -= found.pop(worst)
            worst.abort(_deaf())


def _deaf() -> SkerryError:
    return Unreachable("the peer does not read what it asked for", code=Code.CONNECTION_LOST, outcome_unknown=True)
