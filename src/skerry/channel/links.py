"""All links of one node: dial once, reuse; a second connection for bulk.

Between two nodes there is one call connection. Where both dialled at once, the one that the lower id dialled stays; where one side lost
its connection and dials again, the new one stays. Connections that have not proved who they are are capped and timed. Which links are
dead is `silence.py`'s to find out; who stays connected to whom, and when a dial is tried again, is `keeper.py`'s.

The rule: whoever wants to talk to a node gets the same link as everybody else, and waits for at most one dial.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from skerry.channel.address import relay_of
from skerry.channel.admission import Crowd, Room
from skerry.channel.bulk import Bulk
from skerry.channel.calls import Body, Served
from skerry.channel.crossing import Crossing
from skerry.channel.greeting import Greeting
from skerry.channel.handshake import LINK_BYTES, NONCE_BYTES, RUN_BYTES, TIMEOUT_S, Handshake, Ours, Peer, Purpose
from skerry.channel.link import Link
from skerry.channel.pipes import Pipes
from skerry.channel.silence import Watch
from skerry.channel.stream import FrameStream
from skerry.channel.turns import Turns
from skerry.channel.twins import Twins
from skerry.channel.via import Via, straight_or_over
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.keys import KeyPair, short
from skerry.ports import Clock, Listener, Network, Random

UNPROVEN_MAX = 256  # connections in their handshake; above it the oldest of the address with the most ends: honest ones take milliseconds
UNPROVEN_EACH_MAX = 64  # from one address, behind which may be a whole house
LINKS_MAX = 4096  # proven connections from elsewhere, of all kinds; this machine's own are not counted
LINKS_EACH_MAX = 32  # of one key: a node has one, another for a moment, and some that only look
LARGE_BYTES_MAX = 1024 * 1024 * 1024  # of large values that have come for calls still to be made, from all peers together
DRAIN_S = 5.0  # how long the connection that goes may finish its calls
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we show in a handshake: our grant, and the digest of the revocations that we know."""

    grant: bytes = b""
    revocations: bytes = b""


class Household(Protocol):
    """What the links ask the node (or client) that they belong to."""

    def credentials(self) -> Credentials: ...

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """Of every proven peer; raise a SkerryError to refuse it."""
        ...

    def is_node(self, peer: Peer) -> bool:
        """Whether the peer is another node of ours, with which one connection is enough."""
        ...

    async def serve(self, served: Served) -> Body:
        """Answer a call of a peer's."""
        ...

    def link_up(self, link: Link) -> None: ...

    def link_down(self, link: Link, reason: SkerryError) -> None: ...


class Links:
    """The links of the node or client that owns `key`."""

    def __init__(self, key: KeyPair, *, network: Network, clock: Clock, random: Random, household: Household) -> None:
        self._key = key
        self._network = network
        self._clock = clock
        self._random = random
        self._household = household
        self._nodes: dict[bytes, Link] = {}
        self._in_order: list[Link] | None = None  # those, while none comes or goes
        self._by_token: dict[bytes, Link] = {}
        self._dialling: dict[bytes, asyncio.Task[Link]] = {}
        self._unproven: Crowd[FrameStream] = Crowd(most=UNPROVEN_MAX, most_each=UNPROVEN_EACH_MAX)
        self._room = Room(LARGE_BYTES_MAX)
        self._turns = Turns()
        self._count: Counter[bytes] = Counter()  # links by the peer's id
        self._crossing = Crossing(key.public)
        self._listeners: list[Listener] = []
        self._watch = Watch(self.all, lambda link: self._nodes.get(link.id) is link)
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._run = random.token(RUN_BYTES)
        self._twins = Twins()
        self.pipes = Pipes(network, random)  # that we forward for others
        self.via = Via(network, self._open_pipe, self._accept)  # our own ways over others

    def watch_twins(self, watcher: Callable[[Link], None]) -> None:
        """Hear of links whose node runs a second time somewhere else."""
        self._twins.watcher = watcher

    @property
    def unproven(self) -> int:
        return len(self._unproven)

    def all(self) -> list[Link]:
        """Every open call connection, nodes' and clients', oldest first."""
        return list(self._by_token.values())

    def get(self, peer_id: bytes) -> Link | None:
        """The link to a node, where one is up."""
        link = self._nodes.get(peer_id)
        return link if link is not None and not link.closed else None

    def nodes(self) -> list[Link]:
        """The links to other nodes, in the order of their ids."""
        if self._in_order is None:
            self._in_order = [link for _, link in sorted(self._nodes.items())]
        return [link for link in self._in_order if not link.closed]

    async def listen(self, address: str) -> Listener:
        listener = await self._network.listen(address, lambda: FrameStream(on_made=self._accept))
        self._listeners.append(listener)
        return listener

    async def to(self, peer_id: bytes, addresses: Sequence[str], *, timeout_s: float) -> Link:
        """The link to a node: the one that is up, or the outcome of the one dial that is under way. Raises Unreachable or Refused."""
        link = self.get(peer_id)
        if link is not None and not link.away:
            return link
        task = self._dialling.get(peer_id)
        if task is None:
            task = self._loop.create_task(self._dial_any(peer_id, addresses))
            self._dialling[peer_id] = task
            task.add_done_callback(lambda done: self._dial_ended(peer_id, done))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unreachable(f"the node {short(peer_id)} did not answer within {timeout_s:g} s", hint=_DOCTOR) from None

    async def dial(self, address: str, *, expected: bytes | None, timeout_s: float = TIMEOUT_S) -> Link:
        """A new call connection to that address, proved. `expected` None takes whoever the certificate shows (doctor, ping)."""
        stream, peer = await self._open(address, expected, Purpose.CALL, b"", timeout_s)

        async def open_bulk(link: Link) -> Bulk:
            bulk_stream, _ = await self._open(address, peer.id, Purpose.BULK, link.token, TIMEOUT_S)
            return Bulk(bulk_stream, room=self._room)

        link = Link(stream, peer, self._household.serve, dialled=True, token=peer.link, open_bulk=open_bulk, on_lost=self._on_link_lost)
        self._register(link)
        if link.closed or link.away:
            return self._nodes.get(peer.id, link)
        return link

    async def probe(self, address: str, *, expected: bytes | None, timeout_s: float) -> Link:
        """A connection of its own, that is never taken for the link to its node; whoever asked for it closes it."""
        stream, peer = await self._open(address, expected, Purpose.PROBE, b"", timeout_s)
        return Link(stream, peer, self._household.serve, dialled=True)

    async def close(self) -> None:
        """Accept no more, say that we go, end everything."""
        self._closed = True
        self._watch.stop()
        for listener in self._listeners:
            await listener.close()
        self._twins.close()
        self.pipes.close()
        for task in list(self._dialling.values()):
            task.cancel()
        gone = Unreachable("the node shuts down", code=Code.SHUTTING_DOWN, outcome_unknown=True)
        for link in self.all():
            link.say_away("the node shuts down")
            link.close(gone)
        for stream in self._unproven.all():
            stream.abort(gone)

    # --- dialling -------------------------------------------------------------------------------------------------------------

    async def _dial_any(self, peer_id: bytes, addresses: Sequence[str]) -> Link:
        """Straight where that goes; where it does not at once, over a relay too, and the first that is there is taken."""
        straight = [address for address in addresses if relay_of(address) is None]
        said = [address for address in addresses if relay_of(address) is not None]
        over = self.via.in_order(peer_id, said)
        if not over:
            return await self._dial_each(peer_id, straight)
        return await straight_or_over(self._dial_each(peer_id, straight), lambda: self._dial_each(peer_id, over), is_said=bool(said))

    async def _dial_each(self, peer_id: bytes, addresses: Sequence[str]) -> Link:
        error: SkerryError = Unreachable(f"no address of the node {short(peer_id)} is known", hint="is it up, and did it ever join?")
        for address in addresses:
            try:
                return await self.dial(address, expected=peer_id)
            except SkerryError as failed:
                error = failed
                link = self.get(peer_id)
                if link is not None:  # the peer dialled us meanwhile
                    return link
        raise error

    def _dial_ended(self, peer_id: bytes, task: asyncio.Task[Link]) -> None:
        self._dialling.pop(peer_id, None)
        if not task.cancelled():
            task.exception()  # whoever waited has seen it; where nobody did, it is no news

    async def _open(
        self, address: str, expected: bytes | None, purpose: Purpose, token: bytes, timeout_s: float
    ) -> tuple[FrameStream, Peer]:
        """A connection, and who is there, judged."""
        if self._closed:
            raise Unreachable("this side is shut down", code=Code.SHUTTING_DOWN)
        proved: asyncio.Future[Peer] = self._loop.create_future()

        def came(_: Greeting, peer: Peer) -> None:
            if not proved.done():
                proved.set_result(peer)

        def failed(_: Greeting, error: SkerryError) -> None:
            if not proved.done():
                proved.set_exception(error)

        stream = await self.via.connect(address, expected, timeout_s=timeout_s)
        greeting = Greeting(
            stream,
            self._handshake(stream, dialler=True, expected=expected, purpose=purpose, link=token),
            on_proved=came,
            on_failed=failed,
        )
        greeting.start()
        try:
            peer = await proved
            self._household.judge(peer, dialled=purpose is not Purpose.PROBE)
        except SkerryError as error:
            stream.close(error)
            raise
        except asyncio.CancelledError:
            stream.abort(Refused("nobody waits for this connection any more", code=Code.CANCELLED))
            raise
        return stream, peer

    async def _open_pipe(self, address: str, relay: bytes, token: bytes) -> FrameStream:
        """Our end of a pipe, at the relay."""
        stream, _ = await self._open(address, relay, Purpose.PIPE, token, TIMEOUT_S)
        return stream

    def _handshake(
        self, stream: FrameStream, *, dialler: bool, expected: bytes | None = None, purpose: Purpose = Purpose.CALL, link: bytes = b""
    ) -> Handshake:
        assert stream.transport is not None
        credentials = self._household.credentials()
        ours = Ours(
            key=self._key,
            nonce=self._run + self._random.token(NONCE_BYTES - RUN_BYTES),
            now_ms=self._clock.now_ms(),
            grant=credentials.grant,
            revocations=credentials.revocations,
            purpose=purpose,
            link=link,
        )
        return Handshake(ours, self._network.security(stream.transport), dialler=dialler, expected=expected)

    # --- accepting ------------------------------------------------------------------------------------------------------------

    def _accept(self, stream: FrameStream) -> None:
        handshake = self._handshake(stream, dialler=False)
        if self._closed or (len(self._by_token) >= LINKS_MAX and not handshake.security.same_owner):
            stream.abort(Refused("no more connections are taken", code=Code.BUSY))
            return
        oldest = self._unproven.enter(stream, stream.address)
        if oldest is not None:
            oldest.abort(Refused("too many connections did not prove who they are", code=Code.BUSY))
        Greeting(stream, handshake, on_proved=self._proved, on_failed=self._not_proved).start()

    def _not_proved(self, greeting: Greeting, error: SkerryError) -> None:
        self._unproven.leave(greeting.stream)
        log.debug("a connection did not prove who it is: %s", error)

    def _proved(self, greeting: Greeting, peer: Peer) -> None:
        self._unproven.leave(greeting.stream)
        try:
            if self._closed:
                raise Unreachable("the node shuts down", code=Code.SHUTTING_DOWN)
            self._household.judge(peer, dialled=False)
            is_extra = peer.purpose in (Purpose.BULK, Purpose.PIPE)  # which have bounds of their own
            if self._count[peer.id] >= LINKS_EACH_MAX and not peer.same_owner and not is_extra:
                raise Refused(f"{short(peer.id)} has {LINKS_EACH_MAX} connections here already", code=Code.BUSY, hint="close some")
            owner = self._owner_of(peer) if peer.purpose is Purpose.BULK else None
        except SkerryError as error:
            greeting.refuse(error)
            return
        if peer.purpose is Purpose.PIPE:
            self.pipes.came(greeting, peer)
            return
        if owner is not None:
            greeting.welcome(link=b"")
            owner.attach_bulk(Bulk(greeting.stream, room=self._room))
            return
        known = self.get(peer.id)
        if known is None or not self._is_twin(known, peer):
            self._welcome(greeting, peer)
        else:
            self._twins.contest(greeting, known, let_in=lambda: self._welcome(greeting, peer))

    def _is_twin(self, known: Link, peer: Peer) -> bool:
        """Whether a node that we have a link to comes again from another process."""
        assert known.peer is not None
        return peer.purpose is Purpose.CALL and known.peer.run != peer.run and self._household.is_node(peer)

    def _welcome(self, greeting: Greeting, peer: Peer) -> None:
        token = self._random.token(LINK_BYTES)
        greeting.welcome(link=token)
        link = Link(greeting.stream, peer, self._household.serve, dialled=False, token=token, on_lost=self._on_link_lost)
        self._register(link)

    def _owner_of(self, peer: Peer) -> Link:
        owner = self._by_token.get(peer.link)
        if owner is None or owner.dialled or owner.id != peer.id:
            raise Refused("a bulk connection for a link that is not yours or not up", code=Code.NOT_FOUND)
        if not owner.takes_large:
            raise Refused("large values are taken of members alone", code=Code.NOT_GRANTED)
        return owner

    # --- the one link per node ------------------------------------------------------------------------------------------------

    def _register(self, link: Link) -> None:
        assert link.peer is not None
        link.turns = self._turns
        self._by_token[link.token] = link
        self._count[link.id] += 1
        if not self._closed:
            self._watch.start()
        if link.peer.purpose is Purpose.PROBE or not self._household.is_node(link.peer):
            self._household.link_up(link)
            return
        known = self._nodes.get(link.id)
        if known is None or known.closed or known.away:
            self._enter(link)
        elif self._is_twin(known, link.peer) and link.dialled:  # it came to us while we dialled another one of it
            self._drain(link)
            self._twins.tell(known)
            return
        elif self._crossing.stays(known, link, now=self._loop.time()):
            self._drain(link)
            return
        else:
            self._enter(link)
            self._drain(known)
        self._household.link_up(link)

    def _enter(self, link: Link) -> None:
        self._nodes[link.id] = link
        self._in_order = None

    def _drain(self, link: Link) -> None:
        link.say_away("another connection between us stays")
        link.away = True
        reason = Refused("another connection between the two nodes stays", code=Code.CONFLICT)

        def end_when_idle(tries: int) -> None:
            if link.closed:
                return
            if not link.busy or tries <= 0:
                link.close(reason)
            else:
                self._loop.call_later(DRAIN_S / 10, end_when_idle, tries - 1)

        self._loop.call_later(DRAIN_S / 10, end_when_idle, 10)

    def _on_link_lost(self, link: Link, reason: SkerryError) -> None:
        if self._by_token.pop(link.token, None) is not None:
            self._count[link.id] -= 1
            if not self._count[link.id]:
                del self._count[link.id]
        self._watch.forget(link)
        self._crossing.forget(link)
        if self._nodes.get(link.id) is link:
            del self._nodes[link.id]
            self._in_order = None
            if link.connection.is_relayed and isinstance(reason, Unreachable):
                self.via.lost(link.id, link.connection.path)
            self._household.link_down(link, reason)


_DOCTOR = "`skerry doctor` says what is wrong"
