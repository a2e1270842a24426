"""Letters and wires in simulated worlds, one misfortune a test: full disks, backups, lost power, both at once, and names that come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.agents.launch import STATES
from skerry.errors import Code, Refused, SkerryError, StorageError
from skerry.identity.codec import pack
from skerry.node.mail import CURSORS
from skerry.node.node import Node
from skerry.node.wire_rounds import ROUND_S
from skerry.sim.checkers.letters import LettersCount
from skerry.sim.checkers.wires import WholeWires
from skerry.sim.world import World
from skerry.wiring.outbox import ASIDE, SPACE
from skerry.wiring.verbs import SendRequest, WireAddRequest
from tests.support.clerks import address, desks, heard, state, tell, wire, wires
from tests.support.links import simulated

SETTLES_S = 2 * ROUND_S + 5


# --- letters -------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_disk_that_is_full_at_the_commit_costs_time_and_no_letter() -> None:
    world = World("full-at-the-commit")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 3, echo=True)
    await world.until(lambda: heard(alpha, left, right.name) == 3)
    beta.disk.is_full = True
    await tell(alpha, left, address(beta, right), 5, echo=True)
    await asyncio.sleep(20)
    assert heard(beta, right, left.name) == 3
    beta.disk.is_full = False
    await world.until(lambda: heard(beta, right, left.name) == 8, 60.0)
    await world.until(lambda: heard(alpha, left, right.name) == 8)
    assert state(beta, right)["wrong"] == state(alpha, left)["wrong"] == []
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack(["alpha/x", 1, None])))
    with pytest.raises(SkerryError):
        await tell(alpha, left, address(beta, right), 5)
    await asyncio.sleep(5)
    alpha.disk.is_full = False
    await asyncio.sleep(5)
    await tell(alpha, left, address(beta, right), 1)
    await world.until(lambda: heard(beta, right, left.name) == 9, 60.0)
    assert state(beta, right)["wrong"] == [], "of what could not be kept neither the number nor the letter is there"
    await world.close()


@simulated
async def test_a_sender_whose_home_comes_from_a_backup_is_heard_again() -> None:
    """Its clock was ahead when it wrote what the backup does not hold: without new numbers nothing of it would be heard for a minute."""
    world = World("sender-restored")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await asyncio.sleep(2)
    backup = alpha.disk.image()
    alpha.clock.step(60_000)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 4)
    alpha.clock.step(-60_000)
    alpha.kill()
    alpha.disk.restore(backup)
    await alpha.start()
    await world.until(lambda: world.is_whole([alpha, beta]))
    await asyncio.sleep(5)
    await tell(alpha, left, address(beta, right), 3)  # numbers 3 to 5 of what the restored clerk remembers
    await world.until(lambda: heard(beta, right, left.name) == 5, 20.0, what="those written since are heard, at once")
    assert state(beta, right)["wrong"] == [[left.name, 4, 3]], "they follow what the backup forgot; all three came, each once"
    await asyncio.sleep(10)
    assert alpha.node.mail.outbox.sessions() == []
    await world.close()


@simulated
async def test_a_receiver_whose_home_comes_from_a_backup_is_whole_in_itself() -> None:
    """State, cursor and what was sent go back together."""
    world = World("receiver-restored")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await asyncio.sleep(2)
    backup = beta.disk.image()
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 4)
    beta.kill()
    await tell(alpha, left, address(beta, right), 2)  # while it is away
    beta.disk.restore(backup)
    await beta.start()
    await world.until(lambda: heard(beta, right, left.name) == 6, 60.0)
    assert state(beta, right)["wrong"] == [[left.name, 2, 5]], "what it had said that it handled is gone with the disk; all else came once"
    await world.close()


@simulated
async def test_a_sender_that_loses_its_power_with_a_clock_that_was_ahead_is_heard_again() -> None:
    world = World("lost-power-ahead")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    alpha.clock.step(100_000)
    stream = "alpha/people"
    await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 1, None])))
    await world.until(lambda: state(beta, right)["people"].get(stream) == [1])
    while True:  # until the power takes that commit along
        alpha.crash()
        if alpha.has_lost_commits and alpha.disk.fact("outbox-meta", "stamp") is None:
            break
        await alpha.start()
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 1, None])))
    alpha.clock.step(-100_000)
    await alpha.start()
    await world.until(lambda: world.is_whole([alpha, beta]))
    await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 2, None])))
    await world.until(lambda: state(beta, right)["people"][stream][-1] == 2, 20.0)
    await world.close()


@simulated
async def test_an_agent_that_is_made_anew_under_its_name_starts_with_no_past() -> None:
    world = World("made-anew")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await beta.remove_agent(right.name)
    assert beta.node.ports.store.facts(CURSORS + right.id) == []
    await tell(alpha, left, address(beta, right), 1)  # to the one that is gone
    await world.until(lambda: len(alpha.node.ports.store.facts(ASIDE)) == 1)
    assert b"not on this node any more" in alpha.node.ports.store.facts(ASIDE)[0][1]
    await world.until(lambda: wires(alpha) == [], SETTLES_S)
    again = await beta.run_agent("Clerk", right.name)
    assert again.id != right.id
    await world.until(lambda: alpha.knows_agent(again.name))
    await asyncio.sleep(3)
    await tell(alpha, left, address(beta, again), 2)
    await world.until(lambda: heard(beta, again, left.name) == 2)
    assert state(beta, again)["wrong"] == []
    assert wires(alpha) == wires(beta) == [], "a wire is bound to the agent, not to its name"
    await world.close()


@simulated
async def test_a_node_that_only_starts_refuses_no_letter_for_good() -> None:
    """Between its door and its agents, and while an agent can't start, letters wait."""
    world = World("only-starts")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    beta.kill()
    await tell(alpha, left, address(beta, right), 2)
    await beta.start()
    for _ in range(20):  # its first starts all end
        for worker in beta.executor.workers():
            worker.kill()
        await asyncio.sleep(0.05)
    resident = beta.node.host.get(right.id)
    assert resident is not None
    assert resident.hears is None or resident.hears
    await world.until(lambda: heard(beta, right, left.name) == 2, 60.0)
    assert alpha.node.ports.store.facts(ASIDE) == []
    beta.node.running = False  # as before its agents are there, and at its end
    with pytest.raises(Refused) as refused:
        await beta.node.mail.take(right.id, [])
    assert refused.value.code == Code.SHUTTING_DOWN
    beta.node.running = True
    await world.close()


@simulated
async def test_a_deliver_that_is_given_up_leaves_nothing_and_the_letter_is_handled_all_the_same() -> None:
    world = World("given-up")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await beta.stop_agent(right.name)
    await beta.start_agent(right.name)
    for worker in beta.executor.workers():
        worker.kill()
    await tell(alpha, left, address(beta, right), 3)
    await asyncio.sleep(0.05)
    world.network.cut("alpha", "beta")
    await asyncio.sleep(10)
    world.heal()
    await world.until(lambda: heard(beta, right, left.name) == 3, 60.0)
    await world.until(lambda: alpha.node.mail.outbox.sessions() == [])
    assert [box.waiting for box in beta.node.mail._boxes.values()] == [[]]
    assert beta.node.ports.store.facts(SPACE) == []
    await world.close()


# --- wires ---------------------------------------------------------------------------------------------------------------------------


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
