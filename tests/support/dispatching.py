"""A node that has tasks done by others, which do as they are told: for tests of routing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Unpack

import pytest
from msgspec.structs import replace

from skerry.channel.calls import Body, Served
from skerry.channel.link import Link
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair, agent_id
from skerry.routing.catalogue import Catalogue, Where
from skerry.routing.dispatch import RUN_VERB, Dispatcher
from skerry.routing.pool import Candidate, Pool
from skerry.routing.receipt import sign_receipt
from skerry.routing.task import Request, Task, TaskResult, Wishes, error_fields
from skerry.sim.clock import SimClock, SimRandom
from tests.support.links import Household, Side, World

FAR_OFF_MS = 2**52
UNTIL_SENT_S = 0.1  # in virtual time


def result(task: Task, node: bytes, *, error: SkerryError | None = None, key: KeyPair | None = None) -> TaskResult:
    fields = error_fields(error) if error is not None else None
    done = TaskResult(task.id, error is None, None if error else pack("done"), fields, task.agent, node, 1, 1.0)
    return replace(done, receipt=sign_receipt(task, done, key)) if key is not None and task.receipt else done


class Node(Household):
    """Does tasks as it is told: `does` is "ok", "lost" (the connection breaks while it works), "never", a code to refuse with before
    it starts, "failed:CODE" to fail with, or "parts:N" and then "ok" or "lost"."""

    def __init__(self, identity: bytes) -> None:
        super().__init__()
        self.identity = identity
        self.key: KeyPair | None = None  # its agent's, where it signs
        self.does = ["ok"]
        self.tasks: list[Task] = []

    async def _answer(self, served: Served) -> Body:
        assert served.verb == RUN_VERB
        task = Task.from_bytes(served.body)
        self.tasks.append(task)
        for does in self.does:
            what, _, detail = does.partition(":")
            match what:
                case "ok":
                    return result(task, self.identity, key=self.key).to_bytes()
                case "lost":
                    await asyncio.sleep(UNTIL_SENT_S)
                    served.link.abort(Unreachable("cut"))
                    await asyncio.Event().wait()
                case "slow":
                    await asyncio.sleep(float(detail))
                    return result(task, self.identity, key=self.key).to_bytes()
                case "busy-for":
                    busy = Refused("full", code=Code.BUSY, retry_after_s=float(detail))
                    return result(task, self.identity, error=busy).to_bytes()
                case "never":
                    await asyncio.Event().wait()
                case "failed":
                    return result(task, self.identity, error=Refused("it failed", code=detail)).to_bytes()
                case "parts":
                    for number in range(int(detail)):
                        await served.part(pack(number))
                case _:
                    raise Refused("not started", code=what)
        raise AssertionError("what then?")


class Here:
    """The dispatcher's own agents."""

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.tasks: list[Task] = []
        self.error: SkerryError | None = None

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult:
        self.tasks.append(task)
        if self.error is not None:
            raise self.error
        return result(task, self.identity)

    async def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        self.tasks.append(task)
        for number in range(3):
            yield pack(number)


class Abroad:
    """What contacts share, by the name that they have here."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.catalogue = Catalogue()
        self.names: dict[bytes, str] = {}  # of formations that are contacts

    def pool(self, query: str, where: Where = (), *, agent: str = "") -> Pool | None:
        return self.catalogue.pool_of(agent.rpartition("/")[2], query, where) if agent else self.catalogue.pool(query, where)

    def contact_of(self, candidate: Candidate) -> str:
        return self.names.get(candidate.formation, "")

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        return await self.mesh.link_to(candidate.node, timeout_s)


class Mesh:
    """alpha asks; beta and gamma (and alpha itself, where it is offered there) do."""

    def __init__(self) -> None:
        self.world = World(3)
        self.alpha, self.beta, self.gamma = self.world.sides
        self.nodes = {}
        for side in (self.beta, self.gamma):
            node = self.nodes[side.name] = Node(side.id)
            side.household = node
            side.links._household = node
        self.here = Here(self.alpha.id)
        self.catalogue = Catalogue(self.alpha.id)
        self.abroad = Abroad(self)
        self.outsiders: set[bytes] = set()
        self.ended: list[str] = []
        self.dispatcher = Dispatcher(
            self.alpha.id,
            catalogue=self.catalogue,
            local=self.here,
            link_to=self.link_to,
            belongs=lambda candidate: candidate.node not in self.outsiders,
            clock=SimClock(asyncio.get_running_loop()),
            random=SimRandom("dispatch"),
            ended=lambda outcome, took_s: self.ended.append(outcome),
            elsewhere=self.abroad,
        )

    async def link_to(self, node: bytes, timeout_s: float) -> Link:
        side = next(side for side in self.world.sides if side.id == node)
        return await self.alpha.to(side, timeout_s=timeout_s)

    async def open(self, *offers: tuple[str, bool]) -> Mesh:
        await self.world.open()
        for name, idempotent in offers:
            self.offer(name, idempotent=idempotent)
        return self

    def offer(self, name: str, *, idempotent: bool, agent: str = "") -> None:
        side: Side = getattr(self, name)
        agent = agent or f"agent-{name}"
        self.catalogue.set(side.id, agent, [Candidate(agent, f"{name}s", side.id, "web", idempotent, FAR_OFF_MS)])

    def share(self, name: str, *, formation: bytes, contact: str, idempotent: bool = True, **attributes: object) -> None:
        """One that a contact shares."""
        side: Side = getattr(self, name)
        self.abroad.names[formation] = contact
        self.nodes[name].key = key = KeyPair.from_seed(name.ljust(32).encode())
        agent = agent_id(key.public)
        offer = Candidate(agent, f"{name}s", side.id, "web", idempotent, FAR_OFF_MS, formation=formation, attributes=attributes)
        self.abroad.catalogue.set(side.id, offer.agent, [offer])

    def prefer(self, *names: str) -> None:
        """So that they are asked in this order."""
        for number, name in enumerate(names, 1):
            side: Side = getattr(self, name)
            option = next(one for one in self.catalogue.options("web") if one.provider.node == side.id)
            option.latency.observe(float(number), now_s=0)

    async def call(self, *, timeout_s: float = 30.0, agent: str = "", capability: str = "web", **wishes: Unpack[Wishes]) -> TaskResult:
        return await self.dispatcher.call(Request(capability, pack("x"), agent, **wishes), timeout_s=timeout_s)

    def asked(self) -> dict[str, int]:
        return {name: len(node.tasks) for name, node in self.nodes.items()}


async def outcome(mesh: Mesh, *, timeout_s: float = 30.0, agent: str = "", **wishes: Unpack[Wishes]) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        await mesh.call(timeout_s=timeout_s, agent=agent, **wishes)
    return caught.value
