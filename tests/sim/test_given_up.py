"""Tasks that nobody waits for any more, at any moment of them: what an agent keeps and what it sent stay together."""

from __future__ import annotations

import asyncio

import pytest

from skerry.agents.letters import KeepRequest
from skerry.errors import Code, SkerryError
from skerry.sim.checkers.letters import LettersCount
from skerry.sim.world import World
from tests.support.clerks import address, heard, state, tell
from tests.support.links import simulated

MOMENTS = 120
STEP_S = 0.000002  # from one to the next: a task within one node takes about 160 us of virtual time


@simulated
async def test_a_caller_that_gives_up_at_any_moment_costs_no_letter() -> None:
    """Also when the reply is on its way already: the worker believed that its node had taken state and letters out of it."""
    world = World("given-up-tasks")
    (alpha,) = await world.formation(1)
    left = await alpha.run_agent("Clerk", "alpha-left")
    right = await alpha.run_agent("Clerk", "alpha-right")
    given_up = 0
    for moment in range(MOMENTS):
        task = asyncio.create_task(tell(alpha, left, address(alpha, right)))
        await asyncio.sleep(moment * STEP_S)
        given_up += task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
    assert MOMENTS / 4 < given_up < MOMENTS, "before, in the middle, and after"
    await tell(alpha, left, address(alpha, right))
    await asyncio.sleep(1)
    assert state(alpha, right)["wrong"] == []
    assert LettersCount(world).settled() == []
    assert heard(alpha, right, left.name) == state(alpha, left)["sent"][right.id] >= MOMENTS - given_up
    await world.close()


@simulated
async def test_what_is_done_beside_a_task_that_fails_last_is_kept_at_once() -> None:
    world = World("fails-last")
    (alpha,) = await world.formation(1)
    left = await alpha.run_agent("Clerk", "alpha-left", concurrency=2)
    (right,) = [await alpha.run_agent("Clerk", "alpha-right")]
    to = address(alpha, right)
    good = alpha.call("custom:tell", [to, 2, False], agent=left.id)
    bad = alpha.call("custom:tell", [to, 2, False, True], agent=left.id)
    outcomes = await asyncio.gather(good, bad, return_exceptions=True)
    assert outcomes[0] == 2
    assert isinstance(outcomes[1], SkerryError)
    await asyncio.sleep(0.1)
    assert state(alpha, left)["sent"] == {right.id: 2}
    alpha.kill()
    await alpha.start()
    await world.until(lambda: heard(alpha, right, left.name) == 2)
    await world.close()


@simulated
async def test_what_could_not_be_kept_does_not_count_later_either() -> None:
    """The disk takes things again before the process has ended that still knows what its task did, and may say so once more."""
    world = World("kept-too-late")
    (alpha,) = await world.formation(1)
    left = await alpha.run_agent("Clerk", "alpha-left")
    right = await alpha.run_agent("Clerk", "alpha-right")
    await tell(alpha, left, address(alpha, right))
    resident = alpha.node.host.get(left.id)
    assert resident is not None
    alpha.disk.is_full = True
    with pytest.raises(SkerryError) as refused:
        await tell(alpha, left, address(alpha, right))
    assert refused.value.code == Code.DISK_FULL, "its caller hears why"
    alpha.disk.is_full = False
    with pytest.raises(SkerryError) as late:
        resident._keep_brought(KeepRequest(b"later", []).to_bytes())
    assert late.value.code == Code.AGENT_RESTARTING
    await tell(alpha, left, address(alpha, right))
    await world.until(lambda: heard(alpha, right, left.name) == 2)
    assert state(alpha, left)["sent"] == {right.id: 2}
    await world.close()
