"""Takes what lies in the outbox to where it belongs: for each session one carrier, that tries until its letters were handled.

A carrier hands over some letters at a time and waits until the receiver's node has kept what came of them. Where the way is closed, or
the receiver busy, it waits and tries again, sooner where somebody says that the way is open. A refusal that will not pass puts the
letters aside.

The rule: within a session nothing overtakes, and a letter that was not handled is offered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from skerry.agents.letters import Letter
from skerry.errors import Code, Refused, SkerryError
from skerry.ports import Random, backoff
from skerry.wiring.outbox import Outbox, Target

BATCH_LETTERS = 64
BATCH_BYTES = 48 * 1024  # more than one letter only within this: a batch is one frame
FIRST_S = 0.1  # until letters are offered again, doubling to
MOST_S = 5.0
FINAL = frozenset(
    {
        Code.UNKNOWN_AGENT,
        Code.UNKNOWN_MEMBER,
        Code.NO_COMMS,
        Code.NOT_GRANTED,
        Code.BAD_PAYLOAD,
        Code.TOO_LARGE,
        Code.DECODE,
        Code.REVOKED,
        Code.PEER_SPEC,
    }
)  # refusals that another try would hear again
log = logging.getLogger(__name__)

Deliver = Callable[[Target, list[Letter]], Awaitable[int]]  # returns up to which `seq` the session was handled


class Post:
    """The carriers of one node."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        deliver: Deliver,
        random: Random,
        done: Callable[[list[Letter]], None],
        failed: Callable[[str, SkerryError, int], None],
        passed: Callable[[str, int], bool],
    ) -> None:
        """done: letters were handled and left the outbox; failed: the oldest of a session, so many, can't be delivered; passed: the
        receiver's cursor stands beyond letters that it never had (`Outbox.is_passed`): returns whether they have new places."""
        self._outbox = outbox
        self._deliver = deliver
        self._random = random
        self._done = done
        self._failed = failed
        self._passed = passed
        self._carriers: dict[str, asyncio.Task[None]] = {}
        self._tired: dict[str, asyncio.Event] = {}  # those that wait before they try again
        self.trouble: dict[str, str] = {}  # why a session's letters wait, where there is a reason
        self._room = asyncio.Event()
        self._closed = False

    def start(self) -> None:
        """Go on with what a former life left."""
        for session in self._outbox.sessions():
            self.carry(session)

    def carry(self, session: str) -> None:
        """Something waits in a session."""
        if session not in self._carriers and not self._closed:
            task = asyncio.get_running_loop().create_task(self._carry(session))
            self._carriers[session] = task

    def try_again(self) -> None:
        """A way that was closed may be open."""
        for waiting in self._tired.values():
            waiting.set()

    async def room(self, session: str, *, timeout_s: float) -> None:
        """Wait until a session takes one more letter. Raises Refused(busy) where it does not within that time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return self._outbox.check_room(session)
                    except Refused:
                        self._room.clear()
                        await self._room.wait()
        except TimeoutError:
            self._outbox.check_room(session)

    async def close(self) -> None:
        self._closed = True
        tasks = list(self._carriers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, session: str) -> None:
        waits = backoff(self._random, first_s=FIRST_S, most_s=MOST_S)
        has_passed = False  # since anything was handled: whoever says so again and again waits as others do
        try:
            while letters := self._outbox.head(session, most=BATCH_LETTERS, bytes_max=BATCH_BYTES):
                target = self._outbox.target(session)
                assert target is not None
                try:
                    up_to = await self._deliver(target, letters)
                except SkerryError as error:
                    if isinstance(error, Refused) and error.code in FINAL:
                        self._failed(session, error, len(letters))
                        self._room.set()
                        continue
                    log.debug("%d letters of the session %s wait: %s", len(letters), session, error)
                    self.trouble[session] = error.message
                else:
                    self.trouble.pop(session, None)
                    if not self._outbox.is_passed(session, up_to):
                        gone = self._outbox.done(session, min(up_to, letters[-1].seq))  # a peer may say anything of what it never had
                    else:
                        before, has_passed = has_passed, True
                        if self._passed(session, up_to) and not before:
                            continue
                        gone = []
                    if gone:
                        has_passed = False
                        self._done(gone)
                        self._room.set()
                        waits = backoff(self._random, first_s=FIRST_S, most_s=MOST_S)
                        continue
                await self._rest(session, next(waits))
        finally:
            self.trouble.pop(session, None)
            del self._carriers[session]

    async def _rest(self, session: str, seconds: float) -> None:
        waiting = self._tired[session] = asyncio.Event()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting.wait()
        finally:
            del self._tired[session]
