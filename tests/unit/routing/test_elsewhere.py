"""Agents that contacts share are chosen, scored and failed over like ours, and asked after ours."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import Code
from skerry.routing.strategies import Strategy
from tests.support.dispatching import Mesh, outcome
from tests.support.links import simulated

XI = b"x" * 32


async def mesh_with_contact(*, ours: bool = True) -> Mesh:
    """gamma is no node of ours but the contact xi's; beta is ours."""
    mesh = await Mesh().open(*[("beta", True)] if ours else [])
    mesh.share("gamma", formation=XI, contact="xis", quantization="Q4")
    return mesh


@simulated
async def test_what_only_a_contact_offers_is_not_asked_unless_the_caller_says_so() -> None:
    mesh = await mesh_with_contact(ours=False)
    error = await outcome(mesh)
    assert error.code == Code.UNKNOWN_CAPABILITY
    assert "xis" in error.message
    assert "--reach contacts" in error.hint
    assert mesh.asked() == {"beta": 0, "gamma": 0}
    assert (await mesh.call(reach="contacts")).node == mesh.gamma.id
    assert (await outcome(mesh, reach="the moon")).code == Code.BAD_INPUT


@pytest.mark.parametrize("strategy", Strategy)
@simulated
async def test_ours_come_first_under_every_strategy_and_a_contacts_agent_when_ours_can_not(strategy: Strategy) -> None:
    mesh = await mesh_with_contact()
    for _ in range(5):
        assert (await mesh.call(reach="contacts", strategy=strategy)).node == mesh.beta.id
    mesh.nodes["beta"].does = [Code.BUSY]
    assert (await mesh.call(reach="contacts", strategy=strategy)).node == mesh.gamma.id
    assert (await outcome(mesh, strategy=strategy)).code == Code.BUSY, "without the reach it stays here"


@simulated
async def test_a_contacts_agent_is_scored_and_blacklisted_like_ours() -> None:
    mesh = await mesh_with_contact(ours=False)
    mesh.nodes["gamma"].does = ["failed:task_failed"]
    for _ in range(5):
        await mesh.call(reach="contacts")
    error = await outcome(mesh, reach="contacts")
    assert error.code == Code.BLACKLISTED
    assert "gammas" in error.message
    assert mesh.asked()["gamma"] == 5
    await mesh.call(reach="contacts", agent="xis/gammas")
    assert mesh.asked()["gamma"] == 6, "who is named is asked all the same"


@simulated
async def test_a_contact_that_can_not_be_reached_is_asked_last_whichever_of_its_nodes_it_is() -> None:
    mesh = await mesh_with_contact(ours=False)
    mesh.world.network.kill("gamma")
    mesh.share("beta", formation=b"o" * 32, contact="omicrons")
    for _ in range(4):
        assert (await mesh.call(reach="contacts")).node == mesh.beta.id
    loop = asyncio.get_running_loop()
    assert mesh.dispatcher.silent.has(XI, now_s=loop.time()) == bool(mesh.dispatcher.failovers)


@simulated
async def test_a_wrong_signature_is_charged_to_the_contact() -> None:
    mesh = await mesh_with_contact(ours=False)
    signs, mesh.nodes["gamma"].key = mesh.nodes["gamma"].key, None
    error = await outcome(mesh, reach="contacts")
    assert error.code == Code.BAD_SIGNATURE, "nobody asked for a receipt: across formations there is always one"
    mesh.nodes["gamma"].key = signs
    assert (await mesh.call(reach="contacts")).receipt is not None
    scores, now_ms = mesh.dispatcher.reputation, mesh.dispatcher.clock.now_ms()
    assert scores.score(f"contact:{XI.hex()}", now_ms=now_ms) == pytest.approx(1 / 6)
    assert scores.get(f"node:{mesh.gamma.id.hex()}", now_ms=now_ms) is None


@simulated
async def test_who_is_no_contact_any_more_is_not_asked() -> None:
    mesh = await mesh_with_contact(ours=False)
    del mesh.abroad.names[XI]
    assert (await outcome(mesh, reach="contacts")).code == Code.UNKNOWN_CAPABILITY
    assert (await outcome(mesh)).code == Code.UNKNOWN_CAPABILITY
    assert mesh.asked() == {"beta": 0, "gamma": 0}


@simulated
async def test_attributes_are_asked_of_contacts_too() -> None:
    mesh = await mesh_with_contact()
    assert (await mesh.call(reach="contacts", where={"quantization": "q4"})).node == mesh.gamma.id
    error = await outcome(mesh, reach="contacts", where={"quantization": "Q8"})
    assert error.code == Code.UNKNOWN_CAPABILITY
    assert "quantization=Q4" in error.hint
