"""Equal records among the living: what one node of the formation holds, all of them hold, to the byte."""

from __future__ import annotations

from skerry.identity.statement import parse_unverified
from skerry.records.quotas import TOMBSTONES_EACH
from skerry.records.record import KINDS
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.wires import KIND as WIRE

SHOWN_MAX = 5
Identity = tuple[bytes, str, str]


class EqualRecords:
    """Compared at the end; on the way they differ, and may."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return []

    def _over_quota(self) -> set[tuple[bytes, str]]:
        """Of whom some node has all that it takes: who says more than it may is heard differently by each, and only that one's loss."""
        return {
            (author, kind)
            for machine in self._world.members()
            for author in self._world.banned
            for kind, limits in KINDS.items()
            if _is_full(machine, author, kind, limits.author_max)
        }

    def settled(self) -> list[str]:
        living = self._world.members()
        if not living:
            return []
        held = {machine.name: _held(machine) for machine in living}
        full = self._over_quota()
        everything = sorted({identity for rows in held.values() for identity in rows if identity[:2] not in full})
        wrong = []
        for identity in everything:
            versions: dict[bytes, list[str]] = {}
            audience = _named(living, identity)
            for name, rows in held.items():
                if audience is not None and self._world.machines[name].key.public not in audience:
                    continue  # it is none of its business
                versions.setdefault(rows.get(identity, b""), []).append(name)
            if len(versions) > 1:
                author, kind, name = identity
                said = "; ".join(f"{value.hex()[:8] or 'nothing'} at {', '.join(names)}" for value, names in sorted(versions.items()))
                wrong.append(f"the {kind} record {name[:10]} of {author.hex()[:6]} differs: {said}")
        return wrong[:SHOWN_MAX] + ([f"and {len(wrong) - SHOWN_MAX} more records differ"] if len(wrong) > SHOWN_MAX else [])


def _named(living: list[Machine], identity: Identity) -> frozenset[bytes] | None:
    """The nodes that a record is for, where it names them; as it stands at its author, who says so."""
    if identity[1] != WIRE:
        return None
    rows = [row for machine in living if (row := machine.node.ports.store.get(*identity)) is not None]
    audience = parse_unverified(max(rows, key=lambda row: row.stamp).signed)[0].audience
    return None if isinstance(audience, str) else frozenset({identity[0], *audience})


def _is_full(machine: Machine, author: bytes, kind: str, most: int) -> bool:
    store = machine.node.ports.store
    return store.count(author, kind) >= most or store.count(author, kind, tombstone=True) >= TOMBSTONES_EACH * most


def _held(machine: Machine) -> dict[Identity, bytes]:
    store = machine.node.ports.store
    return {(row.author, row.kind, row.name): row.hash for kind in KINDS for row in store.of_kind(kind)}
