"""The control channel's faults with real processes: ways that a test spoils, nodes that stand still, `kill -9` at moments that nobody
chose.

Whatever happens: no letter is lost, none counts twice in the declared state, and no wire is on one side only once the way is open again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.node.verbs import Nothing
from skerry.wiring.verbs import WireAddRequest, WireInfo, WireList
from tests.support import poll_until
from tests.support.ferry import Ferry, Way
from tests.support.nodes import Node, Nodes

DESKS = Path(__file__).with_name("desks.py")
SEED = int(os.environ.get("SEED", "0")) or random.randrange(2**32)
MORE = int(os.environ.get("MORE", "1"))  # times as many kills; `make faults` has more
LETTERS = 50  # of one task
TRIES = 4
HEARD_S = 40.0  # from the end of a fault: 3 s until a dead link is known, and the waits between two dials
WHOLE_S = 45.0  # two rounds of looking after wires


class Pair:
    """Two nodes with a counter each, which know each other's agents by these addresses."""

    def __init__(self, one: Node, other: Node, *, peers: tuple[str, str]) -> None:
        self.nodes = [one, other]
        self.names = ["left", "right"]
        self.peers = list(peers)
        self.random = random.Random(SEED)
        print(f"SEED={SEED}")
        for node, name in zip(self.nodes, self.names, strict=True):
            node.run("agent", "run", f"{DESKS}:Counter", "--name", name).ok()

    def counts(self, side: int) -> tuple[dict[str, int], dict[str, int], list[Any]]:
        sent, heard, wrong = self.nodes[side].call("custom:count", agent=self.names[side])
        return sent, heard, wrong

    def write(self, side: int, *, tries: int = 1) -> None:
        """Some letters to the other side. Where that fails (an end that was killed at it) nobody knows how many left, but their counter."""
        for left in reversed(range(tries)):
            try:
                self.nodes[side].call("custom:send", [self.peers[side], LETTERS], agent=self.names[side], timeout_s=10.0)
                return
            except (SkerryError, OSError):
                if not left and tries > 1:
                    raise

    def all_heard(self) -> bool:
        try:
            (sent, heard, wrong), (sent_there, heard_there, wrong_there) = self.counts(0), self.counts(1)
        except (SkerryError, OSError):
            return False  # it starts
        assert [wrong, wrong_there] == [[], []], "lost, or counted twice"
        return list(sent.values()) == list(heard_there.values()) and list(sent_there.values()) == list(heard.values())

    def wait_heard(self) -> None:
        poll_until(self.all_heard, HEARD_S, what="each letter was heard once")

    def wires(self, side: int) -> list[tuple[str, str]]:
        return [(one["agent"], one["state"]) for one in self.nodes[side].json("wire", "list")["wires"]]

    def wait_whole(self) -> int:
        """No wire on one side only; returns how many there are."""

        def whole() -> bool:
            here, there = self.wires(0), self.wires(1)
            return len(here) == len(there) and {state for _, state in here + there} <= {"standing"}

        poll_until(whole, WHOLE_S, what="no half wire")
        return len(self.wires(0))

    def worker(self, side: int) -> int:
        return int(self.nodes[side].json("agent", "show", self.names[side])["pid"])


# --- two formations, and a way between them that can be spoiled ------------------------------------------------------------------------


class Strait(Pair):
    """Each knows the other at the address of a ferry."""

    def __init__(self, nodes: Nodes) -> None:
        ours, theirs = nodes.up("ours"), nodes.up("theirs")
        self.ferries = [Ferry(theirs.port), Ferry(ours.port)]
        super().__init__(ours, theirs, peers=("lab/right", "friends/left"))
        for node, other, ferry, contact, name in (
            (ours, theirs, self.ferries[0], "lab", "left"),
            (theirs, ours, self.ferries[1], "friends", "right"),
        ):
            formation = other.json("formation", "show")["id"]
            node.run("contact", "add", contact, ferry.address, "--formation", formation, "--allow", f"wire:{name}").ok()
        for node, contact in ((ours, "lab"), (theirs, "friends")):
            poll_until(lambda node=node, contact=contact: node.json("contact", "show", contact)["link"] == "up", what="they are linked")  # type: ignore[misc]
        ours.run("wire", "add", "left", "lab/right").ok()

    def become(self, way: Way, *, after: int = 0) -> None:
        """As the first side sees it, whoever of them dialled."""
        turned = {Way.NO_ANSWERS: Way.NO_ASKS, Way.NO_ASKS: Way.NO_ANSWERS}
        for ferry, its in zip(self.ferries, (way, turned.get(way, way)), strict=True):
            ferry.become(its, after=after)


@pytest.fixture(scope="module")
def strait(world: Nodes) -> Iterator[Strait]:
    made = Strait(world)
    try:
        yield made
    finally:
        for ferry in made.ferries:
            ferry.close()


@pytest.mark.parametrize("way", [Way.CLOSED, Way.MUTE, Way.GARBAGE, Way.NO_ANSWERS], ids=lambda way: way.name.lower())
def test_a_spoiled_way_costs_no_letter_and_no_wire(strait: Strait, way: Way) -> None:
    """The listener is down; a peer accepts and says nothing; it answers with garbage; it does the work, and nobody hears of it."""
    for side in (0, 1):
        strait.write(side)
    strait.become(way)
    for side in (0, 1):
        strait.write(side)
    taken = sum(ferry.taken for ferry in strait.ferries)
    if way is not Way.CLOSED:
        poll_until(lambda: sum(ferry.taken for ferry in strait.ferries) > taken, what="it is dialled again, in vain")
    strait.become(Way.OPEN)
    strait.wait_heard()
    for side in (0, 1):
        strait.write(side)  # what came twice would count now
    strait.wait_heard()
    if way is not Way.CLOSED:
        return  # a wire under these is `test_a_death_between_...`'s, and slow
    strait.become(way)
    strait.nodes[0].run("wire", "remove", "left", "lab/right").refused(3)
    strait.become(Way.OPEN)
    poll_until(lambda: strait.nodes[0].run("wire", "add", "left", "lab/right").code == 0, what="they can be wired again")
    assert strait.wait_whole() == 1


def test_half_open_connections_are_found_and_cost_no_letter_and_no_wire(strait: Strait) -> None:
    strait.wait_heard()
    for ferry in strait.ferries:
        ferry.freeze()
    for side in (0, 1):
        strait.write(side)
    began = time.monotonic()
    strait.wait_heard()
    assert time.monotonic() - began < 15.0
    assert strait.wait_whole() == 1


def test_a_peer_that_stands_still_is_waited_for(strait: Strait) -> None:
    """SIGSTOP: the system accepts for it, and it says nothing."""
    stopped = strait.nodes[1].process
    stopped.send_signal(signal.SIGSTOP)
    try:
        strait.write(0)
        strait.nodes[0].run("wire", "add", "left", "lab/right").refused(3)
    finally:
        stopped.send_signal(signal.SIGCONT)
    strait.wait_heard()
    assert strait.wait_whole() == 1, "it stood, and who could not be asked does not take it away"


@pytest.mark.parametrize(("side", "way"), [(0, Way.NO_ASKS), (1, Way.NO_ANSWERS)], ids=["here", "there"])
def test_a_death_between_wired_here_and_wired_there_leaves_no_half(strait: Strait, side: int, way: Way) -> None:
    """Of ours before the other half is written; of theirs after that, when nobody has heard of it."""
    strait.wait_heard()
    node = strait.nodes[0]
    for _ in range(TRIES):
        poll_until(lambda: node.json("contact", "show", "lab")["link"] == "up", 20.0, what="they are linked")
        node.run("wire", "remove", "left", "lab/right")
        assert strait.wait_whole() == 0
        strait.become(way, after=1)  # the look-up is answered
        wiring = Thread(target=lambda: node.run("wire", "add", "left", "lab/right"))
        wiring.start()
        with suppress(AssertionError):  # something else was said just then
            poll_until(lambda: strait.wires(0) == [("left", "waiting")] and len(strait.wires(1)) == (way is Way.NO_ANSWERS), 3.0)
            break
        strait.become(Way.OPEN)
        wiring.join()
    else:
        raise AssertionError("never wired here and not there")
    strait.nodes[side].kill()
    wiring.join()
    strait.become(Way.OPEN)
    strait.nodes[side] = strait.nodes[side].again()
    assert strait.wait_whole() == (1 if side == 0 else 0), "who wanted it and lives on has it; who was told that it failed has not"
    poll_until(lambda: strait.nodes[0].run("wire", "add", "left", "lab/right").code == 0, 20.0, what="they can be wired again")
    strait.write(0, tries=5)
    strait.wait_heard()


# --- one formation, and what is killed in it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(world: Nodes) -> Pair:
    alpha, beta = world.mesh("alpha", "beta")
    made = Pair(alpha, beta, peers=("beta/right", "alpha/left"))
    for node, name in ((alpha, "right"), (beta, "left")):
        poll_until(lambda node=node, name=name: name in node.run("agent", "list").ok().out, what=f"{name} is known")  # type: ignore[misc]
    return made


def _meanwhile(pair: Pair, work: Callable[[], None], *, within_s: float, then: Callable[[], None]) -> None:
    """`then` at some moment of `work`."""
    asyncio.run(_both(pair, work, within_s, then))


async def _both(pair: Pair, work: Callable[[], None], within_s: float, then: Callable[[], None]) -> None:
    going = asyncio.get_running_loop().run_in_executor(None, work)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(going), pair.random.uniform(0.0, within_s))
    then()
    await going


def test_workers_and_nodes_that_are_killed_while_letters_stream_count_each_once(pair: Pair) -> None:
    """Of the receiver and of the sender: somewhere between handing over, handling, the commit and the word of it."""

    def kill_worker(side: int) -> None:
        pid = pair.worker(side)
        if pid:
            os.kill(pid, signal.SIGKILL)

    def kill_node(side: int) -> None:
        pair.nodes[side].kill()

    def stream() -> None:
        for _ in range(3):
            pair.write(0)
            pair.write(1)

    for _ in range(MORE):
        for kill in (kill_worker, kill_worker, kill_worker, kill_node):
            side = pair.random.randrange(2)
            _meanwhile(pair, stream, within_s=0.5, then=lambda kill=kill, side=side: kill(side))  # type: ignore[misc]
            if kill is kill_node:
                pair.nodes[side] = pair.nodes[side].again()
    for side in (0, 1):
        pair.write(side, tries=20)
    pair.wait_heard()
    sent, _, _ = pair.counts(0)
    assert sum(sent.values()) >= LETTERS


def test_both_sides_that_wire_at_once_make_one_wire_and_both_that_part_none(pair: Pair) -> None:
    ends = list(zip(pair.nodes, pair.names, pair.peers, strict=True))
    add, remove = "wire.add", "wire.remove"
    verbs = [(add, remove), (add, add), (remove, remove), (add, add)]  # none last that leaves half a wire until the next round

    async def scene() -> None:
        async with pair.nodes[0].connect() as alpha, pair.nodes[1].connect() as beta:
            meshes = [alpha, beta]

            async def act(side: int, verb: str) -> None:
                await asyncio.sleep(pair.random.uniform(0.0, 0.004))
                _, name, peer = ends[side]
                await meshes[side].ask(verb, WireAddRequest(name, peer), WireInfo)

            for number in range(40 * MORE):
                chosen = verbs[number % len(verbs)]
                outcomes = await asyncio.gather(*(act(side, verb) for side, verb in enumerate(chosen)), return_exceptions=True)
                if chosen == (add, add):
                    assert outcomes == [None, None]
                    for mesh in meshes:
                        (info,) = (await mesh.ask("wire.list", Nothing(), WireList)).wires
                        assert info.state == "standing"

    asyncio.run(scene())
    pair.wait_whole()
