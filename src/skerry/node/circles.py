"""The circles of a formation, as one node sees them: who founded which, who is in, and what this node announces.

A circle is put together from records: the founder's *charter*, the *entries* that hosting nodes write for their agents, and the agents'
own records. Nobody keeps a list: what a node knows of these is the circle. Each node that hosts a member speaks for it.

The rule: a charter and an entry stand until their author takes them back; an announcement says what is so now, or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.agents.resident import Resident
from skerry.errors import Code, ProtocolError, Refused, SkerryError, StorageError, UsageError
from skerry.identity.keys import short
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Statement
from skerry.node import views
from skerry.node.advertise import read_agent
from skerry.node.whereabouts import said_addresses
from skerry.records.record import renewal_due
from skerry.routing.announcement import ADDRESSES_MAX, SPEAKERS_MAX, CircleAnnouncement, PublishedCircle, Speaker, read_announcement
from skerry.routing.circle import (
    CHARTER_KIND,
    CIRCLE_KIND,
    ENTRY_KIND,
    INVITED_MAX,
    NONCE_BYTES,
    AgentCircle,
    AgentProfile,
    CallableBy,
    Charter,
    CircleStatus,
    check_description,
    check_name,
    circle_id,
    next_epoch,
    read_charter,
    read_entry,
    status_of,
)
from skerry.routing.mesh import MeshDiscoveryRouter
from skerry.routing.reputation import CIRCLE

if TYPE_CHECKING:
    from skerry.node.node import Node

REFRESH_AFTER_S = 0.1  # what changes within this time is one change
OF_NODE_MAX = 64  # circles that one node founds, and that one agent is in
PREFIX = CIRCLE  # of the id by which a task names a circle where others name an agent
_KINDS = (CHARTER_KIND, ENTRY_KIND, CIRCLE_KIND, "agent", "node")
log = logging.getLogger(__name__)


class Circles:
    """The circles that one node knows of its formation; `router` knows those of others too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        also = (*node.settings.also_dial, *node.settings.met_dial)
        self.router = MeshDiscoveryRouter(node.key.public, speak=self._speak, formation=node.formation, also=also)
        self._timer: asyncio.TimerHandle | None = None
        self.dht_key = b""  # under which this node tells a DHT where it is; empty where it does not
        node.replica.watch(lambda statement, _: self._changed(statement.kind))
        node.replica.watch_forgetting(lambda row: self._changed(row.kind))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def presence_changed(self) -> None:
        """A node went, or came back: its members stand otherwise."""
        self._changed("node")

    def _changed(self, kind: str) -> None:
        if kind in _KINDS and self._timer is None and self._node.running:
            self._timer = asyncio.get_running_loop().call_later(REFRESH_AFTER_S, self.refresh)

    def renew(self) -> None:
        """Say again what stands and has lived for half its time; then look at all circles."""
        now_ms = self._node.ports.clock.now_ms()
        for kind in (CHARTER_KIND, ENTRY_KIND):
            for one in list(self._node.replica.living(kind, now_ms=now_ms, author=self._node.key.public)):
                if renewal_due(stamp_ms(one.stamp), one.expires, now_ms=now_ms):
                    self._node.advertiser.say(kind, one.name, one.body)
        self.refresh()

    def refresh(self) -> None:
        """Look at all circles anew; say of ours what changed, or is half over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ms, router = self._node.ports.clock.now_ms(), self._node.explorer
        found = self._as_they_stand(now_ms)
        for circle in self.router.local_circles():
            if circle.id not in found:
                self._node.explorer.execute(self.router.unregister_local_circle(circle.id))
                self._take_back(CIRCLE_KIND, circle.id.hex())
        for circle in found.values():
            before = self.router.local(circle.id)
            try:
                if self._speaks_for(circle):
                    ops = self.router.on_circle_state_change(circle, now_ms=now_ms)
                    if circle.charter.public:
                        router.execute(ops)
                elif before != circle:
                    router.execute(self.router.unregister_local_circle(circle.id))
                    self.router.register_local_circle(circle, now_ms=now_ms, announced=False)
                    self._take_back(CIRCLE_KIND, circle.id.hex())
            except StorageError as error:  # the next round of chores says it
                log.error("the circle %s can't be announced: %s", circle.name, error)
        self.router.gc_discovered(now_ms=now_ms)

    # --- putting together -----------------------------------------------------------------------------------------------------

    def _as_they_stand(self, now_ms: int) -> dict[bytes, AgentCircle]:
        charters = self._charters(now_ms)
        members: dict[bytes, list[AgentProfile]] = {circle: [] for circle in charters}
        agents = {(s.author, s.name): s for s in self._node.replica.living("agent", now_ms=now_ms)} if charters else {}
        for entry in self._node.replica.living(ENTRY_KIND, now_ms=now_ms) if charters else ():
            statement = agents.get((entry.author, entry.name))
            profile = self._profile(statement) if statement is not None else None
            for circle in self._entered(entry) if profile is not None else ():
                if circle in charters and charters[circle][1].lets_in(entry.name) and profile is not None:
                    members[circle].append(profile)
        return {
            circle: self._with_epoch(AgentCircle(circle, self._node.formation, founder, charter, tuple(members[circle])), now_ms)
            for circle, (founder, charter) in charters.items()
        }

    def _charters(self, now_ms: int) -> dict[bytes, tuple[bytes, Charter]]:
        found = {}
        for statement in self._node.replica.living(CHARTER_KIND, now_ms=now_ms):
            if not self._belongs(statement.author):
                continue
            try:
                found[bytes.fromhex(statement.name)] = (statement.author, read_charter(statement))
            except ProtocolError as error:
                log.warning("a charter of %s is not believed: %s", short(statement.author), error)
        return found

    def _entered(self, entry: Statement) -> list[bytes]:
        try:
            return read_entry(entry) if self._belongs(entry.author) else []
        except ProtocolError as error:
            log.warning("an entry of %s is not believed: %s", short(entry.author), error)
            return []

    def _profile(self, statement: Statement) -> AgentProfile | None:
        try:
            card, status = read_agent(statement)
        except SkerryError:
            return None
        if card is None:
            return None
        resident = self._node.host.get(card.id) if statement.author == self._node.key.public else None
        free = resident is None or resident.load < resident.spec.concurrency
        stands = CircleStatus.OFFLINE if self._node.presence.is_absent(statement.author) else status_of(status, free=free)
        twice = tuple(offer.capability for offer in card.offers if offer.idempotent)
        return AgentProfile(card.id, card.public_key, statement.author, card.name, stands, card.capabilities, twice)

    def _with_epoch(self, circle: AgentCircle, now_ms: int) -> AgentCircle:
        return replace(circle, epoch=next_epoch(circle.roll, [(one.epoch, one.roll) for one in self._said_of(circle.id, now_ms)]))

    def _said_of(self, circle: bytes, now_ms: int) -> list[CircleAnnouncement]:
        said = []
        for statement in self._node.replica.living(CIRCLE_KIND, now_ms=now_ms):
            if statement.name == circle.hex() and self._belongs(statement.author):
                try:
                    said.append(read_announcement(statement))
                except ProtocolError as error:
                    log.warning("an announcement of %s is not believed: %s", short(statement.author), error)
        return said

    def _belongs(self, node: bytes) -> bool:
        return self._node.trust.standing(node).belongs

    # --- speaking -------------------------------------------------------------------------------------------------------------

    def _speaks_for(self, circle: AgentCircle) -> bool:
        return any(member.node == self._node.key.public for member in circle.members)

    def _speak(self, circle: AgentCircle, now_ms: int) -> PublishedCircle:
        """Announce a circle by a record, where it says something new; returns what is said."""
        ours, name = self._node.key.public, circle.id.hex()
        wanted = CircleAnnouncement.from_circle(circle, speakers=self._speakers(circle), author=ours, now_ms=now_ms)
        self._node.advertiser.say(CIRCLE_KIND, name, wanted.body(), audience="public" if circle.charter.public else "formation")
        said = self._node.replica.get(ours, CIRCLE_KIND, name, now_ms=now_ms)
        return PublishedCircle(
            read_announcement(said) if said is not None else wanted, tuple(filter(None, [self._node.trust.grant_to_show()]))
        )

    def _speakers(self, circle: AgentCircle) -> list[Speaker]:
        """The nodes with members that are there, ours first: each can be asked."""
        ours, is_absent = self._node.key.public, self._node.presence.is_absent
        nodes = sorted({member.node for member in circle.members if not is_absent(member.node)}, key=lambda one: (one != ours, one))
        said = {s.author: s.body for s in self._node.replica.held("node")}
        found = [Speaker(ours, self._node.addresses()[:ADDRESSES_MAX], self.dht_key)] if ours in nodes else []
        for node in nodes:
            addresses, key = said_addresses(said.get(node, {})), said.get(node, {}).get("dht_key")
            if node != ours and addresses:
                found.append(Speaker(node, addresses[:ADDRESSES_MAX], key if isinstance(key, bytes) else b""))
        return found[:SPEAKERS_MAX]

    def payloads(self, *, query: str, circle: bytes, most: int, size_bytes_max: int) -> list[bytes]:
        """What this node says to everybody: the announcements of public circles that offer that, or of that one; no more than fit."""
        found: list[bytes] = []
        for one in self.router.local_circles():
            published = self.router.announced(one.id)
            if not one.charter.public or published is None or not published.announcement.signed:
                continue
            if (circle and one.id == circle) or (query and published.announcement.offers(query)):
                grant = self._node.trust.grant_to_show()
                payload = PublishedCircle(published.announcement, (grant,) if grant else ()).to_bytes()
                size_bytes_max -= len(payload)
                if size_bytes_max < 0 or len(found) == most:
                    break
                found.append(payload)
        return found

    def members_of(self, agent: str) -> frozenset[str]:
        """The members of a circle that a task names as `circle:<id>`; empty where it names none."""
        if not agent.startswith(PREFIX):
            return frozenset()
        try:
            circle = self.named(agent.removeprefix(PREFIX))
        except SkerryError:
            return frozenset()
        return frozenset(member.id for member in circle.members)

    # --- what its owner asks --------------------------------------------------------------------------------------------------

    def named(self, name: str) -> AgentCircle:
        """A circle of ours by name, id, or the start of its id. Raises Refused where there is none, or more than one."""
        found = [one for one in self.router.local_circles() if name in (one.name, one.id.hex())]
        found = found or [one for one in self.router.local_circles() if len(name) >= 4 and one.id.hex().startswith(name)]
        if len(found) != 1:
            what = "no circle is" if not found else "several circles are"
            raise Refused(f"{what} called {name[:80]!r}", code=Code.NOT_FOUND, hint="`skerry circle list` shows names and ids")
        return found[0]

    def create(self, name: str, *, description: str, open_membership: bool, callable_by: str, public: bool) -> AgentCircle:
        check_name(name)
        check_description(description)
        if callable_by not in tuple(CallableBy):
            raise UsageError(f"{callable_by[:40]!r} is nobody", hint=f"--callable-by takes {', '.join(CallableBy)}")
        if any(one.name == name for one in self.router.local_circles()):
            raise UsageError(f"a circle is called {name!r} already", hint="choose another name")
        ours = self._node.key.public
        if sum(one.founder == ours for one in self.router.local_circles()) >= OF_NODE_MAX:
            raise Refused(f"this node founded {OF_NODE_MAX} circles already", code=Code.CONFLICT, hint="dissolve one")
        nonce = self._node.ports.random.token(NONCE_BYTES)
        charter = Charter(name, nonce, description, open_membership, CallableBy(callable_by), public or callable_by == CallableBy.ANYONE)
        identity = circle_id(self._node.formation, ours, nonce)
        self._node.advertiser.say(CHARTER_KIND, identity.hex(), charter.body(), audience="formation")
        self.refresh()
        return self.named(identity.hex())

    def invite(self, name: str, agent: str) -> AgentCircle:
        circle = self._founded(name)
        identity = views.agent_named(self._node, agent).id
        if identity not in circle.charter.invited:
            if len(circle.charter.invited) >= INVITED_MAX:
                raise Refused(f"{INVITED_MAX} agents are invited already", code=Code.CONFLICT, hint="open it: skerry circle create --open")
            charter = replace(circle.charter, invited=(*circle.charter.invited, identity), revision=circle.charter.revision + 1)
            self._node.advertiser.say(CHARTER_KIND, circle.id.hex(), charter.body(), audience="formation")
        self.refresh()
        return self.named(circle.id.hex())

    def dissolve(self, name: str) -> AgentCircle:
        circle = self._founded(name)
        self._take_back(CHARTER_KIND, circle.id.hex())
        self.refresh()
        return circle

    def enter(self, name: str, agent: str) -> AgentCircle:
        circle, resident = self.named(name), self._node.host.named(agent)
        if not circle.charter.lets_in(resident.spec.id):
            founder = views.node_names(self._node).get(circle.founder, short(circle.founder))
            raise Refused(
                f"the circle {circle.name} is open to invited agents alone",
                code=Code.NOT_GRANTED,
                hint=f"on {founder}: skerry circle invite '{circle.name}' {resident.spec.name}",
            )
        held = self._circles_of(resident)
        if circle.id not in held and len(held) >= OF_NODE_MAX:
            raise Refused(f"the agent is in {OF_NODE_MAX} circles already", code=Code.CONFLICT, hint="leave one")
        self._say_entry(resident.spec.id, [*held, circle.id])
        return self.named(circle.id.hex())

    def leave(self, name: str, agent: str) -> AgentCircle:
        circle, resident = self.named(name), self._node.host.named(agent)
        held = self._circles_of(resident)
        if circle.id not in held:
            raise Refused(f"{resident.spec.name} is not in the circle {circle.name}", code=Code.NOT_FOUND, hint="skerry circle show")
        self._say_entry(resident.spec.id, [one for one in held if one != circle.id])
        return self.named(circle.id.hex())

    def agent_gone(self, identity: str) -> None:
        """An agent of this node was removed."""
        self._take_back(ENTRY_KIND, identity)

    def _circles_of(self, resident: Resident) -> list[bytes]:
        entry = self._node.replica.get(self._node.key.public, ENTRY_KIND, resident.spec.id, now_ms=self._node.ports.clock.now_ms())
        return self._entered(entry) if entry is not None else []

    def _say_entry(self, agent: str, circles: list[bytes]) -> None:
        unique = sorted(set(circles))
        self._node.advertiser.say(ENTRY_KIND, agent, {"circles": unique} if unique else {}, audience="formation")
        self.refresh()

    def _take_back(self, kind: str, name: str) -> None:
        if self._node.replica.get(self._node.key.public, kind, name, now_ms=self._node.ports.clock.now_ms()) is not None:
            self._node.advertiser.say(kind, name, {})

    def _founded(self, name: str) -> AgentCircle:
        circle = self.named(name)
        if circle.founder != self._node.key.public:
            founder = views.node_names(self._node).get(circle.founder, short(circle.founder))
            raise Refused(f"the circle {circle.name} was founded by {founder}", code=Code.NOT_GRANTED, hint=f"ask there: --node {founder}")
        return circle
