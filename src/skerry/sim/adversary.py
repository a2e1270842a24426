"""A hostile peer: it forges, replays and floods, from outside and, once somebody has let it in, from inside.

It hears everything: each record that any node learns, each ticket that is made, the first bytes of every connection. It breaks no
signature. From outside it has a key that nobody knows; some time it gets a ticket like anybody, and is then a member that lies. In the
end it is found out and revoked.

The rule: what it should never get is written down in `breaches` when it gets it; it touches the nodes over the network alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.channel.calls import Body, Served
from skerry.channel.framing import ANSWER, HELLO, PART, PING, PROOF, REPLY, WELCOME, Frame
from skerry.channel.handshake import NONCE_BYTES, Handshake, Ours, Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.stream import FrameStream
from skerry.errors import Refused, SkerryError
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair
from skerry.identity.pieces import joined
from skerry.identity.statement import Statement
from skerry.identity.ticket import parse_ticket
from skerry.node.operations import VERBS
from skerry.node.verbs import JoinReply, JoinRequest
from skerry.records.verbs import PullReply, PullRequest, PushReply, PushRequest
from skerry.routing.task import Task, new_task_id
from skerry.sim.clock import EPOCH_MS, SimClock, SimRandom
from skerry.sim.forgeries import FUTURE_MS, forgeries, noise
from skerry.sim.machine import PORT, Machine
from skerry.sim.process import Died, Process
from skerry.sim.way import Way
from skerry.sim.world import World

NAME = "mallory"
HEARD_MAX = 400  # records that it keeps
RECORDED_MAX = 24  # connections of which it keeps the first bytes
RECORDED_BYTES_MAX = 2048  # a handshake
OPEN_TO_ALL = ("ping", "node.join", "circle.announcements")
SENT_MAX = 20  # tasks that it asks for again
FLOOD_CONNECTIONS = 90
FLOOD_CALLS = 120
FLOOD_PINGS = 1500
HOLDS_S = (0.5, 6.0)  # how long it keeps a connection that leads nowhere; a handshake may take 5 s
WAITS_S = 3.0  # for an answer
Act = Callable[[Machine], Coroutine[Any, Any, None]]


class Adversary:
    """See the module. Its acts are drawn from a stream of its own."""

    def __init__(self, world: World, *, gets_in: bool = True) -> None:
        """`gets_in`: some time somebody lets it in."""
        self._gets_in = gets_in
        self.breaches: list[str] = world.breaches
        self.acts_done = 0
        self._world = world
        self._random = SimRandom(f"{world.seed}/{NAME}")
        self._key = KeyPair.from_seed(self._random.token(32))
        self._grant = b""
        self._shown = b""
        self._heard: list[bytes] = []
        self._recorded: dict[Way, bytearray] = {}
        self._sent: list[tuple[Machine, bytes]] = []  # tasks that it asked for, to ask for them again
        self._host = world.network.host(NAME, public_key=self._key.public)
        self._clock = SimClock(world.loop, start_ms=EPOCH_MS + int(world.now_s * 1000))
        self._process = Process(NAME)
        self._links = self._process.within(self._new_links)
        world.watch(self._overhears)
        world.network.tap = self._records

    def _new_links(self) -> Links:
        return Links(self._key, network=self._host, clock=self._clock, random=self._random, household=self)

    async def act(self) -> None:
        """One attack, on somebody who is up."""
        up = self._world.up()
        if not up:
            return
        target = self._random.choice(up)
        outside: list[Act] = [
            self._garbage,
            self._half_handshakes,
            self._replay_handshake,
            self._impersonate,
            self._as_stranger,
            self._tickets,
        ]
        inside: list[Act] = [self._forge, self._replay_records, self._tasks, self._flood, self._wrong_clock, self._listen_in]
        if not self._grant:
            inside = [self._get_in]
        act = self._random.choice(outside if self._random.random() < 0.4 or not self._gets_in else inside)
        self._world.note(NAME, f"{act.__name__.strip('_')} at {target.name}")
        self.acts_done += 1
        with contextlib.suppress(SkerryError, Died):
            await self._process.run(act(target))

    async def leave(self) -> None:
        """It is found out: revoked by the founder, and gone."""
        self._process.within(lambda: asyncio.ensure_future(self._links.close()))
        await asyncio.sleep(0.1)
        self._world.network.kill(NAME)
        self._process.end()
        if self._grant:
            self._world.banned[self._key.public] = NAME

    # --- what it hears --------------------------------------------------------------------------------------------------------

    def _overhears(self, machine: Machine, signed: Statement, sender: bytes) -> None:
        if len(self._heard) < HEARD_MAX:
            self._heard.append(signed.signed)
        else:
            self._heard[self._random.randrange(HEARD_MAX)] = signed.signed

    def _records(self, way: Way, data: bytes) -> None:
        if NAME in way.path or way.path[0] == way.path[1]:
            return
        if way not in self._recorded and len(self._recorded) < RECORDED_MAX:
            self._recorded[way] = bytearray()
        record = self._recorded.get(way)
        if record is not None and len(record) < RECORDED_BYTES_MAX:
            record += data

    # --- its own side of a link (channel.links.Household) ---------------------------------------------------------------------

    def credentials(self) -> Credentials:
        return Credentials(self._shown)

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """It talks to anybody."""

    def is_node(self, peer: Peer) -> bool:
        return False

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows."""

    async def serve(self, served: Served) -> Body:
        """It answers pulls with lies, and nothing else."""
        if served.verb != "records.pull":
            raise Refused("no", code="busy", hint="never")
        records = [*self._lies(), *self._some_heard(20)]
        heard_until = self._random.choice([None, 0, self._clock.now_ms(), self._clock.now_ms() + FUTURE_MS])
        return pack_message(PullReply(records, self._random.choice(["", "x.9", "a.1"]), False, heard_until))

    # --- from outside ---------------------------------------------------------------------------------------------------------

    async def _garbage(self, target: Machine) -> None:
        for _ in range(self._random.randrange(1, 8)):
            stream = await self._open(target)
            stream.transport.write(self._random.randbytes(self._random.randrange(1, 4000)))  # type: ignore[union-attr]
            self._forget(stream)

    async def _half_handshakes(self, target: Machine) -> None:
        """Many connections that begin a handshake, or not even that, and wait."""
        for number in range(self._random.randrange(1, FLOOD_CONNECTIONS)):
            stream = await self._open(target)
            if number % 3:
                stream.send(self._hello(self._key.public))
            self._forget(stream)

    async def _replay_handshake(self, target: Machine) -> None:
        """What somebody said to somebody once, word by word."""
        recorded = [bytes(data) for data in self._recorded.values() if data]
        if recorded:
            frames: list[Frame] = []
            stream = await self._open(target, frames)
            stream.transport.write(self._random.choice(recorded))  # type: ignore[union-attr]
            await asyncio.sleep(WAITS_S)
            self._judge_handshake(frames, "by a handshake that it had recorded", target)
            self._forget(stream)

    async def _impersonate(self, target: Machine) -> None:
        """In another one's name, with a proof by its own key or by one that was recorded."""
        victim = self._random.choice([machine for machine in self._world.machines.values() if machine is not target] or [target])
        frames: list[Frame] = []
        stream = await self._open(target, frames)
        ours = Ours(key=self._key, nonce=self._random.token(NONCE_BYTES), now_ms=self._clock.now_ms())
        assert stream.transport is not None
        handshake = Handshake(ours, self._host.security(stream.transport), dialler=True)
        handshake.start()
        stream.send(self._hello(victim.key.public, ours.nonce))
        await asyncio.sleep(WAITS_S / 2)
        answer = next((frame for frame in frames if frame[0] == ANSWER), None)
        if answer is not None:
            with contextlib.suppress(SkerryError):
                handshake._on_answer(answer)  # fills in what the proof is made of
            stream.send([PROOF, handshake._prove(), self._stolen_grant(victim), b""])
        await asyncio.sleep(WAITS_S / 2)
        self._judge_handshake(frames, f"as {victim.name}", target)
        self._forget(stream)

    async def _as_stranger(self, target: Machine) -> None:
        """With a key of its own that nobody knows and a grant that is none, through every verb there is."""
        stranger = KeyPair.from_seed(self._random.token(32))
        household = _Stranger(self._random.choice([*self._lies(stranger), self._stolen_grant(target), b""]))
        links = Links(stranger, network=self._host, clock=self._clock, random=self._random, household=household)
        try:
            link = await links.dial(_address(target), expected=None)
            for verb in VERBS:
                if verb in OPEN_TO_ALL:
                    continue
                body = pack_message(PushRequest(self._lies(stranger))) if verb == "records.push" else b"\xa0"
                with contextlib.suppress(SkerryError):
                    await link.call(verb, body, timeout_s=WAITS_S)
                    self.breaches.append(f"{target.name} answered {verb} to a stranger")
        finally:
            await links.close()

    async def _tickets(self, target: Machine) -> None:
        """Tickets that others used, and guesses."""
        stranger = KeyPair.from_seed(self._random.token(32))
        links = Links(stranger, network=self._host, clock=self._clock, random=self._random, household=_Stranger(b""))
        used = [secret for secret, spent in self._world.tickets.items() if spent]
        secrets = [self._random.choice(used) if used and self._random.random() < 0.5 else self._random.token(16) for _ in range(12)]
        try:
            link = await links.dial(_address(target), expected=None)
            for secret in secrets:
                with contextlib.suppress(SkerryError):
                    await link.call("node.join", pack_message(JoinRequest(secret, NAME)), timeout_s=WAITS_S)
                    self.breaches.append(f"{target.name} let a stranger in with a ticket that it did not have")
        finally:
            await links.close()

    # --- from inside ----------------------------------------------------------------------------------------------------------

    async def _get_in(self, target: Machine) -> None:
        """Somebody believed it, and made it a ticket."""
        founder = next(iter(self._world.machines.values()))
        if not founder.is_up:
            return
        ticket = parse_ticket(await founder.invite())
        link = await self._links.dial(_address(founder), expected=None)
        body = await link.call("node.join", pack_message(JoinRequest(ticket.secret, NAME)), timeout_s=WAITS_S)
        self._grant = self._shown = unpack_message(JoinReply, body).grant

    async def _forge(self, target: Machine) -> None:
        link = await self._links.dial(_address(target), expected=None)
        for lie in self._lies():
            reply = await self._push(link, [lie])
            if reply.taken:
                self.breaches.append(f"{target.name} took a forged record: {lie[:60].hex()}")
        noises = noise(self._random, self._key, formation=self._formation(), victims=self._victims(), now_ms=self._clock.now_ms())
        await self._push(link, noises)

    async def _replay_records(self, target: Machine) -> None:
        """All that it ever heard, old and new."""
        link = await self._links.dial(_address(target), expected=None)
        for _ in range(3):
            await self._push(link, self._some_heard(30))

    async def _tasks(self, target: Machine) -> None:
        """Tasks in others' names, tasks that were done, tasks of another time."""
        link = await self._links.dial(_address(target), expected=None)
        now_ms = self._clock.now_ms()
        if not target.is_up:
            return
        found = [one for one in target.node.catalogue.find("custom:*") if one.node == target.key.public]
        agents = [(one.agent, one.capability) for one in found if one.capability.split(":")[1] in ("echo", "once", "slow", "job")]
        if agents:
            agent, capability = self._random.choice(agents)
            for requester in (self._key.public, target.key.public):
                made_ms = now_ms + self._random.choice([0, 0, 0, -3_600_000, 3_600_000, FUTURE_MS])
                task = Task(new_task_id(requester, self._random.token(16)), capability, agent, pack(0.5), requester, made_ms)
                self._sent.append((target, joined(task.to_bytes())))
        again = [body for machine, body in self._sent if machine is target][-SENT_MAX:]
        asked = [self._random.choice(again) for _ in range(6 if again else 0)]
        await asyncio.gather(*(link.call("task.run", body, timeout_s=WAITS_S) for body in [*again[-2:], *asked]), return_exceptions=True)

    async def _flood(self, target: Machine) -> None:
        """More than anybody has to say: calls, pings, answers to what nobody asked."""
        link = await self._links.dial(_address(target), expected=None)
        if self._random.random() < 0.5:
            verbs = ("node.status", "capability.list", "records.pull", "node.list")
            calls = [link.call(self._random.choice(verbs), pack_message(PullRequest()), timeout_s=WAITS_S) for _ in range(FLOOD_CALLS)]
            await asyncio.gather(*calls, return_exceptions=True)
        else:
            for number in range(self._random.randrange(FLOOD_PINGS)):
                link.connection.send([PING, number] if number % 5 else [self._random.choice([PART, REPLY]), number, b""])
            await asyncio.sleep(WAITS_S)
        if self._random.random() < 0.3:
            many = [self._agent(number) for number in range(280)]  # more than one author may have
            for at in range(0, len(many), 100):
                await self._push(link, many[at : at + 100])

    async def _wrong_clock(self, target: Machine) -> None:
        """A handshake by a clock of another time."""
        by_ms = self._random.choice([-1, 1]) * self._random.choice([400_000, 40 * 86_400_000, FUTURE_MS])
        self._clock.step(by_ms)
        try:
            link = await self._links.dial(_address(target), expected=None)
            await self._push(link, self._some_heard(5))
        finally:
            self._clock.step(-by_ms)

    async def _listen_in(self, target: Machine) -> None:
        """It asks for everything, with cursors that nobody gave, and is asked for everything."""
        link = await self._links.dial(_address(target), expected=None)
        for cursor in ("", "sim.99999999999", f"{target.name}-disk.{2**60}", "\x00", "x" * 300):
            with contextlib.suppress(SkerryError):
                await link.call("records.pull", pack_message(PullRequest(cursor)), timeout_s=WAITS_S)

    # --- its tools ------------------------------------------------------------------------------------------------------------

    async def _open(self, target: Machine, frames: list[Frame] | None = None) -> FrameStream:
        stream = await self._host.dial(_address(target), FrameStream, timeout_s=WAITS_S)
        assert isinstance(stream, FrameStream)
        kept = frames if frames is not None else []
        stream.attach(kept.append, lambda _: None)
        return stream

    def _forget(self, stream: FrameStream) -> None:
        """Leave a connection open for a while."""
        self._world.loop.call_later(self._random.uniform(*HOLDS_S), stream.abort, Refused("bored", code="cancelled"))

    def _hello(self, who: bytes, nonce: bytes = b"") -> Frame:
        return [HELLO, 1, 1, who, nonce or self._random.token(NONCE_BYTES), "call", b"", self._clock.now_ms()]

    def _judge_handshake(self, frames: list[Frame], how: str, target: Machine) -> None:
        if any(frame[0] == WELCOME for frame in frames):
            self.breaches.append(f"{target.name} took the adversary in {how}")

    async def _push(self, link: Link, records: list[bytes]) -> PushReply:
        heard = self._random.choice([None, self._clock.now_ms(), self._clock.now_ms() + FUTURE_MS])
        return unpack_message(PushReply, await link.call("records.push", pack_message(PushRequest(records, heard)), timeout_s=WAITS_S))

    def _lies(self, liar: KeyPair | None = None) -> list[bytes]:
        return forgeries(
            self._random,
            liar or self._key,
            formation=self._formation(),
            grant=self._grant if liar is None else b"",
            victims=self._victims(),
            real=self._heard,
            now_ms=self._clock.now_ms(),
        )

    def _formation(self) -> bytes:
        return next((machine.node.formation for machine in self._world.up()), b"\1" * 32)

    def _agent(self, number: int) -> bytes:
        return noise(self._random, self._key, formation=self._formation(), victims=self._victims(), now_ms=self._clock.now_ms())[number % 2]

    def _some_heard(self, count: int) -> list[bytes]:
        return self._random.sample(self._heard, min(count, len(self._heard)))

    def _victims(self) -> list[bytes]:
        return [machine.key.public for machine in self._world.machines.values()]

    def _stolen_grant(self, victim: Machine) -> bytes:
        name = victim.key.public.hex()
        return next((signed for signed in self._heard if name.encode() in signed and b"grant" in signed), b"")


class _Stranger:
    """The household of a key that belongs nowhere."""

    def __init__(self, grant: bytes) -> None:
        self._grant = grant[:8000]

    def credentials(self) -> Credentials:
        return Credentials(self._grant)

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """It talks to anybody."""

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("no", code="busy", hint="never")

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows."""


def _address(target: Machine) -> str:
    return f"tcp://{target.name}:{PORT}"
