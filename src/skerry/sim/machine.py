"""One simulated machine: a disk that lasts, a clock that may be wrong, and the node that runs on it for a while.

A start of the node goes as `cli/serve.py`'s: the key, the formation (founded, joined or known), the node, its doors. What is asked of
the node is asked inside its process, as the HTTP door does: it dies with it.

The rule: between two starts nothing survives but the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from skerry.agents.verbs import AgentInfo, AgentName, AgentRunRequest
from skerry.channel.reachable import read_networks
from skerry.identity.codec import pack, unpack
from skerry.identity.grants import Role
from skerry.identity.keys import KeyPair
from skerry.identity.statement import Statement
from skerry.identity.ticket import parse_ticket
from skerry.node import membership, operations
from skerry.node.home import NODE_KEY
from skerry.node.node import Node
from skerry.node.policy import OWNER
from skerry.node.settings import Settings
from skerry.node.verbs import InviteRequest, Nothing, RevokeRequest
from skerry.ports import Ports, Row, Store
from skerry.routing.task import Request, TaskResult
from skerry.sim.agents import Witness, target
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.dht import DhtTable, SimDht
from skerry.sim.disk import SimDisk
from skerry.sim.executor import SimExecutor
from skerry.sim.network import NUMBERS, SimHost, SimNetwork
from skerry.sim.process import Process

T = TypeVar("T")
PORT = 7420
FAREWELL_S = 0.5  # how long the kernel of a node that ended still delivers what it wrote
Learned = Callable[["Machine", Statement, bytes], None]


@dataclass(frozen=True, slots=True)
class Place:
    """What all machines of a world share. `learned` hears of each record that is new to a node, `forgot` of each
    that one holds no more and has no tombstone of, `opened` of each node that serves;
    `tickets` keeps the secret of each ticket and whether it was used."""

    seed: str
    network: SimNetwork
    witness: Witness
    note: Callable[[str, str], None]
    learned: Learned
    forgot: Callable[[Machine, Row], None]
    opened: Callable[[], None]
    tickets: dict[bytes, bool]
    dht: DhtTable = field(default_factory=DhtTable)


@dataclass(slots=True)
class Life:
    """One run of a node, from its start to its end."""

    process: Process
    ports: Ports
    executor: SimExecutor
    node: Node | None = None
    failure: BaseException | None = field(default=None)


class Machine:
    """See the module."""

    def __init__(self, place: Place, name: str, *, clock: SimClock) -> None:
        self.name = name
        self.clock = clock
        self.disk = SimDisk(incarnation=f"{name}-disk")
        self._place = place
        self._random = SimRandom(f"{place.seed}/{name}")
        self.key = KeyPair.from_seed(self._random.token(32))
        self.disk.keyring.save(NODE_KEY, self.key.seed)
        self.has_power = True
        self.bootstrap: tuple[str, ...] = ()  # where its node enters the DHT
        self.left_open: list[str] = []  # what a node that ended in order did not close
        self.has_lost_commits = False  # with the power, or because its disk is as it was once: what it said then may be forgotten
        self.was_out = False  # it left its formation once: letters to it were put aside then
        self._host = place.network.host(name, public_key=self.key.public)
        self._life: Life | None = None

    @property
    def is_up(self) -> bool:
        """Whether its node serves."""
        return self._life is not None and self._life.node is not None

    @property
    def runs(self) -> bool:
        """Whether a process of its node is there, serving or not."""
        return self._life is not None

    @property
    def is_starting(self) -> bool:
        return self.runs and not self.is_up

    @property
    def belongs(self) -> bool:
        """Whether its disk knows a formation."""
        return self.disk.fact(membership.FACTS, membership.FORMATION) is not None

    def has_revoked(self, other: Machine) -> bool:
        """Whether its disk holds its revocation of another one."""
        return self.disk.holds("revocation", other.key.public.hex())

    def knows_agent(self, name: str) -> bool:
        """Whether an agent of that name can be asked from here."""
        return any(candidate.name == name for candidate in self.node.catalogue.find("*"))

    @property
    def node(self) -> Node:
        assert self._life is not None, f"{self.name} is down"
        assert self._life.node is not None, f"{self.name} is not up yet"
        return self._life.node

    @property
    def store(self) -> Store:
        """Also while its node only starts."""
        assert self._life is not None, f"{self.name} is down"
        return self._life.ports.store

    @property
    def executor(self) -> SimExecutor:
        assert self._life is not None, f"{self.name} is down"
        return self._life.executor

    @property
    def process(self) -> Process:
        assert self._life is not None, f"{self.name} is down"
        return self._life.process

    # --- life -----------------------------------------------------------------------------------------------------------------

    async def start(self, ticket: str = "") -> None:
        """`skerry up`, or `skerry join`: returns when the node serves. Raises what kept it from that, or Died."""
        assert self._life is None, f"{self.name} runs"
        if self._host.is_dead:
            self._host = self._place.network.restart(self.name)
            self.has_power = True
        process = Process(self.name)
        executor = SimExecutor(self._host, self._random, self._place.witness)
        life = self._life = Life(process, self._ports(self._host, executor), executor)
        self._note("starts" if not ticket else "joins")
        try:
            await process.run(self._serve(life, ticket))
        except BaseException:
            if self._life is life:
                self._end(is_told=True)
            raise
        if ticket:
            self._place.tickets[parse_ticket(ticket).secret] = True
        self._note("serves")
        self._place.opened()

    async def stop(self) -> None:
        """In order: SIGTERM, or `skerry down`."""
        life, node = self._life, self.node
        assert life is not None
        life.node = None
        self._note("stops")
        life.process.hang_up()
        await life.process.run(node.close())
        await asyncio.sleep(FAREWELL_S + life.process.stall_left_s)
        if self._life is life:
            self.left_open += [f"the task {_title(task)}" for task in life.process.tasks()]
            self.left_open += [f"a connection to {name}" for name in self._place.network.open_from(self.name)]
            self.left_open += [f"a listener at {address}" for address in self._host.listening()]
            timers = [_called(timer) for timer in life.process.timers()]
            self.left_open += [f"a timer for {what}" for what in timers if what != "dict.pop"]  # one that only forgets opens nothing
            self.left_open += [f"the worker {worker.pid}" for worker in life.executor.workers()]
            life.ports.store.close()
            if self.disk.is_open:
                self.left_open.append("the store")
            self._end(is_told=True)
            self._note("stopped")

    def kill(self) -> None:
        """`kill -9` of the node: its workers end with it, its connections are reset."""
        self._end(is_told=True)

    def crash(self) -> None:
        """The power goes."""
        self.has_power = False
        self._end(is_told=False)

    def _end(self, *, is_told: bool) -> None:
        life, self._life = self._life, None
        assert life is not None, f"{self.name} is down"
        if is_told:
            self.disk.lose_process()
            self._place.network.kill(self.name)
        else:
            lost = self.disk.lose_power()
            if lost:
                self.has_lost_commits = True
                self._note(f"loses {lost} commits")
            self._place.network.crash(self.name)
        life.executor.end_all()
        if isinstance(life.ports.dht, SimDht):
            life.ports.dht.end()
        life.process.end()

    def _ports(self, host: SimHost, executor: SimExecutor) -> Ports:
        return Ports(
            clock=self.clock,
            random=self._random,
            network=host,
            store=self.disk.open(),
            keyring=self.disk.keyring,
            blobs=self.disk.blobs,
            executor=executor,
            dht=SimDht(self._place.dht, self._place.network.number_of(self.name), bootstrap=self.bootstrap),
        )

    async def _serve(self, life: Life, ticket: str) -> None:
        ports = life.ports
        formation = membership.formation_of(ports)
        if ticket:
            formation = await membership.join(ports, self.key, parse_ticket(ticket), name=self.name)
        elif formation is None:
            formation = membership.found(ports, self.key)
        settings = Settings(
            self.name,
            (f"tcp://{self.name}:{PORT}",),
            socket=f"/{self.name}.sock",
            also_dial=read_networks(NUMBERS),
            bootstrap=self.bootstrap,
        )
        node = Node(ports, settings, key=self.key, formation=formation, seeds=membership.seeds_of(ports))
        node.replica.watch(lambda statement, sender: self._place.learned(self, statement, sender))
        node.replica.watch_forgetting(lambda row: self._place.forgot(self, row))
        await node.start()
        life.node = node

    def _note(self, what: str) -> None:
        self._place.note(self.name, what)

    # --- what its owner asks ----------------------------------------------------------------------------------------------------

    async def within(self, work: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        """Have something done inside the node's process. Raises Died where it ends before."""
        return await self.process.run(work(self.node))

    async def ask(self, verb: str, request: Any) -> Any:
        """A verb of the table, as the owner of the machine."""
        return await self.within(lambda node: operations.perform(node, verb, request, rights=OWNER))

    async def invite(self, *, role: Role = Role.MEMBER, uses: int = 1, ttl_s: float = 3600.0) -> str:
        """A ticket."""
        ticket: str = (await self.ask("node.invite", InviteRequest(role.value, uses, ttl_s))).ticket
        self._place.tickets[parse_ticket(ticket).secret] = False
        return ticket

    async def revoke(self, other: Machine, *, reason: str = "lost", keeps_members: bool = True) -> None:
        """`keeps_members`: those whom it let in get new grants."""
        self._note(f"revokes {other.name}{'' if keeps_members else ' and whom it let in'}")
        await self.ask("node.revoke", RevokeRequest(other.key.public.hex(), reason, keep=None if keeps_members else []))

    async def leave(self) -> None:
        """`skerry leave`: the others are told, the node ends, its home is free."""
        self._note("leaves")
        await self.ask("node.leave", Nothing())
        await self.stop()
        self.free()

    def free(self) -> None:
        """Where its node has said that it leaves and does not run: the home belongs nowhere any more."""
        assert self._life is None, f"{self.name} runs"
        store = self.disk.open()
        membership.leave(store, self.disk.keyring)
        store.close()
        self.was_out = True
        self._note("is free")

    def has_left(self) -> bool:
        """Whether its home says that it left, and is not free yet. Asked while its node does not run."""
        assert self._life is None, f"{self.name} runs"
        ports = self._ports(self._host, SimExecutor(self._host, self._random, self._place.witness))
        left = membership.has_left(ports, self.key)
        ports.store.close()
        return left

    async def run_agent(self, script: str, name: str = "", *, concurrency: int = 1) -> AgentInfo:
        request = AgentRunRequest(target(script), name or script.lower(), concurrency=concurrency)
        info: AgentInfo = await self.ask("agent.run", request)
        return info

    async def stop_agent(self, name: str) -> None:
        await self.ask("agent.stop", AgentName(name))

    async def start_agent(self, name: str) -> None:
        await self.ask("agent.start", AgentName(name))

    async def remove_agent(self, name: str) -> str:
        """Returns its id."""
        info: AgentInfo = await self.ask("agent.remove", AgentName(name))
        return info.id

    async def result(self, capability: str, payload: Any = None, *, timeout_s: float = 10.0, agent: str = "") -> TaskResult:
        """One task, through the node's dispatcher, as a door in its process asks."""
        request = Request(capability, pack(payload), agent)
        return await self.within(lambda node: node.dispatcher.call(request, timeout_s=timeout_s))

    async def call(self, capability: str, payload: Any = None, *, timeout_s: float = 10.0, agent: str = "") -> Any:
        """Its payload. Raises what it failed with."""
        result = await self.result(capability, payload, timeout_s=timeout_s, agent=agent)
        result.raise_error()
        return unpack(result.payload) if result.payload is not None else None

    async def parts(self, capability: str, payload: Any = None, *, timeout_s: float = 10.0) -> list[Any]:
        """All parts of a streamed task. Raises as `call` does."""
        request = Request(capability, pack(payload))
        return await self.within(lambda node: _collect(node.dispatcher.stream(request, timeout_s=timeout_s)))


def _title(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


def _called(timer: asyncio.TimerHandle) -> str:
    return getattr(timer._callback, "__qualname__", repr(timer._callback))  # type: ignore[attr-defined]


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    try:
        return [unpack(item) async for item in items if not isinstance(item, TaskResult)]
    finally:
        await items.aclose()  # type: ignore[attr-defined]
