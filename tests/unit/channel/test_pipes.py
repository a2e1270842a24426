"""A link through a relay: end to end, on real sockets and in simulation."""

from __future__ import annotations

from skerry.channel.transports import RealNetwork
from skerry.identity.pieces import joined
from tests.support.coroutines import run_test
from tests.support.formation import MEMBER, OPERATOR, STRANGER
from tests.support.links import Side, World, simulated
from tests.support.relayed import Told, over


async def on_sockets() -> tuple[Side, Side, Side, Told]:
    sides = [Side(pair, RealNetwork(pair)) for pair in (OPERATOR, MEMBER, STRANGER)]
    for side in sides:
        await side.listen("tcp://127.0.0.1:0")
    dialler, relay, called = sides
    return dialler, relay, called, Told(*sides)


def test_a_call_and_a_large_value_go_through_a_relay() -> None:
    async def scenario() -> None:
        dialler, relay, called, _ = await on_sockets()
        link = await over(dialler, relay, called)
        assert joined(await link.call("echo", b"hello", timeout_s=5)) == b"hello"
        large = bytes(range(256)) * 4096
        assert joined(await link.call("echo", large, timeout_s=10)) == large
        assert len(relay.links.pipes) == 2, "calls, and bulk"
        for side in (dialler, called, relay):
            await side.links.close()

    run_test(scenario())


@simulated
async def test_in_simulation_too() -> None:
    dialler, relay, called = await World(3).open()
    Told(dialler, relay, called)
    link = await over(dialler, relay, called)
    large = bytes(range(256)) * 4096
    assert joined(await link.call("echo", large, timeout_s=10)) == large
