"""The control channel's faults in simulated worlds, each over many seeds, with the checkers of the campaign: no letter lost, none counted
twice, no wire on one side only for longer than two rounds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from skerry.agents.verbs import AgentInfo
from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.errors import SkerryError
from skerry.node.wire_rounds import ROUND_S
from skerry.ports import Fact
from skerry.sim.checkers.letters import LettersCount
from skerry.sim.checkers.wires import WholeWires
from skerry.sim.machine import Machine
from skerry.sim.process import Died
from skerry.sim.world import World
from skerry.wiring.verbs import WireAddRequest
from tests.support.clerks import address, desks, heard, state, tell, wire, wires
from tests.support.links import simulated

SETTLES_S = 2 * ROUND_S + 5
SEEDS = range(int(os.environ.get("SEEDS", "4")))  # `make faults` has many more
LETTERS = 6  # of one task
STEPS = 24
STEP_S = 0.00025  # a wiring takes about four milliseconds of virtual time
TASKS = 10


class Pair:
    """Two nodes with a clerk each, wired, and the checkers."""

    def __init__(self, world: World, machines: list[Machine], infos: list[AgentInfo]) -> None:
        self.world = world
        self.alpha, self.beta = machines
        self.left, self.right = infos
        self.letters, self.wires = LettersCount(world), WholeWires(world)

    async def write(self, *, echo: bool = True) -> None:
        """Both write to each other, for as long as it takes; what fails is tried again, as their owners would."""
        await asyncio.gather(
            self._write(self.alpha, self.left, self.beta, self.right, echo), self._write(self.beta, self.right, self.alpha, self.left, echo)
        )

    async def _write(self, machine: Machine, own: AgentInfo, host: Machine, other: AgentInfo, echo: bool) -> None:
        for _ in range(TASKS):
            await asyncio.sleep(self.world.random.expovariate(1 / 0.3))
            try:
                await tell(machine, own, address(host, other), LETTERS, echo=echo)
            except (SkerryError, Died, AssertionError):  # its node or its agent is down at this moment
                continue

    async def settle(self) -> None:
        """Nothing lost, nothing twice, no half wire, once all is well again."""
        world, both = self.world, [self.alpha, self.beta]
        world.heal()
        for machine in both:
            if not machine.runs:
                await machine.start()
        await world.until(lambda: world.is_whole(both), 120.0)
        await world.until(lambda: not self.wires.settled(), SETTLES_S, what="no half wire")
        await world.until(lambda: not self.letters.settled(), 120.0, what="all letters")
        assert [state(self.alpha, self.left)["wrong"], state(self.beta, self.right)["wrong"]] == [[], []]
        assert self.letters.settled_letters > LETTERS
        assert self.wires.settled_wires == 2
        await world.close()


async def pair(seed: str, *, wired: bool = True) -> Pair:
    world = World(seed)
    machines = await world.formation(2)
    found = Pair(world, machines, await desks(world, *machines))
    if wired:
        await wire(found.alpha, found.left.name, f"beta/{found.right.name}")
    return found


async def one_or_the_other(found: Pair) -> Machine:
    return found.world.random.choice([found.alpha, found.beta])


# --- one fault after the other, while both write ------------------------------------------------------------------------------------------


async def listener_down(found: Pair) -> None:
    machine = await one_or_the_other(found)
    machine.kill()
    await asyncio.sleep(found.world.random.uniform(0.1, 15.0))
    await machine.start()


async def half_open(found: Pair) -> None:
    names = ["alpha", "beta"]
    found.world.random.shuffle(names)
    found.world.network.reset(*names, half_open=True)


async def one_way_lost(found: Pair) -> None:
    """A connection that stands, and takes nothing: in the middle of whatever is under way."""
    names = ["alpha", "beta"]
    found.world.random.shuffle(names)
    found.world.network.cut(*names, one_way=True)
    await asyncio.sleep(found.world.random.uniform(0.1, 40.0))
    found.world.heal()


async def says_nothing(found: Pair) -> None:
    """It accepts, and its process stands still."""
    machine = await one_or_the_other(found)
    machine.process.stall(found.world.random.uniform(0.5, 20.0))


async def worker_dies(found: Pair) -> None:
    machine = await one_or_the_other(found)
    for _ in range(4):
        await asyncio.sleep(found.world.random.uniform(0.0, 0.3))
        for worker in machine.executor.workers() if machine.runs else []:
            worker.kill()


FAULTS: list[Callable[[Pair], Awaitable[None]]] = [listener_down, half_open, one_way_lost, says_nothing, worker_dies]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_letters_and_wires_come_through(fault: Callable[[Pair], Awaitable[None]]) -> None:
    for seed in SEEDS:

        @simulated
        async def scene(seed: int = seed) -> None:
            found = await pair(f"{fault.__name__}-{seed}")
            writing = asyncio.create_task(found.write())
            for _ in range(2):
                await asyncio.sleep(found.world.random.uniform(0.0, 1.5))
                await fault(found)
            await writing
            await found.settle()

        scene()


@simulated
@pytest.mark.parametrize("told", ["alpha", "beta"])
async def test_a_connection_of_which_one_side_alone_knows_costs_few_dials(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just after it was opened, when a second one is taken for a dial of both sides at once."""
    made: list[Link] = []
    register = Links._register

    def noted(links: Links, link: Link) -> None:
        made.append(link)
        register(links, link)

    found = await pair(f"half-open-{told}")
    world, both = found.world, [found.alpha, found.beta]
    world.network.reset("alpha", "beta")
    while world.is_whole(both):
        await asyncio.sleep(0.001)
    await world.until(lambda: world.is_whole(both))
    monkeypatch.setattr(Links, "_register", noted)
    world.network.reset(told, "beta" if told == "alpha" else "alpha", half_open=True)
    machine, own, peer = (found.alpha, found.left, found.right) if told == "alpha" else (found.beta, found.right, found.left)
    other = found.beta if told == "alpha" else found.alpha
    await tell(machine, own, address(other, peer), 2 * LETTERS)
    await world.until(lambda: heard(other, peer, own.name) == 2 * LETTERS, 10.0)
    await asyncio.sleep(3)
    assert 2 <= len(made) <= 8, "both ends of up to four connections"
    await found.settle()


# --- between "wired here" and "wired there" -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alpha", "beta"])
def test_either_side_that_dies_at_any_moment_of_a_wiring_leaves_no_half(who: str) -> None:
    """Killed after each of so many small steps of time, from before the look-up to after the last word."""
    outcomes: set[tuple[bool, int]] = set()
    for step in range(STEPS):

        @simulated
        async def scene(step: int = step) -> None:
            found = await pair(f"dies-{who}-{step}", wired=False)
            machine = found.world.machines[who]
            wiring = asyncio.create_task(wire(found.alpha, found.left.name, f"beta/{found.right.name}"))
            await asyncio.sleep(step * STEP_S)
            machine.kill()
            failed = (await asyncio.gather(wiring, return_exceptions=True))[0]
            await machine.start()
            world, both = found.world, [found.alpha, found.beta]
            await world.until(lambda: world.is_whole(both))
            await world.until(lambda: not found.wires.settled(), SETTLES_S, what="no half wire")
            outcomes.add((isinstance(failed, BaseException), found.wires.settled_wires))
            if not isinstance(failed, BaseException):
                assert found.wires.settled_wires == 2, "who was told that it stands finds it standing"
            await world.close()

        scene()
    assert {failed for failed, _ in outcomes} == {True, False}
    assert {halves for _, halves in outcomes} == {0, 2}


def test_a_time_out_after_the_work_was_done_leaves_one_wire_or_none_and_counts_no_letter_twice() -> None:
    """The answers are lost: first that of a wiring, then those of deliveries."""
    for seed in SEEDS:

        @simulated
        async def scene(seed: int = seed) -> None:
            found = await pair(f"timed-out-{seed}", wired=False)
            world = found.world
            wiring = asyncio.create_task(wire(found.alpha, found.left.name, f"beta/{found.right.name}"))
            while not found.beta.node.wires.halves() and not wiring.done():
                await asyncio.sleep(0.0001)
            world.network.cut("beta", "alpha", one_way=True)
            assert isinstance((await asyncio.gather(wiring, return_exceptions=True))[0], SkerryError)
            world.heal()
            await world.until(lambda: world.is_whole([found.alpha, found.beta]), 60.0)
            await world.until(lambda: not found.wires.settled(), SETTLES_S, what="no half wire")
            await wire(found.alpha, found.left.name, f"beta/{found.right.name}")
            for _ in range(3):
                before = heard(found.beta, found.right, found.left.name)
                await tell(found.alpha, found.left, address(found.beta, found.right), LETTERS)
                while heard(found.beta, found.right, found.left.name) == before:
                    await asyncio.sleep(0.0001)
                world.network.cut("beta", "alpha", one_way=True)  # handled, and nobody hears of it
                await asyncio.sleep(world.random.uniform(1.0, 20.0))
                world.heal()
            await found.settle()

        scene()


def test_both_sides_that_wire_and_unwire_at_once_never_end_with_a_half() -> None:
    for seed in SEEDS:

        @simulated
        async def scene(seed: int = seed) -> None:
            found = await pair(f"at-once-{seed}", wired=False)
            world = found.world
            ends = [(found.alpha, found.left, "beta", found.right), (found.beta, found.right, "alpha", found.left)]

            async def act(machine: Machine, own: AgentInfo, host: str, peer: AgentInfo, verb: str) -> None:
                await asyncio.sleep(world.random.expovariate(1 / 0.002))
                await machine.ask(verb, WireAddRequest(own.name, f"{host}/{peer.name}"))

            for _ in range(8):
                verbs = [world.random.choice(["wire.add", "wire.add", "wire.remove"]) for _ in range(4)]
                acts = [act(*ends[number % 2], verb) for number, verb in enumerate(verbs)]
                await asyncio.gather(*acts, return_exceptions=True)
            await world.until(lambda: not found.wires.settled(), SETTLES_S, what="no half wire")
            for _ in range(10):
                await asyncio.gather(*(act(*end, "wire.add") for end in ends))
                assert wires(found.alpha) == [(found.left.name, f"beta/{found.right.name}", "standing")]
                assert wires(found.beta) == [(found.right.name, f"alpha/{found.left.name}", "standing")]
                await act(*ends[0], "wire.remove")
            await world.close()

        scene()


@pytest.mark.parametrize("dies", ["worker", "node"])
def test_a_death_between_handling_and_commit_counts_nothing_twice(dies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before the commit, and just after it, before anybody hears of it."""
    for moment in ("before", "after"):

        @simulated
        async def scene(moment: str = moment) -> None:
            found = await pair(f"commit-{dies}-{moment}", wired=False)
            beta, mail = found.beta, found.beta.node.mail
            kept = mail.kept
            deaths: list[str] = []

            def die() -> None:
                deaths.append(moment)
                if dies == "node":
                    beta.kill()
                else:
                    for worker in beta.executor.workers():
                        worker.kill()

            def at_the_commit(facts: list[Fact], entries: list[Any]) -> None:
                is_time = len(deaths) < 5 and any(space.startswith("mailbox/") for space, _, _ in facts)
                if moment == "after":
                    kept(facts, entries)
                if is_time:
                    if dies == "node":
                        found.world.loop.call_soon(die, context=beta._host.context)
                        if moment == "before":
                            raise Died("it dies here")
                    else:
                        die()
                if moment == "before":
                    kept(facts, entries)

            monkeypatch.setattr(mail, "kept", at_the_commit)
            await tell(found.alpha, found.left, address(beta, found.right), LETTERS, echo=True)
            await found.world.until(lambda: deaths)
            if dies == "node":
                await found.world.until(lambda: not beta.runs)
                await beta.start()
            await tell(found.alpha, found.left, address(beta, found.right), LETTERS, echo=True)
            await wire(found.alpha, found.left.name, f"beta/{found.right.name}")
            await found.settle()
            assert heard(beta, found.right, found.left.name) == 2 * LETTERS

        scene()
