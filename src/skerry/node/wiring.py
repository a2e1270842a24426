"""Wires of this node's agents: made, shown, taken away, and made so again after whatever happened.

    wire add A B:   look B up ─▶ our half ─▶ `wire` at B's node: its half ─▶ both stand
                                    │ refused: our half goes again

Our half is our intent. What a crash left half done is whole, or gone, within one round (`wire_rounds.py`).

The rule: what the other side says is believed of the node that hosts the agent, with its signature, and only if it is newer than what is
known.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from skerry.agents.resident import Resident
from skerry.agents.spec import Spec
from skerry.channel.address import via
from skerry.discovery.reach import Reach
from skerry.errors import Code, ProtocolError, Refused, SkerryError, StorageError, UsageError
from skerry.identity.codec import pack
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import parse_unverified
from skerry.node import views
from skerry.node.addressees import DEAF
from skerry.node.descriptors import Descriptors
from skerry.node.mail import Sender
from skerry.node.sides import Sides, end_of
from skerry.node.wire_rounds import Rounds
from skerry.wiring.verbs import (
    InjectReply,
    InjectRequest,
    LookupReply,
    LookupRequest,
    WireCheckRequest,
    WireInfo,
    WireReply,
    WireRequest,
)
from skerry.wiring.wires import (
    KIND,
    End,
    Half,
    comms_name,
    key_text,
    peer_id,
    read_descriptor,
    read_half,
    wire_name,
)

if TYPE_CHECKING:
    from skerry.node.node import Node

THEIRS = "wire"  # the space of facts: name of our half -> the other side's half, while the wire stands
WIRES_EACH_MAX = 256  # of one agent that others may have: each is a record of ours, which we renew
SHUT = frozenset({Code.NOT_GRANTED, Code.NOT_FOUND})  # a wire is of no use where one side takes no word of the other
log = logging.getLogger(__name__)


class Wires:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sides = Sides(node, self)
        self._rounds = Rounds(node, self, self._sides)
        self._descriptors = Descriptors(node)
        self._told_lives: dict[str, int] = {}  # of each agent: which life of its process was told of its wires
        self.problems: dict[str, SkerryError] = {}  # why a wire waits, by the name of our half

    def start(self) -> None:
        self._rounds.start()

    async def close(self) -> None:
        await self._rounds.close()

    def look(self) -> None:
        """A way is open, or something changed: look after the wires soon."""
        self._rounds.look()

    # --- for people -------------------------------------------------------------------------------------------------------------

    async def add(self, agent: str, peer: str) -> WireInfo:
        """Wire an agent of this node to another one. Raises Refused or Unreachable with the reason; then nothing is left here."""
        resident = self._node.host.named(agent)
        other, member = await self._sides.of_address(peer)
        try:
            end = end_of(await other.lookup_member(member))
        except Refused as error:
            error.hint = self._sides.advice(peer) or error.hint
            raise
        if end.agent == resident.spec.id:
            raise UsageError(f"{agent!r} can't be wired to itself", hint="name another agent")
        self._sides.check_end(end, address=peer)
        own = self._own_end(resident)
        name = wire_name(own.agent, end.agent)
        half = self._write(own, end)
        try:
            reply = await other.wire(self.request(half))
            self.believe(half, reply.descriptor)
        except SkerryError:
            if self.is_still(half) and self.theirs(name) is None:  # the other side may want it too, and have said so meanwhile
                self.take_away(name)
            raise
        self.problems.pop(name, None)
        return self._info(half)

    async def remove(self, agent: str, peer: str) -> WireInfo:
        """Take a wire away, on both sides. Raises the first error; what could be taken away is gone all the same, and the rest follows."""
        resident = self._node.host.named(agent)
        ours = [half for half in self.halves() if half.own.agent == resident.spec.id]
        found = [half for half in ours if peer in self.names_of(half)]
        if len(found) != 1:
            there = ", ".join(sorted(self.shown(half.peer) for half in found or ours)) or "none"
            if found:
                raise Refused(f"{peer!r} is {len(found)} agents: {there}", code=Code.CONFLICT, hint="say which node: NODE/AGENT")
            raise Refused(f"{agent!r} is not wired to {peer!r}; it is wired to: {there}", code=Code.NOT_FOUND, hint="`skerry wire list`")
        half = found[0]
        info = self._info(half)
        failed: SkerryError | None = None
        try:
            self.take_away(wire_name(half.own.agent, half.peer.agent))
        except StorageError as error:  # the other side's goes all the same, and ours follows it
            failed = error
        if self._sides.is_known(half.peer):  # who is no contact any more is told nothing
            try:
                await (await self._sides.of_end(half.peer)).unwire(self.request(half))
            except SkerryError as error:
                if failed is not None:
                    raise failed from error
                follows = "when its owner takes it away, or has us as a contact again" if error.code in SHUT else "when it is reached again"
                error.hint = f"the wire is gone on this side; the other side follows {follows}"
                raise
        if failed is not None:
            raise failed
        return info

    def infos(self) -> list[WireInfo]:
        return sorted((self._info(half) for half in self.halves()), key=lambda info: (info.agent, info.peer))

    def halves(self) -> list[Half]:
        """Our own halves."""
        now_ms = self._node.ports.clock.now_ms()
        ours = self._node.key.public
        return [read_half(s) for s in self._node.replica.living(KIND, now_ms=now_ms, author=ours)]

    def stands(self, *, own: str, peer: str) -> bool:
        """Whether an agent of this node (by id) is wired to another one."""
        return self.standing(own=own, peer=peer) is not None

    def standing(self, *, own: str, peer: str) -> Half | None:
        """Our half of that wire, where it stands."""
        name = wire_name(own, peer)
        return self._ours(name) if self.theirs(name) is not None else None

    def peers_of(self, agent: str) -> list[Half]:
        """The halves of an agent of this node whose wires stand."""
        return [half for half in self.halves() if half.own.agent == agent and self.stands(own=agent, peer=half.peer.agent)]

    # --- for the other side -----------------------------------------------------------------------------------------------------

    def serve_lookup(self, request: LookupRequest) -> LookupReply:
        end = self._own_end(self._member(request.remote_member))
        return LookupReply(peer_id(end.key), end.name, end.agent, end.node.hex(), end.formation.hex(), key_text(end.key))

    def serve_wire(self, request: WireRequest, *, caller: bytes) -> WireReply:
        """The other side wrote its half: write ours."""
        resident = self._member(request.remote_member)
        theirs = self._descriptors.of_request(request, resident.spec.id, caller=caller)
        name = wire_name(resident.spec.id, theirs.own.agent)
        ours, known = self._ours(name), self.theirs(name)
        if ours is None and sum(half.own.agent == resident.spec.id for half in self.halves()) >= WIRES_EACH_MAX:
            raise Refused(f"the agent {resident.spec.name!r} has {WIRES_EACH_MAX} wires already", code=Code.BUSY, hint="take some away")
        if ours is None:  # theirs first: with it a half that nobody wants any more is known as such
            self._node.ports.store.set_fact(THEIRS, name, theirs.signed)
        try:
            own = self._own_end(resident)
            half = self._write(ours.own if ours is not None and not resident.role else own, theirs.own)
        except SkerryError:
            with suppress(StorageError):
                self._node.ports.store.set_fact(THEIRS, name, known.signed if known is not None else None)
            raise
        if ours is None:
            self._tell(resident, added=[self.shown(half.peer)])
        else:
            self._note(half, theirs)
        return WireReply(half.signed)

    def serve_unwire(self, request: WireRequest, *, caller: bytes) -> WireReply:
        """The other side took its half away, which its descriptor describes: take ours away."""
        resident = self._member(request.remote_member)
        theirs = self._descriptors.of_request(request, resident.spec.id, caller=caller)
        name = wire_name(resident.spec.id, theirs.own.agent)
        known = self.theirs(name)
        if known is None or known.stamp <= theirs.stamp:  # else that half was written anew since, and the word comes late
            self.take_away(name)
        return WireReply()

    def serve_check(self, request: WireCheckRequest, *, caller: bytes) -> WireReply:
        if not self._node.running or not self._node.may_write.is_set():
            raise Refused("this node does not know yet what it said before", code=Code.BUSY, hint="try again in a moment")
        theirs = self._descriptors.read(request.descriptor, caller=caller)
        name = wire_name(theirs.peer.agent, theirs.own.agent)
        ours = self._ours(name)
        if ours is None or self._node.host.get(theirs.peer.agent) is None:
            return WireReply()
        self._note(ours, theirs)
        return WireReply(ours.signed)

    def serve(self, request: WireRequest | WireCheckRequest | LookupRequest, *, unwire: bool, caller: bytes) -> WireReply | LookupReply:
        """Any of those."""
        if isinstance(request, LookupRequest):
            return self.serve_lookup(request)
        if isinstance(request, WireCheckRequest):
            return self.serve_check(request, caller=caller)
        return self.serve_unwire(request, caller=caller) if unwire else self.serve_wire(request, caller=caller)

    async def serve_inject(self, request: InjectRequest, *, caller: bytes) -> InjectReply:
        """A letter by the asking node itself: it goes into this node's outbox."""
        resident = self._member(request.remote_member)
        shown = views.node_names(self._node).get(caller, caller.hex()[:10])
        return await self.inject(request, resident.spec.id, Sender(caller, shown))

    async def inject(self, request: InjectRequest, agent: str, sender: Sender) -> InjectReply:
        if request.handling_mode not in ("queue", "interrupt"):
            raise Refused(f"handling_mode: {request.handling_mode!r} is neither queue nor interrupt", code=Code.BAD_INPUT)
        reply = await self._node.mail.send(sender, agent, pack(request.content), urgent=request.handling_mode == "interrupt")
        return InjectReply(reply.session_id)

    @property
    def identity(self) -> bytes:
        return self._node.key.public

    # --- agents come and go -----------------------------------------------------------------------------------------------------

    def agent_up(self, resident: Resident) -> None:
        """An agent is there, perhaps again: tell it whom it is wired to, once in each life of its process."""
        if self._told_lives.get(resident.spec.id) == resident.lives:
            return
        self._told_lives[resident.spec.id] = resident.lives
        added = [self.shown(half.peer) for half in self.peers_of(resident.spec.id)]
        if added:
            self._tell(resident, added=added)

    def agent_gone(self, spec: Spec) -> None:
        """An agent was removed: its wires go."""
        self._told_lives.pop(spec.id, None)
        for half in self.halves():
            if half.own.agent == spec.id:
                with suppress(StorageError):  # a full disk: the next round does it
                    self.take_away(wire_name(half.own.agent, half.peer.agent))
                self._node.spawn(self._say_unwired(half))

    async def _say_unwired(self, half: Half) -> None:
        with suppress(SkerryError):  # it asks by itself in its next round
            await (await self._sides.of_end(half.peer)).unwire(self.request(half))

    # --- both sides -------------------------------------------------------------------------------------------------------------

    def request(self, half: Half) -> WireRequest:
        own = half.own
        return WireRequest(half.peer.agent, self._reached_at(), own.name, peer_id(own.key), key_text(own.key), half.signed)

    def _reached_at(self) -> str:
        """The back-pointer: where others come to us. Where nobody can dial us where we listen, that is over a relay."""
        reaching = self._node.reaching
        addresses = self._node.addresses() if reaching.verdict.reach is not Reach.OUTBOUND else reaching.ways()
        return addresses[0] if addresses else via(self._node.key.public)

    def _member(self, name: str) -> Resident:
        """An agent of this node, by id, name or `node/name`."""
        if not self._node.running:  # its agents may not be there yet: no wire is given up for that
            raise Refused("the node starts or ends", code=Code.SHUTTING_DOWN, hint="try again in a moment")
        resident = self._node.host.find(name.rpartition("/")[2])
        if resident is None:
            message = f"the node {self._node.settings.name} has no agent {name[:100]!r}; there are: {self._node.host.names()}"
            raise Refused(message, code=Code.UNKNOWN_MEMBER, hint="`skerry agent list` shows all")
        return resident

    def _own_end(self, resident: Resident) -> End:
        if resident.hears is False:
            raise Refused(f"the agent {resident.spec.name!r} takes no letters", code=Code.NO_COMMS, hint=DEAF)
        role = resident.role or resident.spec.entry.rpartition(":")[2] or resident.spec.runtime  # it may not have started yet
        name = comms_name(self._node.settings.name, role, resident.spec.name)
        return End(resident.spec.id, self._node.key.public, self._node.formation, name, resident.key.public)

    # --- what is kept -----------------------------------------------------------------------------------------------------------

    def _ours(self, name: str) -> Half | None:
        held = self._node.replica.get(self._node.key.public, KIND, name, now_ms=self._node.ports.clock.now_ms())
        return read_half(held) if held is not None else None

    def theirs(self, name: str) -> Half | None:
        kept = self._node.ports.store.fact(THEIRS, name)
        return read_half(parse_unverified(kept)[0]) if kept else None

    def is_still(self, half: Half) -> bool:
        """Whether our half is the one that it was."""
        ours = self._ours(wire_name(half.own.agent, half.peer.agent))
        return ours is not None and ours.stamp == half.stamp

    def _write(self, own: End, peer: End) -> Half:
        """Our half, written where it is not there as it is."""
        self._node.advertiser.say_wire(wire_name(own.agent, peer.agent), own, peer)
        half = self._ours(wire_name(own.agent, peer.agent))
        if half is None:
            raise Refused("this node does not know yet what it said before", code=Code.BUSY, hint="try again in a moment")
        self._node.commit_soon()
        return half

    def believe(self, half: Half, descriptor: bytes) -> None:
        """What the other side answered is its half."""
        theirs = read_descriptor(descriptor, now_ms=self._node.ports.clock.now_ms())
        wanted = (half.peer.agent, half.peer.node, half.peer.formation, half.own.agent, half.own.node)
        if (theirs.own.agent, theirs.own.node, theirs.own.formation, theirs.peer.agent, theirs.peer.node) != wanted:
            raise ProtocolError("the other side answered with the half of another wire", code=Code.PEER_SPEC)
        self._note(half, theirs)

    def _note(self, half: Half, theirs: Half) -> None:
        """Both halves are there: the wire stands."""
        name = wire_name(half.own.agent, half.peer.agent)
        before = self.theirs(name)
        if (before is not None and before.stamp >= theirs.stamp) or self._ours(name) is None:
            return
        # for good: with it a half that the other side took away is known from one that it has not written yet
        self._node.ports.store.set_fact(THEIRS, name, theirs.signed, durable=True)
        resident = self._node.host.get(half.own.agent)
        if before is None and resident is not None:
            self._tell(resident, added=[self.shown(half.peer)])

    def take_away(self, name: str) -> None:
        """Our half goes, and what is known of the other one."""
        self._node.addressees.forget()
        half, theirs = self._ours(name), self.theirs(name)
        self._node.advertiser.take_back_wire(name)
        self._node.ports.store.set_fact(THEIRS, name, None)
        self.problems.pop(name, None)
        self._node.commit_soon()
        resident = self._node.host.get(half.own.agent) if half is not None else None
        if half is not None and theirs is not None and resident is not None:
            self._tell(resident, removed=[self.shown(half.peer)])

    # --- how they are shown -----------------------------------------------------------------------------------------------------

    def shown(self, end: End) -> str:
        """An end as its peer addresses it: `[contact/]node/agent`."""
        node, _, agent = end.name.split("/")
        if end.formation == self._node.formation:
            return f"{views.node_names(self._node).get(end.node, node)}/{agent}"
        contact = self._node.contacts.directory.of(node=end.node, formation=end.formation)
        return f"{contact.name if contact is not None else end.formation.hex()[:10]}/{node}/{agent}"

    def names_of(self, half: Half) -> set[str]:
        """All by which people may mean the peer of a wire."""
        shown = self.shown(half.peer)
        agent, node = half.peer.short_name, half.peer.node.hex()
        contact = shown.split("/")[0] + "/" if shown.count("/") == 2 else ""
        names = {shown, half.peer.agent, f"{contact}{agent}", f"{contact}{node}/{agent}", f"{contact}{node[:SHORT_CHARACTERS]}/{agent}"}
        if half.peer.node == self._node.key.public:
            here = [one.name for one in self._node.contacts.directory.contacts.values() if one.inproc]
            names |= {f"{one}/{name}" for one in here for name in names}
        return names

    def _info(self, half: Half) -> WireInfo:
        name = wire_name(half.own.agent, half.peer.agent)
        problem = self.problems.get(name)
        stands = self.theirs(name) is not None and (problem is None or problem.code not in SHUT)
        detail = str(problem) if problem is not None else ""
        state = "standing" if stands else "waiting"
        return WireInfo(half.own.short_name, self.shown(half.peer), peer_id(half.peer.key), state, stamp_ms(half.stamp), detail)

    def _tell(self, resident: Resident, *, added: list[str] | None = None, removed: list[str] | None = None) -> None:
        self._node.spawn(self._told(resident, added or [], removed or []))

    async def _told(self, resident: Resident, added: list[str], removed: list[str]) -> None:
        try:
            await resident.meet(added=added, removed=removed)
        except SkerryError as error:
            log.info("the agent %s could not be told of its wires: %s", resident.spec.name, error)
