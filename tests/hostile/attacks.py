"""What hostile peers do, one function each: it is given a way to the node and returns when the node has ended the connection.

None of them closes anything by itself: what is tested is that the node does. Each says beside it within which time that has to be.
"""

from __future__ import annotations

import asyncio
import os
import select
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.echo_agent import CAPABILITY, PARTS
from skerry.channel.acceptor import TLS_TIMEOUT_S
from skerry.channel.framing import CALL, CREDIT, HELLO, OFFER, PING, Frame, encode_frame
from skerry.channel.handshake import NONCE_BYTES, TIMEOUT_S, Purpose
from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.channel.silence import DEAD_AFTER_S, PING_AFTER_S, STUCK_S
from skerry.errors import SkerryError
from skerry.gateway.server import HEAD_S
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair
from skerry.node.strangers import STAY_S
from skerry.node.verbs import JoinRequest
from tests.hostile.target import Target, links_of

DRIP_S = 0.2
PINGS_PER_S = 2
LAG_S = 5.0  # what a node that is under siege, on a machine that is busy, may be late
SILENT_S = PING_AFTER_S + DEAD_AFTER_S + 1.0
BURST = 200
HUGE_BYTES = 256 * 1024 * 1024
FLOOD_AT_ONCE = 50  # calls of one connection
UNREAD_CALLS = 60  # of 20 KB: what is above half a MB waits in the node
FLOOD_S = 4.0  # what a member may do, as much as it can, for so long
FLOOD_BYTES = 512  # in each call of a flood


@dataclass(slots=True)
class Way:
    """One attempt's way to the node."""

    target: Target
    address: str
    insider: tuple[KeyPair, bytes]
    tls: ssl.SSLContext

    async def tcp(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.target.place()
        return await asyncio.open_connection(host, port, local_addr=(self.address, 0))

    async def through_tls(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.target.place()
        return await asyncio.open_connection(host, port, ssl=self.tls, server_hostname="skerry", local_addr=(self.address, 0))

    async def http(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.target.http.rpartition(":")
        return await asyncio.open_connection(host, int(port), local_addr=(self.address, 0))

    async def stranger(self) -> Link:
        key = KeyPair.from_seed(os.urandom(32))
        return await self._link(key, b"")

    async def member(self) -> Link:
        return await self._link(*self.insider)

    async def _link(self, key: KeyPair, grant: bytes) -> Link:
        links = links_of(key, grant, self.address, self.tls)
        link = await links.dial(self.target.mesh, expected=bytes.fromhex(self.target.node))
        links._watch.stop()  # who is hostile does not ask whether the node lives
        return link


Attack = Callable[[Way], Awaitable[None]]


async def _ended(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except OSError:
        pass


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """A byte at a time until it is over."""
    over = asyncio.ensure_future(_ended(reader))
    for byte in data:
        if over.done():
            break
        writer.write(bytes([byte]))
        await asyncio.wait({over}, timeout=DRIP_S)
    await over


def _say(link: Link, frame: Frame) -> None:
    """As it stands, past all that our own side checks."""
    assert link.connection.transport is not None
    link.connection.transport.write(encode_frame(frame))


async def _deaf(link: Link) -> None:
    """Read nothing from now on, say something now and then, and wait until the node has had enough.

    Where it answered so little that all of it lies in the system's buffers nothing waits in the node, and it may stay: then we go.
    """
    ends = asyncio.get_running_loop().time() + STUCK_S + LAG_S
    has_gone = _unheard(link)
    while not link.closed and not has_gone() and asyncio.get_running_loop().time() < ends:
        _say(link, [PING, 1])
        await asyncio.sleep(1.0 / PINGS_PER_S)
    link.abort(SkerryError("bored"))


async def _mute(link: Link) -> None:
    """Read nothing and say nothing from now on, until the node has ended it. Who read again would be one that is only slow."""
    has_gone = _unheard(link)
    while not link.closed and not has_gone():
        await asyncio.sleep(DRIP_S)
    link.abort(SkerryError("done"))


def _unheard(link: Link) -> Callable[[], bool]:
    """Stop reading; whether the node has ended the connection, which nobody tells who does not read."""
    transport = link.connection.transport
    assert transport is not None
    transport.pause_reading()
    connection = transport.get_extra_info("socket")
    watch = select.poll()
    watch.register(connection.fileno(), select.POLLRDHUP)
    return lambda: connection.fileno() < 0 or bool(watch.poll(0))


async def _until_closed(link: Link) -> None:
    while not link.closed:
        await asyncio.sleep(DRIP_S / 4)


# --- before TLS, and just after it ----------------------------------------------------------------------------------------------


async def says_nothing(way: Way) -> None:
    reader, _ = await way.tcp()
    await _ended(reader)


async def drips_tls(way: Way) -> None:
    await _drip(*await way.tcp(), bytes.fromhex("1603010200010001fc0303") + os.urandom(500))


async def garbage_for_tls(way: Way) -> None:
    reader, writer = await way.tcp()
    writer.write(os.urandom(4096))
    await _ended(reader)


async def silent_after_tls(way: Way) -> None:
    reader, _ = await way.through_tls()
    await _ended(reader)


async def garbage_frames(way: Way) -> None:
    reader, writer = await way.through_tls()
    writer.write(b"\x00\x00\x01\x00" + os.urandom(256))
    await _ended(reader)


async def oversized_frame(way: Way) -> None:
    reader, writer = await way.through_tls()
    writer.write(b"\xff\xff\xff\xff" + bytes(1000))
    await _ended(reader)


async def drips_a_frame(way: Way) -> None:
    await _drip(*await way.through_tls(), b"\x00\x00\xff\x00" + bytes(1000))


async def half_a_handshake(way: Way) -> None:
    reader, writer = await way.through_tls()
    hello = [HELLO, 1, 1, KeyPair.from_seed(os.urandom(32)).public, os.urandom(NONCE_BYTES), Purpose.CALL.value, b"", 0]
    writer.write(encode_frame(hello))
    await _ended(reader)


# --- strangers ------------------------------------------------------------------------------------------------------------------


async def stranger_stays(way: Way) -> None:
    await _until_closed(await way.stranger())


async def stranger_pings(way: Way) -> None:
    link = await way.stranger()
    while not link.closed:
        await asyncio.gather(*(link.call("ping", b"\xa0", timeout_s=5) for _ in range(BURST)), return_exceptions=True)


async def stranger_guesses_tickets(way: Way) -> None:
    link = await way.stranger()
    while not link.closed:
        try:
            await link.call("node.join", pack_message(JoinRequest(os.urandom(16), "guess")), timeout_s=5)
        except SkerryError:
            continue


async def stranger_offers_gigabytes(way: Way) -> None:
    link = await way.stranger()
    await asyncio.gather(*(link.call("ping", bytes(1024 * 1024), timeout_s=20) for _ in range(3)), return_exceptions=True)
    await _until_closed(link)


# --- members --------------------------------------------------------------------------------------------------------------------


async def never_reads_answers(way: Way) -> None:
    link = await way.member()
    body = pack([CAPABILITY, pack(bytes(20_000))])
    for number in range(1, UNREAD_CALLS + 1):
        _say(link, [CALL, number, "task.call", 20_000, 0, body])
    await _deaf(link)


async def never_reads_streams(way: Way) -> None:
    link = await way.member()
    body = pack([PARTS, pack(1_000_000)])
    for number in range(1, 9):
        _say(link, [CALL, number, "task.call", 3_600_000, 32, body])
    await _mute(link)  # it is too little to fill anything; but who is asked whether it lives says nothing


async def floods_calls(way: Way) -> None:
    """What it may ask, asked as often as it can be; an honest caller has one call under way where this one has fifty."""
    link = await way.member()
    body = pack([CAPABILITY, pack(bytes(FLOOD_BYTES))])
    ends = asyncio.get_running_loop().time() + FLOOD_S

    async def keep_calling() -> None:
        while not link.closed and asyncio.get_running_loop().time() < ends:
            try:
                await link.call("task.call", body, timeout_s=20)
            except SkerryError:
                await asyncio.sleep(0)

    await asyncio.gather(*(keep_calling() for _ in range(FLOOD_AT_ONCE)))
    link.close(SkerryError("done"))


async def turns_hostile(way: Way) -> None:
    """An honest member for a moment, and then one with a broken program."""
    link = await way.member()
    for _ in range(5):
        await link.call("task.call", pack([CAPABILITY, pack("Ada")]), timeout_s=20)
    assert link.connection.transport is not None
    link.connection.transport.write(encode_frame([PING, 1])[:-1] + os.urandom(2048))
    await _until_closed(link)


async def gives_false_credit(way: Way) -> None:
    link = await way.member()
    _say(link, [CALL, 1, "task.call", 60_000, 32, pack([PARTS, pack(1_000_000)])])
    _say(link, [CREDIT, 1, 1_000_000])
    await _until_closed(link)


async def uses_a_number_twice(way: Way) -> None:
    link = await way.member()
    for _ in range(2):
        _say(link, [CALL, 7, "ping", 1000, 0, b"\xa0"])
    await _until_closed(link)


async def floods_small_frames(way: Way) -> None:
    link = await way.member()
    assert link.connection.transport is not None
    link.connection.transport.write(encode_frame([PING, 1]) * 20_000)
    await _deaf(link)


async def offers_what_never_comes(way: Way) -> None:
    link = await way.member()
    try:
        bulk = await link._get_bulk()
    except SkerryError:
        return
    for number in range(1, 100):
        bulk._stream.send([OFFER, number, HUGE_BYTES])
    await _mute(link)


async def sends_a_bomb(way: Way) -> None:
    """A few MB of CBOR that are millions of things."""
    link = await way.member()
    size = 4 * 1024 * 1024
    bomb = b"\x9a" + size.to_bytes(4, "big") + b"\xa0" * size
    for verb in ("task.call", "node.list"):
        try:
            await link.call(verb, bomb, timeout_s=20)
        except SkerryError:
            continue
    link.close(SkerryError("done"))


# --- HTTP -----------------------------------------------------------------------------------------------------------------------


async def http_says_nothing(way: Way) -> None:
    reader, _ = await way.http()
    await _ended(reader)


async def http_drips(way: Way) -> None:
    await _drip(*await way.http(), b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Slow: yes\r\n" * 100)


async def http_garbage(way: Way) -> None:
    reader, writer = await way.http()
    writer.write(os.urandom(8192))
    await _ended(reader)


async def http_without_token(way: Way) -> None:
    reader, writer = await way.http()
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000000\r\n\r\n" + bytes(65536))
    await _ended(reader)


# attack -> within how many seconds the node has to end it
ATTACKS: dict[Attack, float] = {
    says_nothing: TLS_TIMEOUT_S,
    drips_tls: TLS_TIMEOUT_S,
    garbage_for_tls: 1.0,
    silent_after_tls: TIMEOUT_S,
    garbage_frames: 1.0,
    oversized_frame: 1.0,
    drips_a_frame: TIMEOUT_S,
    half_a_handshake: TIMEOUT_S,
    stranger_stays: STAY_S + 5.0,
    stranger_pings: 5.0,
    stranger_guesses_tickets: 5.0,
    stranger_offers_gigabytes: STAY_S + 25.0,
    never_reads_answers: STUCK_S + 10.0,
    never_reads_streams: SILENT_S + 5.0,
    floods_calls: FLOOD_S + 20.0,
    turns_hostile: 5.0,
    gives_false_credit: 1.0,
    uses_a_number_twice: 1.0,
    floods_small_frames: STUCK_S + 10.0,
    offers_what_never_comes: SILENT_S + 5.0,
    sends_a_bomb: 45.0,
    http_says_nothing: HEAD_S,
    http_drips: HEAD_S,
    http_garbage: HEAD_S,
    http_without_token: HEAD_S + 75.0,
}
