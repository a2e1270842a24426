"""A link: everything between this side and one peer. Calls and streams both ways, deadlines, cancellation, large values.

It joins the session machine to its connection. A body that does not fit a frame goes over the bulk connection first and is then named
by its number; callers and handlers never notice. Deadlines are kept by the caller, one timer for all calls of a link; giving up sends a
cancellation; the end of the connection cancels all that runs for it and fails all that waits.

The rule: every call ends exactly once: with a reply, with an error that says whether the work may have been done, or cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from skerry.channel.bulk import Bulk, refuse
from skerry.channel.calls import CALLER, TIMEOUT_S_MAX, Body, Handler, Parts, Served, error_of, milliseconds
from skerry.channel.deadlines import Deadlines
from skerry.channel.framing import AWAY, CALL, INLINE_BYTES_MAX, PART, PING, REPLY, WANT_BULK, Frame
from skerry.channel.handshake import Peer
from skerry.channel.session import (
    CREDIT_FIRST,
    Answer,
    BulkWanted,
    CallCancelled,
    CallOpened,
    CreditGiven,
    Failed,
    PartArrived,
    PeerAway,
    PongArrived,
    Replied,
    Session,
)
from skerry.channel.stream import FrameStream
from skerry.channel.turns import Turns
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable

BULK_TIMEOUT_S = 5.0  # to open the second connection
UNREAD_S = 120.0  # how long a stream may go unread: whoever looks at it may think, but it holds an agent
_MORE_TIME = "allow more with --timeout"
_MAY_NAME = frozenset({CALL, REPLY, PART})  # a transfer, instead of their body
log = logging.getLogger(__name__)


class Link:
    """One peer, connected. `handler` answers its calls, `open_bulk` dials a second connection (None on the side that was dialled)."""

    def __init__(
        self,
        stream: FrameStream,
        peer: Peer | None,
        handler: Handler,
        *,
        dialled: bool,
        token: bytes = b"",
        open_bulk: Callable[[Link], Awaitable[Bulk]] | None = None,
        bulk: Bulk | None = None,
        on_lost: Callable[[Link, SkerryError], None] | None = None,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.token = token
        self.away = False  # the peer takes no new calls here
        self.rights: frozenset[str] = frozenset()  # what the peer may do; kept up to date by the node's policy
        self.turns = Turns()  # in which its calls begin, those of all links of a node together
        self.takes_large = True  # whether it may have a bulk connection
        self._stream = stream
        self._session = Session()
        self._handler = handler
        self._open_bulk = open_bulk
        self._bulk = bulk
        self._bulk_wanted: asyncio.Future[Bulk] | None = None
        self._bulk_dialling = False
        self._on_lost = on_lost
        self._waiting: dict[int, asyncio.Future[Body]] = {}
        self._parts: dict[int, Parts] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._credit_waits: dict[int, asyncio.Future[None]] = {}
        self._deadlines = Deadlines(self._expire)
        self._loop = asyncio.get_running_loop()
        self._side_tasks: set[asyncio.Task[Any]] = set()
        self._closing: SkerryError | None = None
        self.opened_at = self._loop.time()
        stream.attach(self._on_frame, self._on_stream_lost)

    @property
    def id(self) -> bytes:
        return self.peer.id if self.peer else b""

    @property
    def closed(self) -> bool:
        return self._stream.closed

    @property
    def ended(self) -> bool:
        return self._stream.ended and (self._bulk is None or self._bulk.ended)

    @property
    def busy(self) -> bool:
        """Whether calls are open, either way."""
        return bool(self._waiting or self._parts or self._running or self._session.served_calls)

    @property
    def waits(self) -> bool:
        """Whether we wait for the peer."""
        return bool(self._waiting or self._parts)

    @property
    def last_heard(self) -> float:
        return self._stream.last_heard

    @property
    def connection(self) -> FrameStream:
        """The connection itself, for whoever limits or watches it."""
        return self._stream

    def take_idle(self) -> int:
        """How much the peer said, since this was last asked, that leads to nothing."""
        idle, self._session.idle = self._session.idle, 0
        return idle

    # --- asking ---------------------------------------------------------------------------------------------------------------

    async def call(self, verb: str, body: Body, *, timeout_s: float) -> Body:
        """Ask, and wait for the reply. Raises Refused with the peer's code, or Unreachable."""
        self._check_open()
        sent: Body | int = body
        if len(body) > INLINE_BYTES_MAX:
            sent, timeout_s = await self._land_first(body, timeout_s)
        frame = self._session.call(verb, sent, timeout_ms=milliseconds(timeout_s))
        number: int = frame[1]
        waiting: asyncio.Future[Body] = self._loop.create_future()
        self._waiting[number] = waiting
        self._deadlines.set(number, min(timeout_s, TIMEOUT_S_MAX))
        self._stream.send(frame)
        try:
            return await waiting
        except asyncio.CancelledError:
            self.give_up(number)
            raise

    async def stream(self, verb: str, body: Body, *, timeout_s: float) -> Parts:
        """Ask for a stream. The parts come as the caller takes them."""
        self._check_open()
        sent: Body | int = body
        if len(body) > INLINE_BYTES_MAX:
            sent, timeout_s = await self._land_first(body, timeout_s)
        frame = self._session.call(verb, sent, timeout_ms=milliseconds(timeout_s), credit=CREDIT_FIRST)
        number: int = frame[1]
        parts = self._parts[number] = Parts(self, number)
        self._deadlines.set(number, min(timeout_s, TIMEOUT_S_MAX))
        self._stream.send(frame)
        return parts

    def give_credit(self, number: int, parts: int) -> None:
        frame = self._session.give_credit(number, parts)
        if frame is not None:
            self._stream.send(frame)

    def give_up(self, number: int) -> None:
        """Nobody waits for this call any more: tell the peer."""
        self._waiting.pop(number, None)
        self._parts.pop(number, None)
        self._deadlines.drop(number)
        frame = self._session.cancel(number)
        if frame is not None:
            self._stream.send(frame)

    def ping(self) -> None:
        self._stream.send([PING, 0])

    def say_away(self, reason: str) -> None:
        """Ask the peer to make no new calls here."""
        if not self.closed:
            self._stream.send([AWAY, reason])

    # --- answering ------------------------------------------------------------------------------------------------------------

    async def send_part(self, served: Served, body: Body) -> None:
        sent: Body | int = body if len(body) <= INLINE_BYTES_MAX else await self._land(body, served.timeout_s)
        frame: Frame | None = None
        try:
            while self._session.credit_of(served.id) == 0:
                if not self._session.is_served(served.id) or self.closed:
                    raise Refused("the caller gave the stream up", code=Code.CANCELLED)
                waiting = self._credit_waits[served.id] = self._loop.create_future()
                async with asyncio.timeout(UNREAD_S):
                    await waiting
            frame = self._session.part(served.id, sent)
        except TimeoutError:
            raise Refused(f"the caller took no part of the stream for {UNREAD_S:g} s", code=Code.CANCELLED) from None
        finally:
            self._send_naming(frame, sent)

    def _begin(self, served: Served) -> bool:
        """Whether somebody wants it still."""
        if self.closed or not self._session.is_served(served.id):
            return False
        self._running[served.id] = self._loop.create_task(self._run(served))
        return True

    async def _run(self, served: Served) -> None:
        number = served.id
        sent: Body | int = b""
        CALLER.set(self.id)
        try:
            body = await self._handler(served)
            sent = body if len(body) <= INLINE_BYTES_MAX else await self._land(body, max(served.timeout_s, 1.0))
            frame = self._session.reply(number, sent)
        except SkerryError as error:
            unknown = isinstance(error, Unreachable) and error.outcome_unknown
            frame = self._session.fail(number, error.code, str(error), error.hint, outcome_unknown=unknown)
        except asyncio.CancelledError:
            frame = self._session.fail(number, Code.CANCELLED, "the work was cut short", outcome_unknown=True)
        except Exception:  # the boundary: a bug in a handler ends this call, not the connection or the node
            log.exception("the handler of %s failed", served.verb)
            frame = self._session.fail(number, Code.INTERNAL, f"{served.verb} failed inside the node", "see the node's log")
        self._running.pop(number, None)
        self._credit_waits.pop(number, None)
        self._send_naming(frame, sent)
        served.replied()

    def _send_naming(self, frame: Frame | None, sent: Body | int) -> None:
        """Send a frame; where the caller has gone, take back the large value that it would have named."""
        if frame is not None:
            self._stream.send(frame)
        elif isinstance(sent, int) and self._bulk is not None:
            self._bulk.withdraw(sent)

    # --- frames ---------------------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        event = self._session.receive(frame)
        match event:
            case Replied():
                self._replied(event)
            case CallOpened():
                served = Served(self, event, self._body(event.body))
                if self.turns.take():
                    self._running[event.id] = self._loop.create_task(self._run(served))
                else:
                    self.turns.wait(self.id, lambda: self._begin(served), first=not self._running)
            case PartArrived():
                parts = self._parts.get(event.id)
                body = self._body(event.body)
                if parts is not None:
                    parts.came(body)
            case Failed():
                self._fail_call(event.id, error_of(event))
            case CreditGiven() | CallCancelled():
                self._eased(event)
            case Answer(answer):
                self._drop_named(frame)
                self._stream.send(answer)
            case PeerAway():
                self.away = True
            case BulkWanted():
                self._spawn(self._dial_bulk())
            case PongArrived() | None:
                self._drop_named(frame)

    def _replied(self, event: Replied) -> None:
        body = self._body(event.body)
        self._deadlines.drop(event.id)
        waiting = self._waiting.pop(event.id, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(body)
            return
        parts = self._parts.pop(event.id, None)
        if parts is not None:
            parts.ended(body)

    def _fail_call(self, number: int, error: SkerryError) -> None:
        self._deadlines.drop(number)
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        parts = self._parts.pop(number, None)
        if parts is not None:
            parts.failed(error)

    def _eased(self, event: CreditGiven | CallCancelled) -> None:
        """A stream of ours got credit, or a call that we answer was given up."""
        waiting = self._credit_waits.pop(event.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        if isinstance(event, CallCancelled):
            task = self._running.get(event.id)
            if task is not None:
                task.cancel()

    def _body(self, body: bytes | int) -> Body:
        if isinstance(body, bytes):
            return body
        if self._bulk is None:
            raise ProtocolError("a call names a transfer, but there is no bulk connection")
        return self._bulk.take(body)

    def _drop_named(self, frame: Frame) -> None:
        """A frame that came too late, or was refused, may name a large value: nobody will take it."""
        if frame[0] in _MAY_NAME and isinstance(frame[-1], int) and self._bulk is not None:
            self._bulk.drop(frame[-1])

    def _expire(self, number: int) -> None:
        frame = self._session.cancel(number)
        self._fail_call(number, Refused("no answer came within the call's deadline", code=Code.DEADLINE_EXCEEDED, hint=_MORE_TIME))
        if frame is not None:
            self._stream.send(frame)

    # --- large values ---------------------------------------------------------------------------------------------------------

    async def _land_first(self, body: Body, timeout_s: float) -> tuple[int, float]:
        """The number of a body that the peer has now, and what is left of the call's time."""
        ends = self._loop.time() + timeout_s
        number = await self._land(body, timeout_s)
        self._check_open()
        return number, max(ends - self._loop.time(), 0.001)

    async def _land(self, body: Body, timeout_s: float) -> int:
        try:
            async with asyncio.timeout(timeout_s):
                return await (await self._get_bulk() if self.takes_large else refuse(len(body))).send(body)
        except TimeoutError:
            raise Refused("a large value did not get through within the call's deadline", code=Code.DEADLINE_EXCEEDED) from None

    async def _get_bulk(self) -> Bulk:
        if self._bulk is not None and not self._bulk.closed:
            return self._bulk
        if self._bulk_wanted is None:
            self._bulk_wanted = self._loop.create_future()
            if self._open_bulk is None:
                self._stream.send([WANT_BULK])
            else:
                self._spawn(self._dial_bulk())
        try:
            async with asyncio.timeout(BULK_TIMEOUT_S):
                return await asyncio.shield(self._bulk_wanted)
        except TimeoutError:
            self._bulk_wanted = None
            raise Unreachable("no second connection for a large value could be opened", hint="try again") from None

    async def _dial_bulk(self) -> None:
        if self._open_bulk is None or self._bulk_dialling or (self._bulk is not None and not self._bulk.closed):
            return
        self._bulk_dialling = True  # both sides may want it at once
        try:
            self.attach_bulk(await self._open_bulk(self))
        except SkerryError as error:
            wanted, self._bulk_wanted = self._bulk_wanted, None
            if wanted is not None and not wanted.done():
                wanted.set_exception(error)
        finally:
            self._bulk_dialling = False

    def attach_bulk(self, bulk: Bulk) -> None:
        """The second connection of this link is there."""
        if self.closed:
            bulk.close(Refused("the link that it belongs to is down", code=Code.CONNECTION_LOST))
            return
        if self._bulk is not None and not self._bulk.closed:
            self._bulk.close(Refused("another bulk connection took its place", code=Code.CONFLICT))
        self._bulk = bulk
        wanted, self._bulk_wanted = self._bulk_wanted, None
        if wanted is not None and not wanted.done():
            wanted.set_result(bulk)

    # --- the end --------------------------------------------------------------------------------------------------------------

    def close(self, reason: SkerryError) -> None:
        self._stream.close(reason)

    def abort(self, reason: SkerryError) -> None:
        self._stream.abort(reason)

    def _check_open(self) -> None:
        if self._stream.closed:
            raise Unreachable("the connection is closed", code=Code.CONNECTION_LOST)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    def _on_stream_lost(self, reason: SkerryError) -> None:
        self._deadlines.close()
        lost = Unreachable(reason.message, code=Code.CONNECTION_LOST, hint=reason.hint, outcome_unknown=True)
        for number in [*self._waiting, *self._parts]:
            self._fail_call(number, lost)
        for task in list(self._running.values()):
            task.cancel()
        if self._bulk is not None:
            self._bulk.close(reason)
        if self._bulk_wanted is not None and not self._bulk_wanted.done():
            self._bulk_wanted.set_exception(lost)
            self._bulk_wanted.exception()  # somebody may have stopped waiting: that is no warning
        if self._on_lost is not None:
            self._on_lost(self, reason)
