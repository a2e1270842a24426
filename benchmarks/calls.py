"""A call from a client of one node (Unix socket) to a Python agent on another (TLS), beside a raw echo and, on request, others."""

from __future__ import annotations

from benchmarks.echo_agent import CAPABILITY
from benchmarks.figures import Asked, Figure, beside
from benchmarks.load import Rounds, in_turns
from benchmarks.nodes import answers, two_nodes
from benchmarks.peers import installed
from benchmarks.plan import Plan
from benchmarks.raw_echo import raw_echo

PAYLOAD = {"name": "Ada", "number": 42, "text": "The quick brown fox jumps over the lazy dog."}


async def measure(plan: Plan) -> list[Figure]:
    async with two_nodes(plan.folder, "Echo") as (_, _, mesh), raw_echo() as raw:
        await answers(mesh, CAPABILITY, PAYLOAD)

        async def ours() -> None:
            await mesh.call(CAPABILITY, PAYLOAD)

        async def theirs() -> None:
            await raw.call(PAYLOAD)

        found = _figures("raw echo", *await in_turns(ours, theirs, rounds=plan.rounds, seconds=plan.seconds), asked=True)
        for peer in installed() if plan.peers else []:
            async with peer.open() as call:
                measured, beside_it = await in_turns(ours, lambda: call(PAYLOAD), rounds=plan.rounds, seconds=plan.seconds)
            found += _figures(peer.name, measured, beside_it, asked=False)
    return found


def _figures(peer: str, measured: Rounds, theirs: Rounds, *, asked: bool) -> list[Figure]:
    return [
        beside(
            "call, one by one, p50",
            "us",
            measured.p50_us,
            peer=peer,
            peer_rounds=theirs.p50_us,
            asked=Asked(at_most=600) if asked else None,
        ),
        beside("call, one by one, p99", "us", measured.p99_us, peer=peer, peer_rounds=theirs.p99_us),
        beside(
            "calls, 64 in flight",
            "/s",
            measured.per_second,
            peer=peer,
            peer_rounds=theirs.per_second,
            asked=Asked(at_least=8000) if asked else None,
        ),
    ]
