"""Wires in simulated worlds: both sides at once, either side dying in between, backups, full disks, and words that come late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.agents.launch import STATES
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.node.wire_rounds import BUSY_S, ROUND_S
from skerry.sim.checkers.letters import LettersCount
from skerry.sim.checkers.wires import WholeWires
from skerry.sim.world import World
from skerry.wiring.verbs import SendRequest, WireAddRequest
from tests.support.clerks import address, desks, heard, state, tell, wire, wires
from tests.support.links import simulated

SETTLES_S = 2 * ROUND_S + 5


@simulated
async def test_both_sides_wiring_at_once_make_one_wire() -> None:
    world = World("both-at-once")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    for _ in range(5):
        await asyncio.gather(wire(alpha, left.name, f"beta/{right.name}"), wire(beta, right.name, f"alpha/{left.name}"))
        assert wires(alpha) == [(left.name, f"beta/{right.name}", "standing")]
        assert wires(beta) == [(right.name, f"alpha/{left.name}", "standing")]
        await alpha.ask("wire.remove", WireAddRequest(left.name, f"beta/{right.name}"))
        assert wires(alpha) == wires(beta) == []
    await world.close()


@simulated
async def test_a_side_that_times_out_does_not_take_away_what_the_other_side_wanted_too() -> None:
    """A's request is lost on its way back, while B wires by itself."""
    world = World("timed-out")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    serve = beta.node.wires.serve_wire
    answered: list[bytes] = []

    def lost(*arguments: Any, **options: Any) -> Any:
        answered.append(b"")
        raise Refused("no answer came", code=Code.DEADLINE_EXCEEDED)

    beta.node.wires.serve_wire = lost  # type: ignore[method-assign]
    first = asyncio.create_task(wire(alpha, left.name, f"beta/{right.name}"))
    await asyncio.gather(wire(beta, right.name, f"alpha/{left.name}"), first, return_exceptions=True)
    beta.node.wires.serve_wire = serve  # type: ignore[method-assign]
    assert answered
    await asyncio.sleep(SETTLES_S)
    assert wires(alpha) == [(left.name, f"beta/{right.name}", "standing")]
    assert wires(beta) == [(right.name, f"alpha/{left.name}", "standing")]
    await world.close()


@simulated
@pytest.mark.parametrize("dies", ["alpha", "beta"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_either_side_that_dies_between_here_and_there_leaves_no_half(dies: str, when: str) -> None:
    """`before`: the other half is not written yet; `after`: it is, and nobody heard of it."""
    world = World(f"dies-{dies}-{when}")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    serve = beta.node.wires.serve_wire

    def die(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            serve(*arguments, **options)
        world.loop.call_soon(world.machines[dies].kill, context=world.machines[dies].process.context())
        raise Refused("it died", code=Code.BUSY)

    beta.node.wires.serve_wire = die  # type: ignore[method-assign]
    outcome = await asyncio.gather(wire(alpha, left.name, f"beta/{right.name}"), return_exceptions=True)
    assert isinstance(outcome[0], BaseException)
    if world.machines[dies].runs:
        world.machines[dies].kill()
    await world.machines[dies].start()
    beta.node.wires.serve_wire = type(beta.node.wires).serve_wire.__get__(beta.node.wires)  # type: ignore[method-assign]
    await world.until(lambda: world.is_whole([alpha, beta]))
    checker = WholeWires(world)
    await world.until(lambda: not checker.settled(), SETTLES_S)
    await asyncio.sleep(SETTLES_S)
    assert checker.settled() == []
    await world.close()


@simulated
async def test_a_half_that_a_restored_home_forgot_does_not_cost_the_wire() -> None:
    world = World("half-forgotten")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await asyncio.sleep(1)
    backup = beta.disk.image()
    await wire(alpha, left.name, f"beta/{right.name}")
    await asyncio.sleep(2)
    beta.kill()
    beta.disk.restore(backup)
    await beta.start()
    await asyncio.sleep(SETTLES_S)
    assert wires(alpha) == [(left.name, f"beta/{right.name}", "standing")]
    assert wires(beta) == [(right.name, f"alpha/{left.name}", "standing")]
    await world.close()


@simulated
async def test_a_loss_of_power_takes_no_half_that_the_other_side_was_told_of() -> None:
    for number in range(8):
        world = World(f"power-{number}")
        alpha, beta = await world.formation(2)
        left, right = await desks(world, alpha, beta)
        await wire(alpha, left.name, f"beta/{right.name}")
        beta.crash()
        await asyncio.sleep(1)
        await beta.start()
        await world.until(lambda a=alpha, b=beta, w=world: w.is_whole([a, b]))  # type: ignore[misc]
        await asyncio.sleep(SETTLES_S)
        assert wires(alpha) == [(left.name, f"beta/{right.name}", "standing")]
        assert wires(beta) == [(right.name, f"alpha/{left.name}", "standing")]
        await world.close()


@simulated
async def test_a_full_disk_ends_no_rounds() -> None:
    world = World("full-in-a-round")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    alpha.disk.is_full = True
    rounds = alpha.node.wires._rounds.rounds
    with pytest.raises(SkerryError):
        await beta.ask("wire.remove", WireAddRequest(right.name, f"alpha/{left.name}"))
    assert wires(beta) == []
    await asyncio.sleep(SETTLES_S)
    assert alpha.node.wires._rounds.rounds > rounds
    assert wires(alpha), "it can't be taken away yet"
    alpha.disk.is_full = False
    await world.until(lambda: wires(alpha) == [], SETTLES_S, what="the next round does it")
    await world.close()


@simulated
async def test_a_word_that_comes_late_undoes_nothing_newer() -> None:
    """An `unwire` of the wire before, held up on its way, and a check whose answer comes after the wire is gone."""
    world = World("late")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    (old,) = alpha.node.wires.halves()
    late = alpha.node.wires.request(old)
    await alpha.ask("wire.remove", WireAddRequest(left.name, f"beta/{right.name}"))
    await wire(alpha, left.name, f"beta/{right.name}")
    beta.node.wires.serve_unwire(late, caller=alpha.key.public)
    assert wires(beta) == [(right.name, f"alpha/{left.name}", "standing")]
    (theirs,) = beta.node.wires.halves()
    (ours,) = alpha.node.wires.halves()
    await alpha.ask("wire.remove", WireAddRequest(left.name, f"beta/{right.name}"))
    alpha.node.wires.believe(ours, theirs.signed)
    assert not alpha.node.wires.stands(own=left.id, peer=right.id)
    assert alpha.node.wires.theirs(f"{left.id}~{right.id}") is None
    await world.close()


@simulated
async def test_a_wire_with_a_node_that_is_put_out_goes() -> None:
    world = World("put-out")
    alpha, beta, gamma = await world.formation(3)
    left, right = await desks(world, beta, gamma)
    await wire(beta, left.name, f"gamma/{right.name}")
    await alpha.revoke(gamma)
    world.revoked["gamma"] = None
    await world.until(lambda: wires(beta) == [], SETTLES_S)
    assert WholeWires(world).settled() == []
    await world.close()


# --- the checkers can fail ------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_letter_that_counts_twice_or_not_at_all_is_seen() -> None:
    world = World("checker-letters")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    checker = LettersCount(world)
    await tell(alpha, left, address(beta, right), 3)
    await world.until(lambda: heard(beta, right, left.name) == 3)
    assert checker.settled() == []
    assert checker.settled_letters == 3
    kept = state(alpha, left)

    async def say(node: Node, sent: int) -> None:
        node.ports.store.set_fact(STATES, left.id, pack({**kept, "sent": {right.id: sent}}))

    await alpha.within(lambda node: say(node, 4))
    assert checker.settled() == [f"{left.name} sent 4 letters to {right.name}, which heard 3"]
    await alpha.within(lambda node: say(node, 3))
    checker.taken["beta", "beta/x", right.id] = [7]
    assert "did not hear [7]" in checker.settled()[0]
    checker.taken.clear()
    await alpha.ask("mail.send", SendRequest(address(beta, right), pack([left.name, 3, False])))
    await world.until(checker.look)
    assert checker.look() == [f"{right.name} heard number 3 of {left.name} after number 3"]
    await world.close()


@simulated
async def test_a_wire_on_one_side_only_is_seen() -> None:
    world = World("checker-wires")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    checker = WholeWires(world)
    await wire(alpha, left.name, f"beta/{right.name}")
    assert checker.settled() == []
    assert checker.settled_wires == 2
    await alpha.node.wires._rounds.close()
    await beta.node.wires._rounds.close()
    (half,) = beta.node.wires.halves()
    beta.node.wires.take_away(f"{half.own.agent}~{half.peer.agent}")
    assert "alpha has half a wire that beta does not have" in checker.settled()[0]
    assert checker.overdue() == []
    await asyncio.sleep(SETTLES_S)
    assert len(checker.overdue()) == 1
    await world.close()


@simulated
async def test_a_node_that_has_just_started_is_asked_again_soon() -> None:
    """It says that it does not know yet what it said before: that is no trouble to show for a whole round."""
    world = World("asked-soon")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    serve = beta.node.wires.serve_check

    def busy(*arguments: Any, **options: Any) -> Any:
        raise Refused("this node does not know yet what it said before", code=Code.BUSY)

    beta.node.wires.serve_check = busy  # type: ignore[method-assign]
    await asyncio.sleep(ROUND_S + 1)
    assert "does not know yet" in alpha.node.wires.infos()[0].detail
    beta.node.wires.serve_check = serve  # type: ignore[method-assign]
    await asyncio.sleep(BUSY_S + 1)
    assert alpha.node.wires.infos()[0].detail == ""
    await world.close()
