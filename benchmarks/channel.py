"""The channel by itself: a connection opened and proved, verbs between two processes over TLS, and the parts of a stream."""

from __future__ import annotations

import os
import sys
import time

from benchmarks import nats_peer
from benchmarks.echo_agent import PARTS
from benchmarks.figures import Asked, Figure, beside, figure, percentile
from benchmarks.load import Call, in_turns, one_by_one
from benchmarks.nodes import LocalNode, answers, node, two_nodes
from benchmarks.plan import Plan
from benchmarks.raw_echo import raw_echo
from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.client.mesh import connect
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.keys import KeyPair
from skerry.node.verbs import InviteReply, InviteRequest, Nothing, PingReply

PARTS_PER_ROUND = 4000
OPENED_PER_ROUND = 10  # connections


class Stranger:
    """The household of somebody who only opens connections: that needs no grant."""

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """The certificate's key was compared with the node's id already."""

    def is_node(self, peer: Peer) -> bool:
        return False

    async def serve(self, served: Served) -> Body:
        raise Refused("a stranger answers no calls", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows."""


def stranger() -> Links:
    key = KeyPair.from_seed(os.urandom(32))
    return Links(key, network=RealNetwork(key), clock=SystemClock(), random=SystemRandom(), household=Stranger())


async def measure_verbs(plan: Plan) -> list[Figure]:
    """What it takes to open a connection, and verbs over that of a client with a grant."""
    async with node(plan.folder / "alone") as alone, raw_echo() as raw:
        opened_ms = [await _open_ms(alone) for _ in range(1 + OPENED_PER_ROUND * plan.rounds)][1:]  # the first one warms up
        async with connect(alone.home) as owner:
            ticket = (await owner.ask("node.invite", InviteRequest(role="client"), InviteReply)).ticket
        async with connect(plan.folder / "guest", ticket=ticket) as guest:

            async def ping() -> None:
                await guest.ask("ping", Nothing(), PingReply)

            async def echo() -> None:
                await raw.call(None)

            measured, peer = await in_turns(ping, echo, rounds=plan.rounds, seconds=plan.seconds)
            beside_nats = await _beside_nats(plan, ping) if plan.peers else []
        async with connect(alone.home) as owner:

            async def ping_here() -> None:
                await owner.ask("ping", Nothing(), PingReply)

            here_us = [percentile(await one_by_one(ping_here, seconds=plan.seconds), 50) for _ in range(plan.rounds)]
    shares = [100 * ours / theirs for ours, theirs in zip(measured.per_second, peer.per_second, strict=True)]
    return [
        figure("open and prove a connection", "ms", opened_ms, asked=Asked(at_most=5)),
        figure("verb over UDS, one by one, p50", "us", here_us, asked=Asked(at_most=200)),
        beside("verb over TLS, one by one, p50", "us", measured.p50_us, peer="raw echo", peer_rounds=peer.p50_us, asked=Asked(at_most=350)),
        figure("verbs over TLS in flight, as a share of raw echo", "%", shares, asked=Asked(at_least=40)),
        beside(
            "verbs over TLS, 64 in flight",
            "/s",
            measured.per_second,
            peer="raw echo",
            peer_rounds=peer.per_second,
            asked=Asked(at_least=20_000),
        ),
        *beside_nats,
    ]


async def _beside_nats(plan: Plan, ping: Call) -> list[Figure]:
    """The same verb as a request over NATS: both over TLS, the same bytes in body and reply."""
    if reason := nats_peer.missing():
        print(f"nats is not measured: {reason}", file=sys.stderr)
        return []
    async with nats_peer.pings() as request:
        ours, theirs = await in_turns(ping, request, rounds=plan.rounds, seconds=plan.seconds)
    times = [mine / its for mine, its in zip(ours.per_second, theirs.per_second, strict=True)]
    return [
        beside("verb over TLS, one by one, p50", "us", ours.p50_us, peer="nats", peer_rounds=theirs.p50_us),
        beside("verbs over TLS, 64 in flight", "/s", ours.per_second, peer="nats", peer_rounds=theirs.per_second),
        figure("verbs over TLS in flight, over nats requests", "x", times, asked=Asked(at_least=1)),
    ]


async def _open_ms(peer: LocalNode) -> float:
    links = stranger()
    began = time.perf_counter()
    await links.dial(peer.address, expected=bytes.fromhex(peer.ready["node_id"]))
    taken_ms = (time.perf_counter() - began) * 1000
    await links.close()
    return taken_ms


async def measure_parts(plan: Plan) -> list[Figure]:
    """A stream from an agent on another node."""
    rounds: list[float] = []
    async with two_nodes(plan.folder, "Echo") as (_, _, mesh):
        await answers(mesh, PARTS, 1)
        for _ in range(plan.rounds):
            began = time.perf_counter()
            count = len([part async for part in mesh.stream(PARTS, PARTS_PER_ROUND)])
            rounds.append(count / (time.perf_counter() - began))
    return [figure("parts of one stream", "/s", rounds)]
