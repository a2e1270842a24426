"""The control channel over real sockets, with peers that are down, say nothing, answer with garbage, or end in the middle; and our own
listener, with visitors of every sort."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.letters import session_of
from skerry.agents.verbs import AgentRunRequest
from skerry.channel import acceptor
from skerry.channel.calls import Body, Served
from skerry.channel.framing import FRAME_BYTES_MAX
from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair, agent_id
from skerry.node import operations
from skerry.node.mail import Sender
from skerry.node.node import Node
from skerry.node.policy import OWNER
from skerry.node.verbs import ContactAddRequest
from skerry.wiring import proxy as proxy_module
from skerry.wiring.aside import SPACE as ASIDE
from skerry.wiring.proxy import ControlChannelUnavailable, Decode, Rejected, RemoteEndpoint, RemoteProxy
from skerry.wiring.verbs import VERBS_OF_WIRES, DeliverReply, DeliverRequest, InjectReply, LookupReply, WireRequest
from skerry.wiring.wires import key_text, peer_id
from tests.support import async_poll_until
from tests.support.links import Household
from tests.support.node_here import node_here

DESKS = Path(__file__).with_name("desks.py")
FORMATION = KeyPair.from_seed(b"f" * 32)
AGENT = KeyPair.from_seed(b"a" * 32)
PEER = KeyPair.from_seed(b"p" * 32)
REQUEST = WireRequest("desk", "tcp://127.0.0.1:9", "here/Desk/left", peer_id(AGENT.public), key_text(AGENT.public))
EXCHANGE_S = 0.5  # in place of 5 s
GARBAGE = [b"", b"\xff\xff", b"garbage", pack(7), pack([1, 2]), pack({"handled": "many"}), pack({"peer_id": 1})]


@dataclass
class Peer(Household):
    """Another formation's only node, which answers as it is told."""

    key: KeyPair
    answer: Callable[[Served], Any] = field(default=lambda served: b"")
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        Household.__init__(self)
        self.links = Links(self.key, network=RealNetwork(self.key), clock=SystemClock(), random=SystemRandom(), household=self)

    async def serve(self, served: Served) -> Body:
        self.asked.append(served.verb)
        found = self.answer(served)
        answer: Body = await found if asyncio.iscoroutine(found) else found
        return answer

    async def listen(self) -> None:
        self.address = (await self.links.listen("tcp://127.0.0.1:0")).address


@asynccontextmanager
async def peer_of(answer: Callable[[Served], Any] = lambda served: b"", *, seed: bytes = b"p" * 32) -> AsyncIterator[Peer]:
    made = Peer(KeyPair.from_seed(seed), answer)
    await made.listen()
    try:
        yield made
    finally:
        await made.links.close()


@asynccontextmanager
async def proxy_to(address: str, identity: bytes) -> AsyncIterator[RemoteProxy]:
    """A proxy over links of its own."""
    own = KeyPair.from_seed(b"o" * 32)
    links = Links(own, network=RealNetwork(own), clock=SystemClock(), random=SystemRandom(), household=Household())

    async def link() -> Link:
        return await links.to(identity, [address], timeout_s=EXCHANGE_S * 2)

    try:
        yield RemoteProxy("lab", RemoteEndpoint.of(address), link)
    finally:
        await links.close()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "EXCHANGE_TIMEOUT_S", EXCHANGE_S)


async def _never(_: Served) -> bytes:
    await asyncio.Event().wait()
    return b""


# --- peers, as the proxy sees them ------------------------------------------------------------------------------------------------------


async def test_fix_the_cause_is_kept_where_nobody_listens() -> None:
    async with peer_of() as peer:
        address = peer.address
    async with proxy_to(address, peer.key.public) as proxy:
        with pytest.raises(ControlChannelUnavailable) as failed:
            await proxy.wire(REQUEST)
    assert (failed.value.mob_id, failed.value.endpoint, failed.value.operation) == ("lab", address, "connect")
    assert not failed.value.outcome_unknown
    causes = []
    error: BaseException | None = failed.value
    while error is not None:
        causes.append(error)
        error = error.__cause__
    assert isinstance(causes[-1], OSError), f"the system's own error is kept: {causes}"


async def test_a_peer_that_accepts_and_says_nothing() -> None:
    """Before anybody proved anything: a port that is open, and no TLS behind it."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with proxy_to(f"tcp://127.0.0.1:{port}", b"p" * 32) as proxy:
            with pytest.raises(ControlChannelUnavailable) as failed:
                await proxy.lookup_member("desk")
        assert failed.value.operation == "connect"
        assert loop.time() - began < 6
    finally:
        for writer in held:
            writer.close()
        server.close()
        await server.wait_closed()


async def test_a_peer_that_proves_itself_and_then_says_nothing_and_the_next_call_goes_on() -> None:
    async with peer_of(_never) as peer, proxy_to(peer.address, peer.key.public) as proxy:
        with pytest.raises(ControlChannelUnavailable) as failed:
            await proxy.wire(REQUEST)
        assert failed.value.operation == "timeout"
        assert failed.value.outcome_unknown, "the work may have been done"
        peer.answer = lambda served: pack_message(InjectReply("s-1"))
        assert await proxy.inject("desk", "x") == "s-1"
        assert len(peer.links.all()) == 1, "the link was fine, and is used again"


async def test_a_peer_that_ends_in_the_middle_and_one_that_is_back() -> None:
    async def end(served: Served) -> bytes:
        served.link.abort(Unreachable("it dies", code=Code.CONNECTION_LOST))
        return b""

    async with peer_of(end) as peer, proxy_to(peer.address, peer.key.public) as proxy:
        with pytest.raises(ControlChannelUnavailable) as failed:
            await proxy.wire(REQUEST)
        assert failed.value.operation == "read"
        assert failed.value.outcome_unknown
        peer.answer = lambda served: pack_message(InjectReply("s-2"))
        assert await proxy.inject("desk", "x") == "s-2", "a new link, without anybody's doing"


@pytest.mark.parametrize("body", GARBAGE)
async def test_a_peer_that_answers_with_garbage(body: bytes) -> None:
    async with peer_of(lambda served: body) as peer, proxy_to(peer.address, peer.key.public) as proxy:
        for ask in (proxy.lookup_member("desk"), proxy.inject("desk", "x")):
            with pytest.raises(Decode) as failed:
                await ask
            assert failed.value.endpoint == peer.address
        assert len(peer.links.all()) == 1, "one bad answer ends no link"


async def test_a_peer_that_refuses_keeps_its_code() -> None:
    def refuse(_: Served) -> bytes:
        raise Refused("the moon is full", code="moon_full", hint="wait a night")

    def late(_: Served) -> bytes:
        raise Refused("it took too long here", code=Code.DEADLINE_EXCEEDED)

    async with peer_of(late) as peer, proxy_to(peer.address, peer.key.public) as proxy:
        with pytest.raises(Rejected) as its_own:
            await proxy.wire(REQUEST)
        assert its_own.value.code == Code.DEADLINE_EXCEEDED, "that is the peer's word, not our own time-out"
    async with peer_of(refuse) as peer, proxy_to(peer.address, peer.key.public) as proxy:
        with pytest.raises(Rejected) as refused:
            await proxy.wire(REQUEST)
        assert (refused.value.code, refused.value.message, refused.value.hint) == ("moon_full", "the moon is full", "wait a night")


# --- a whole node and such a peer --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def node_and_peer(folder: Path, answer: Callable[[Served], Any] = lambda served: b"") -> AsyncIterator[tuple[Node, Peer]]:
    """A node with an agent that takes letters, and its contact: the peer."""
    async with peer_of(answer) as peer, node_here(folder) as node:
        request = ContactAddRequest("lab", [peer.address], node=peer.key.public.hex(), allow=["wire:*", "inject:*"])
        await operations.perform(node, "contact.add", request, rights=OWNER)
        await operations.perform(node, "agent.run", AgentRunRequest(f"{DESKS}:Book", "left"), rights=OWNER)
        yield node, peer


def theirs(peer: Peer) -> str:
    """The address of the peer's agent, by ids."""
    return f"{agent_id(AGENT.public)}@{peer.key.public.hex()}@{FORMATION.public.hex()}"


async def send(node: Node, peer: Peer, content: object) -> None:
    await node.mail.send(Sender(node.key.public, "here"), theirs(peer), pack(content), urgent=False)


@pytest.mark.parametrize("body", GARBAGE)
async def test_a_wire_to_a_peer_that_answers_with_garbage_leaves_nothing(tmp_path: Path, body: bytes) -> None:
    found = LookupReply(
        peer_id(AGENT.public), "lab/Desk/right", agent_id(AGENT.public), PEER.public.hex(), FORMATION.public.hex(), key_text(AGENT.public)
    )

    async with node_and_peer(tmp_path, lambda served: body) as (node, peer):
        with pytest.raises(SkerryError):
            await node.wires.add("left", "lab/right")
        assert node.wires.infos() == []
        peer.answer = lambda served: pack_message(found) if served.verb == "lookup_member" else body
        with pytest.raises((ProtocolError, SkerryError)):
            await node.wires.add("left", "lab/right")
        assert "wire" in peer.asked
        assert node.wires.infos() == []
        asked = len(peer.asked)
        lie = replace(found, node=AGENT.public.hex())
        peer.answer = lambda served: pack_message(lie)
        with pytest.raises(ProtocolError, match="somebody else"):
            await node.wires.add("left", "lab/right")
        assert [verb for verb in peer.asked[asked:] if verb in VERBS_OF_WIRES] == ["lookup_member"]


async def test_a_time_out_after_the_work_was_done_leaves_nothing_here(tmp_path: Path) -> None:
    found = LookupReply(
        peer_id(AGENT.public), "lab/Desk/right", agent_id(AGENT.public), PEER.public.hex(), FORMATION.public.hex(), key_text(AGENT.public)
    )

    async def slow(served: Served) -> Body:
        if served.verb == "lookup_member":
            return pack_message(found)
        return await _never(served)

    async with node_and_peer(tmp_path, slow) as (node, peer):
        with pytest.raises(ControlChannelUnavailable) as failed:
            await node.wires.add("left", "lab/right")
        assert failed.value.operation == "timeout"
        assert node.wires.infos() == []
        assert peer.asked.count("wire") == 1


async def test_letters_to_a_peer_that_answers_with_garbage_wait_and_to_one_that_mends_arrive(tmp_path: Path) -> None:
    bodies = iter([*GARBAGE, pack_message(DeliverReply(0)), pack_message(DeliverReply(-7)), pack_message(DeliverReply(2**63))])
    taken: list[int] = []

    def answer(served: Served) -> bytes:
        if served.verb != "mail.deliver":
            return pack({})
        letters = unpack_message(DeliverRequest, served.body).letters
        body = next(bodies, None)
        if body is not None and body != pack_message(DeliverReply(2**63)):
            return body
        taken.extend(letter.seq for letter in letters)
        return body or pack_message(DeliverReply(letters[-1].seq))

    async with node_and_peer(tmp_path, answer) as (node, peer):
        for number in range(3):
            await send(node, peer, number)

        async def hurry() -> bool:
            node.mail.post.try_again()
            return not len(node.mail.outbox)

        await async_poll_until(hurry, 20.0, what="all were taken in the end")
        assert len(taken) >= 3
        assert taken == sorted(taken)
        assert node.ports.store.facts(ASIDE) == []
        session = session_of(node.key.public * 2, agent_id(AGENT.public))
        assert node.mail.outbox.sessions() == []
        assert session not in node.mail.post._carriers


async def test_fix_one_bad_connection_never_ends_the_listener(tmp_path: Path) -> None:
    async with node_and_peer(tmp_path) as (node, peer):
        host, port = node.addresses()[0].removeprefix("tcp://").rsplit(":", 1)
        open_: list[asyncio.StreamWriter] = []
        for data in (b"", b"\x00" * 1000, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"\xff" * 70_000):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            open_.append(writer)
        open_[1].transport.abort()
        link = await peer.links.to(node.key.public, [node.addresses()[0]], timeout_s=5.0)
        assert await link.call("ping", pack({}), timeout_s=5.0)
        for verb, body in (
            ("wire", b"\xff"),
            ("mail.deliver", b""),
            ("inject", pack([1])),
            ("lookup_member", pack({"x": 1})),
            ("no.verb", b""),
        ):
            with pytest.raises(SkerryError):
                await link.call(verb, body, timeout_s=5.0)
        assert await link.call("ping", pack({}), timeout_s=5.0)
        for writer in open_:
            writer.close()


async def test_fix_connection_and_frame_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens many ports at once loses the oldest; who announces a frame that is too large loses its connection; all others go on."""
    monkeypatch.setattr(acceptor, "HANDSHAKES_EACH_MAX", 4)
    async with node_and_peer(tmp_path) as (node, peer), peer_of(seed=b"q" * 32) as other:
        host, port = node.addresses()[0].removeprefix("tcp://").rsplit(":", 1)
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(10)]
        async with asyncio.timeout(3):  # long before the time-out for those that say nothing
            await asyncio.gather(*(reader.read() for reader, _ in opened[:6]), return_exceptions=True)
        assert not any(reader.at_eof() for reader, _ in opened[6:])
        for _, writer in opened:
            writer.close()
        fine = await peer.links.to(node.key.public, [node.addresses()[0]], timeout_s=5.0)
        bad = await other.links.to(node.key.public, [node.addresses()[0]], timeout_s=5.0)
        transport = bad.connection.transport
        assert transport is not None
        transport.write((FRAME_BYTES_MAX + 1).to_bytes(4, "big") + bytes(100))
        await async_poll_until(lambda: bad.closed, 5.0, what="its connection is ended")
        assert await fine.call("ping", pack({}), timeout_s=5.0), "and nobody else's"
        again = await other.links.to(node.key.public, [node.addresses()[0]], timeout_s=5.0)
        assert await again.call("ping", pack({}), timeout_s=5.0)


async def test_fix_read_time_outs(tmp_path: Path) -> None:
    """Whoever says nothing is sent away: a port that is held open costs us nothing for long."""
    async with node_here(tmp_path) as node:
        host, port = node.addresses()[0].removeprefix("tcp://").rsplit(":", 1)
        readers = [(await asyncio.open_connection(host, int(port))) for _ in range(3)]
        async with asyncio.timeout(15):
            ends = await asyncio.gather(*(reader.read() for reader, _ in readers), return_exceptions=True)
        assert all(end == b"" or isinstance(end, OSError) for end in ends)
        for _, writer in readers:
            writer.close()
        assert len(node.links._unproven.all()) == 0
