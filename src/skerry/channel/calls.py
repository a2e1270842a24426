"""The two ends of a call, as code sees them: `Served` where it is answered, `Parts` where a stream is read.

The rule: whoever reads slowly holds the sender back, and nobody buffers more than the credit that was given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from skerry.channel.session import CREDIT_FIRST, CallOpened, Failed
from skerry.errors import EXIT_UNREACHABLE, Refused, SkerryError, Unreachable, meaning
from skerry.identity.pieces import Body

if TYPE_CHECKING:
    from skerry.channel.link import Link

TIMEOUT_S_MAX = 24 * 3600.0
CALLER: ContextVar[bytes] = ContextVar("caller", default=b"")  # whose call is being answered; b"": our own


def _nothing() -> None:
    return


class Served:
    """A call that the peer made and we answer. `timeout_s` is what was left of its deadline when it came."""

    __slots__ = ("_link", "_more_credit", "body", "id", "replied", "timeout_s", "verb", "wants_parts")

    def __init__(self, link: Link, event: CallOpened, body: Body) -> None:
        self._link = link
        self._more_credit: asyncio.Future[None] | None = None
        self.id = event.id
        self.verb = event.verb
        self.body = body
        self.timeout_s = min(event.timeout_ms / 1000, TIMEOUT_S_MAX)
        self.wants_parts = event.credit > 0
        self.replied: Callable[[], None] = _nothing  # called once the reply has left, however it ended

    @property
    def link(self) -> Link:
        return self._link

    async def part(self, body: Body) -> None:
        """Send one part, when the caller has room for it. Raises Refused(cancelled) where the caller is gone."""
        await self._link.send_part(self, body)


Handler = Callable[[Served], Coroutine[Any, Any, Body]]


class Parts:
    """The parts of a stream as they come (`async for`), then `reply`: the body that ended it."""

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        self._arrived: deque[Body] = deque()
        self._taken = 0
        self._wake: asyncio.Future[None] | None = None
        self._error: SkerryError | None = None
        self.reply: Body | None = None

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> Body:
        while not self._arrived:
            if self._error is not None:
                raise self._error
            if self.reply is not None:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        self._taken += 1
        if self._taken >= CREDIT_FIRST // 2:
            self._link.give_credit(self._number, self._taken)
            self._taken = 0
        return self._arrived.popleft()

    async def aclose(self) -> None:
        """Give the stream up where it has not ended."""
        self._link.give_up(self._number)

    def came(self, body: Body) -> None:
        self._arrived.append(body)
        self._wake_up()

    def ended(self, body: Body) -> None:
        self.reply = body
        self._wake_up()

    def failed(self, error: SkerryError) -> None:
        self._error = error
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


__all__ = ["CALLER", "Body", "Handler", "Parts", "Served"]


def milliseconds(timeout_s: float) -> int:
    """A deadline as it travels."""
    return max(1, int(min(timeout_s, TIMEOUT_S_MAX) * 1000))


def error_of(event: Failed) -> SkerryError:
    """What a call of ours failed with."""
    error: SkerryError
    if event.outcome_unknown or meaning(event.code).exit == EXIT_UNREACHABLE:
        error = Unreachable(event.message, code=event.code, hint=event.hint, outcome_unknown=event.outcome_unknown)
    else:
        error = Refused(event.message, code=event.code, hint=event.hint)
    error.from_peer = True
    return error
