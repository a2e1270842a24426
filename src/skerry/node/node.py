"""A node: the parts of Skerry, joined over ports. It runs the same on real sockets and in simulation.

The rule: nothing here touches a clock, a disk or a socket but through its ports, and every part that can fail can do so alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from skerry.agents.host import Host
from skerry.agents.letters import Outgoing
from skerry.agents.profile import Status
from skerry.agents.resident import Resident
from skerry.agents.spec import Spec
from skerry.channel.keeper import Keeper
from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.errors import StorageError, Unreachable
from skerry.identity.grants import Role, Roster
from skerry.identity.keys import KeyPair, short
from skerry.identity.statement import Statement
from skerry.node import operations, scores, views
from skerry.node.addressees import Addressees
from skerry.node.advertise import Advertiser
from skerry.node.asking import Asking
from skerry.node.beyond import Beyond
from skerry.node.border import Border
from skerry.node.circle_door import CircleDoor
from skerry.node.circles import Circles
from skerry.node.contacts import Contacts
from skerry.node.envoy import Envoy
from skerry.node.explorer import Explorer
from skerry.node.federating import Federating
from skerry.node.foreign_agents import ForeignAgents
from skerry.node.household import NodeHousehold
from skerry.node.invitations import Invitations
from skerry.node.mail import Mail
from skerry.node.meetings import Meetings
from skerry.node.metrics import NodeMetrics
from skerry.node.naming import claim, keep_name
from skerry.node.neighbourhood import Neighbourhood
from skerry.node.presence import Presence
from skerry.node.reaching import Reaching
from skerry.node.settings import Settings, check_name
from skerry.node.sharing import Sharing
from skerry.node.strangers import Strangers
from skerry.node.tasks import Tasks
from skerry.node.trust import Trust
from skerry.node.twins import has_twin, twin_seen
from skerry.node.upkeep import Upkeep
from skerry.node.whereabouts import Whereabouts
from skerry.node.wiring import Wires
from skerry.ports import Fact, Ports
from skerry.records.abroad import Abroad, Shared
from skerry.records.confidence import Confidence
from skerry.records.federation import Federation
from skerry.records.record import TRUST
from skerry.records.replica import Replica
from skerry.routing.dispatch import Dispatcher
from skerry.routing.present import PresentCatalogue

COMMIT_S = 0.05  # what is written within this time becomes one commit
OWN_FIRST_S = 1.5  # how long a node that starts waits to hear what it said before, which a restored home does not know
log = logging.getLogger(__name__)


class Node:
    """One node of one formation. `identity` says who it is; `start` opens its doors."""

    def __init__(self, ports: Ports, settings: Settings, *, key: KeyPair, formation: bytes, seeds: dict[bytes, tuple[str, ...]]) -> None:
        self.ports = ports
        self.settings = settings
        self.key = key
        self.formation = formation
        self.seeds = seeds  # addresses of nodes that we were told of before any record: the inviter's
        self.roster = Roster(formation)
        self.replica = Replica(ports.store, formation=formation, roster=self.roster, ours=key.public)
        self.trust = Trust(key, formation, self.roster, self.replica, keyring=ports.keyring, clock=ports.clock)
        self.household, self.metrics = NodeHousehold(self), NodeMetrics(self, operations.VERBS)
        self.links = Links(key, network=ports.network, clock=ports.clock, random=ports.random, household=self.household)
        self.links.watch_twins(self._twin_seen)
        self.federation = Federation(key.public, self.replica, self.roster, ports=ports, links=self.links)
        self._know_others()
        self._make_agents()
        self.whereabouts = Whereabouts(self.trust, self.replica, told=seeds, heard=self.neighbourhood.addresses)
        self.upkeep, self.presence, self.reaching = Upkeep(self), Presence(self), Reaching(self)
        self.keeper = Keeper(key.public, self.links, self.whereabouts, ports.random, also=self.reaching.kept)
        self.invitations = Invitations(
            self.trust, self.replica, store=ports.store, clock=ports.clock, random=ports.random, addresses=self.addresses, seeds=seeds
        )
        self.listening: list[str] = []
        self.http = ""  # where the HTTP door is, once it is open
        self.started_ms = ports.clock.now_ms()
        self.stopping = asyncio.Event()
        self.running = self.leaves = False  # leaves: when it has ended, its home is to be freed
        self.warnings: dict[str, str] = {}
        self.may_write = asyncio.Event()  # what we said before is known, or nobody is there to tell us
        self._named_ms = claim(ports.store, settings.name, now_ms=self.started_ms)
        self._roster_version = self.roster.version  # what changed since is refreshed with the next thing that is learned
        self._tasks: set[asyncio.Task[object]] = set()
        self._fading: dict[str, asyncio.TimerHandle] = {}  # warnings that go by themselves
        self._commit: asyncio.TimerHandle | None = None
        self.replica.watch(self._learned)
        self.federation.on_regained = self._restored
        self.federation.signatory = self.trust

    def _dispatcher(self, asking: Asking) -> Dispatcher:
        return Dispatcher(
            self.key.public,
            catalogue=self.catalogue,
            local=self.tasks,
            link_to=self.link_to,
            belongs=asking.may_serve,
            clock=self.ports.clock,
            random=self.ports.random,
            strategy=self.settings.strategy,
            unavailable=asking.unavailable,
            ended=self.metrics.task_ended,
            elsewhere=self.beyond,
            members=self.circles.members_of,
        )

    def _know_others(self) -> None:
        """The parts that have to do with other formations."""
        self.strangers = Strangers()
        self.confidence = Confidence(self.ports.store, self.key, formation=self.formation, roster=self.roster)
        self.shared = Shared(
            self.replica, self.ports.store, self.roster, lists=self.confidence, believed=lambda node: self.trust.standing(node).belongs
        )
        self.abroad = Abroad(self.ports.store)
        self.contacts = Contacts(self)
        self.envoy = Envoy(self)
        self.border = Border(self)
        self.meetings = Meetings(self)
        self.foreign_agents = ForeignAgents(self)
        self.circles = Circles(self)
        self.circle_door = CircleDoor(self)
        self.explorer = Explorer(self)
        self.neighbourhood = Neighbourhood(self)
        self.beyond = Beyond(self, self.foreign_agents)
        self.sharing = Sharing(self)
        self.federating = Federating(self, self.ports.http) if self.ports.http is not None else None

    def _make_agents(self) -> None:
        """The parts that have to do with this node's agents: where they live, what is said of them, their tasks and letters."""
        ports, settings, key = self.ports, self.settings, self.key
        self.catalogue, asking = PresentCatalogue(key.public), Asking(self)
        self.advertiser = Advertiser(self.trust, self.replica, self.catalogue, ports=ports, node_body=self._node_body)
        self.host = Host(
            ports,
            logs=settings.logs,
            work=settings.work,
            call_mesh=asking.agent_calls,
            changed=self._agent_changed,
            gone=self._agent_gone,
            keep=self._keep,
            elsewhere=lambda name: views.elsewhere(self, name),
        )
        self.addressees, self.mail, self.wires = Addressees(self), Mail(self), Wires(self)
        self.advertiser.host = self.host
        self.advertiser.audience = self.sharing.audience
        self.advertiser.on_contested = lambda: has_twin(self, "")
        self.tasks = Tasks(key.public, self.host, clock=ports.clock)
        self.dispatcher = self._dispatcher(asking)

    # --- life -----------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the doors, bring the agents back, look for the others. Raises UsageError where a door can't be opened."""
        scores.restore(self.dispatcher.reputation, self.ports.store)
        for address in (*self.settings.listen, *([f"uds://{self.settings.socket}"] if self.settings.socket else [])):
            listener = await self.links.listen(address)
            if address != f"uds://{self.settings.socket}":
                self.listening.append(listener.address)
        self.running = True
        self.host.start_all()
        self.mail.start()
        self.wires.start()
        self.presence.start()
        self.reaching.start()
        self.keeper.look()
        self.upkeep.start()
        self.contacts.start()
        self.envoy.look()
        await self.explorer.start()
        await self.neighbourhood.start()
        if self.federating is not None:
            self.federating.start()
        if self.wanted():
            self.spawn(self._speak_when_known())
        else:
            self._speak()
        self.commit_soon()

    async def _speak_when_known(self) -> None:
        """Our own records first: this home may come from a backup, and must not say less than it said before."""
        try:
            async with asyncio.timeout(OWN_FIRST_S):
                await self.federation.own_known.wait()
        except TimeoutError:
            pass  # nobody is there who would know, or to be misled
        self._speak()

    def _speak(self) -> None:
        self.may_write.set()
        self.advertiser.speak()
        self.circles.refresh()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Work of this node's own, that ends with it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End in order: say so, no new work, agents, links, and last the disk."""
        await self.presence.close()
        self.running = False
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upkeep.close()
        await self.reaching.close()
        self.contacts.close()
        await self.envoy.close()
        self.circles.close()
        await self.neighbourhood.close()
        await self.explorer.close()
        if self.federating is not None:
            await self.federating.close()
        await self.keeper.close()
        await self.wires.close()
        await self.mail.close()
        await self.host.close()
        await self.federation.close()
        self.strangers.close()
        await self.links.close()
        for timer in [*self._fading.values(), *([self._commit] if self._commit is not None else [])]:  # last: an end may warn too
            timer.cancel()
        scores.keep(self.dispatcher.reputation, self.ports.store)
        self.ports.store.commit()

    async def in_touch(self, *, timeout_s: float) -> bool:
        """Wait until one node that we know of is connected and its records are here; False where none was in time."""
        try:
            async with asyncio.timeout(timeout_s):
                if self.wanted():
                    await self.federation.touched.wait()
        except TimeoutError:
            return False
        return True

    def addresses(self) -> tuple[str, ...]:
        """Where others dial this node: where it listens, and where they found it. One that listens on Unix sockets alone is for nodes of
        this machine."""
        tcp = [address for address in self.listening if not address.startswith("uds://")]
        own = [a for address in tcp for a in self.settings.advertised(address)] if tcp else self.listening
        return tuple(dict.fromkeys((*own, *self.reaching.found)))

    # --- records --------------------------------------------------------------------------------------------------------------

    def _learned(self, statement: Statement, sender: bytes) -> None:
        if statement.kind == "grant" and statement.body.get("role") == Role.CLIENT:  # there may be thousands, and nothing else hangs on one
            self.household.refresh(only=statement.name)
            self.commit_soon()
            return
        is_of_all, self._roster_version = self.roster.version != self._roster_version, self.roster.version
        if statement.kind in TRUST or is_of_all:
            self.household.refresh(only="" if is_of_all else statement.name)
            self.contacts.refresh()
            self.envoy.spread_news()
            self.upkeep.warn()
        if statement.kind == "agent" and statement.audience != "formation":
            self.envoy.spread_news()
        if statement.kind == "node" and statement.author != self.key.public:
            self.keeper.kick(statement.author)
            self.reaching.learned(statement.author)
        if self.running and is_of_all:
            self.presence.refresh()
            self.keeper.look()
        elif self.running and statement.kind in ("grant", "node"):
            node = bytes.fromhex(statement.name) if statement.kind == "grant" else statement.author
            self.presence.refresh(only=node)
            self.keeper.look(only=node)
        self.commit_soon()

    def _restored(self, regained: list[Statement]) -> None:
        """Others held records of our own that this home had lost: it came back from a backup, or was copied."""
        if any(statement.kind in TRUST for statement in regained):  # these are on the disk before they leave: no crash loses them
            void = self.invitations.void_all() + self.meetings.void_all()
            log.warning("this home came back from a backup: %d open tickets are void", void)
            self.warnings["restored"] = "this home came back from a backup: tickets made before are void, make new ones"

    def _twin_seen(self, link: Link) -> None:
        self.spawn(twin_seen(self, link))

    def warn_for(self, key: str, text: str, *, seconds: float) -> None:
        """A warning that goes by itself where nothing renews it."""
        if key not in self.warnings:
            log.warning("%s", text)
        self.warnings[key] = text
        if key in self._fading:
            self._fading[key].cancel()
        if not self.running:
            return  # it goes with the node
        self._fading[key] = asyncio.get_running_loop().call_later(seconds, self.warnings.pop, key, None)

    def commit_soon(self) -> None:
        if self._commit is None:
            self._commit = asyncio.get_running_loop().call_later(COMMIT_S, self._commit_now)

    def _commit_now(self) -> None:
        self._commit = None
        try:
            self.ports.store.commit()
            self.warnings.pop("disk", None)
        except StorageError as error:
            self.metrics.trouble(error)
            self.warnings["disk"] = error.message
            log.error("records can't be written: %s", error)

    def rename(self, name: str) -> None:
        """Go by another name from now on; the claim to it begins now. Raises UsageError where it is none."""
        keep_name(self.ports.store, check_name(name))
        self.settings = replace(self.settings, name=name)
        self._named_ms = claim(self.ports.store, name, now_ms=self.ports.clock.now_ms())
        self.advertiser.say_node()
        self.commit_soon()

    def _node_body(self) -> dict[str, Any]:
        return {
            "name": self.settings.name,
            "named_at": self._named_ms,
            "addresses": [*self.addresses(), *self.reaching.ways()],
            "version": self.settings.version,
            "inventory": self.settings.inventory,
            **self.explorer.place(),
            "runtimes": ["python", "onnx", "gguf", "remote"],
            **self.reaching.said(),
        }

    def wanted(self) -> dict[bytes, tuple[str, ...]]:
        """The nodes to stay connected to, and at which addresses."""
        return self.whereabouts.all()

    # --- tasks ----------------------------------------------------------------------------------------------------------------

    async def link_to(self, node: bytes, timeout_s: float) -> Link:
        """The link to a node, dialled where it is not up. Raises Unreachable."""
        self.keeper.note_use(node)
        link = self.links.get(node)
        if link is not None and not link.away:
            return link
        addresses = self.whereabouts.of(node)
        if not addresses:
            raise Unreachable(f"no address of the node {short(node)} is known")
        return await self.links.to(node, addresses, timeout_s=timeout_s)

    def _keep(self, resident: Resident, facts: list[Fact], sent: list[Outgoing]) -> None:
        self.mail.keep(resident, facts, sent)

    def _agent_gone(self, spec: Spec) -> None:
        self.advertiser.take_back_agent(spec)
        self.circles.agent_gone(spec.id)
        self.wires.agent_gone(spec)
        self.mail.forget(spec.id)

    def _agent_changed(self, resident: Resident) -> None:
        log.info("the agent %s is %s%s", resident.spec.name, resident.status.value, f": {resident.detail}" if resident.detail else "")
        if self.running:
            self.advertiser.say_agent(resident)
        if resident.status is Status.AVAILABLE:
            self.wires.agent_up(resident)
