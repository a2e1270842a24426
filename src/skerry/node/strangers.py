"""Peers that have proved a key and nothing more: whoever wants to join, and whoever only says so.

Anybody can make a key, so a stranger is known by its address alone. It may ask little, keep little unread, send nothing large, and
stays for a minute: a join takes a second. Tickets that are wrong are counted by address, and in all; where all together were too many,
only addresses that have shown no wrong one lately are still listened to, so that a flood from many places keeps no newcomer out.

The rule: strangers can't take the places, the memory or the time of members.
"""

from __future__ import annotations

import asyncio

from skerry.channel.admission import Crowd, Quota
from skerry.channel.link import Link
from skerry.errors import Code, Refused, SkerryError

LINKS_MAX = 256  # of strangers; above it the oldest of the address with the most ends
LINKS_EACH_MAX = 64  # of one address: a rack of machines that join at once
STAY_WORKING_S = 300.0  # with a task of a public circle under way
STAY_S = 60.0  # as long as a person looks at a question; a join takes a second
LOOK_EVERY_S = 5.0
FRAMES_MAX = 64  # that one may say: a join takes one, a doctor a few
UNSENT_BYTES_MAX = 128 * 1024  # of answers that it does not read: two full frames
CALLS_AT_ONCE = 200  # of one address
CALLS_PER_S = 20.0  # from then on: 0.2 % of a processor
WRONG_AT_ONCE = 20  # tickets of one address that do not hold
WRONG_PER_S = 0.1
WRONG_AT_ONCE_ALL = 300  # of all addresses together
WRONG_PER_S_ALL = 5.0
_ALL = "all"


class Strangers:
    """The strangers of one node."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._here: Crowd[Link] = Crowd(most=LINKS_MAX, most_each=LINKS_EACH_MAX)
        self._calls = Quota(at_once=CALLS_AT_ONCE, per_s=CALLS_PER_S)
        self._wrong = Quota(at_once=WRONG_AT_ONCE, per_s=WRONG_PER_S)
        self._wrong_all = Quota(at_once=WRONG_AT_ONCE_ALL, per_s=WRONG_PER_S_ALL)
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._here)

    def came(self, link: Link) -> None:
        """A link is a stranger's."""
        if link in self._here:
            return
        link.takes_large = False
        link.connection.limit(frames=FRAMES_MAX, unsent_bytes=UNSENT_BYTES_MAX)
        goes = self._here.enter(link, link.connection.address)
        if goes is not None:
            goes.close(_crowded())
        if self._look is None:
            self._look = self._loop.call_later(LOOK_EVERY_S, self._look_around)

    def is_known(self, link: Link) -> None:
        """It has shown that it belongs here."""
        if link in self._here:
            self._here.leave(link)
            link.takes_large = True
            link.connection.limit(frames=None)

    def check_call(self, link: Link) -> None:
        """A stranger asks. Raises Refused(busy) where its address asks too much."""
        if not self._calls.take(link.connection.address, now=self._loop.time()):
            raise Refused("strangers at your address ask more than they may", code=Code.BUSY, hint="wait a minute")

    def check_join(self, link: Link) -> None:
        """A ticket is shown. Raises Refused(busy) where too many from there were wrong."""
        address, now = link.connection.address, self._loop.time()
        left = self._wrong.left(address, now=now)
        if left < 1 or (left < WRONG_AT_ONCE and self._wrong_all.left(_ALL, now=now) < 1):
            raise Refused("too many tickets that did not hold came from your address", code=Code.BUSY, hint="wait a minute, then try again")

    def join_failed(self, link: Link) -> None:
        now = self._loop.time()
        self._wrong.take(link.connection.address, now=now)
        self._wrong_all.take(_ALL, now=now)

    def works(self, link: Link) -> None:
        """It may call what it calls: that is bounded by the quota of calls, not by the frames of one connection."""
        link.connection.limit(frames=None, unsent_bytes=UNSENT_BYTES_MAX)

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _look_around(self) -> None:
        now = self._loop.time()
        for link in self._here.all():
            if link.closed:
                self._here.leave(link)
            elif now - link.opened_at > (STAY_WORKING_S if link.busy else STAY_S):
                self._here.leave(link)
                link.close(Refused("a stranger stays for a minute", code=Code.NOT_GRANTED, hint="join with a ticket"))
        self._look = self._loop.call_later(LOOK_EVERY_S, self._look_around) if len(self._here) else None


def _crowded() -> SkerryError:
    return Refused("too many strangers are connected", code=Code.BUSY, hint="try again in a moment")
