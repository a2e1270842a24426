"""No right without a valid chain: whatever a peer may do on a link follows from a grant that leads to the root key, and from nothing else.

Judged anew from the signed bytes in the node's own store, beside the code that the node judges with.
"""

from __future__ import annotations

from skerry.channel.link import Link
from skerry.errors import ProtocolError
from skerry.identity.grants import LAPSED_MS, TOLERANCE_MS
from skerry.identity.statement import Statement, parse
from skerry.node.policy import RIGHTS, Right
from skerry.node.upkeep import EVERY_S
from skerry.sim.machine import Machine
from skerry.sim.world import World

_STRANGER = frozenset({Right.PING, Right.JOIN})
LATE_MS = int(EVERY_S * 1200) + TOLERANCE_MS  # a right may outlast its grant until the next round of chores


class GrantedRights:
    """Looks at every open link of every node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parsed: dict[bytes, Statement | None] = {}

    def look(self) -> list[str]:
        found = [self._of_link(machine, link) for machine in self._world.up() for link in machine.node.links.all()]
        return [wrong for wrong in found if wrong]

    def _of_link(self, machine: Machine, link: Link) -> str:
        assert link.peer is not None
        beyond = frozenset(link.rights) - _STRANGER
        if not beyond or link.peer.same_owner or self._follows(machine, link, beyond):
            return ""
        return f"{machine.name} lets {link.id.hex()[:6]} {', '.join(sorted(beyond))}, which no grant allows"

    def settled(self) -> list[str]:
        return self.look()

    def _follows(self, machine: Machine, link: Link, beyond: frozenset[str]) -> bool:
        if self._is_revoked(machine, link.id):
            return False
        now_ms = machine.clock.now_ms()
        for row in machine.node.ports.store.of_kind("grant"):
            grant = self._read(row.signed) if row.name == link.id.hex() else None
            if grant is None or grant.body.get("subject") != link.id or not self._leads_to_root(machine, grant):
                continue
            late_ms = LATE_MS if Right.OBSERVE in beyond else LATE_MS + LAPSED_MS
            if now_ms <= grant.expires + late_ms and beyond <= _most(str(grant.body.get("role"))):
                return True
        return False

    def _leads_to_root(self, machine: Machine, grant: Statement) -> bool:
        formation = machine.node.formation
        if grant.formation != formation:
            return False
        if grant.author == formation:
            return bool(grant.body.get("role") == "operator")
        chain = grant.body.get("chain")
        issuer = self._read(chain[0]) if isinstance(chain, list) and len(chain) == 1 else None
        return (
            issuer is not None
            and grant.body.get("role") != "operator"
            and issuer.author == issuer.formation == formation
            and issuer.body.get("subject") == grant.author
            and issuer.body.get("role") == "operator"
            and not self._is_revoked(machine, grant.author)
        )

    def _is_revoked(self, machine: Machine, subject: bytes) -> bool:
        """By the root key; an operator's word about a member needs the operator's standing, and counts where that is root's."""
        for row in machine.node.ports.store.of_kind("revocation"):
            said = self._read(row.signed) if row.name == subject.hex() else None
            if said is not None and said.author == machine.node.formation:
                return True
        return False

    def _read(self, signed: bytes) -> Statement | None:
        if signed not in self._parsed:
            try:
                self._parsed[signed] = parse(signed)
            except ProtocolError:
                self._parsed[signed] = None
        return self._parsed[signed]


def _most(role: str) -> frozenset[str]:
    """All that a role can ever have."""
    return frozenset(right for (_, held), rights in RIGHTS.items() if held is not None and held.value == role for right in rights)
