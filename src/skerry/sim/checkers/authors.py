"""Every record is its author's: what a node holds was signed, to the byte, by the key that it is kept under, for this formation.

Checked with the cryptography alone, beside the code by which a node lets records in. And each author keeps to its quota.
"""

from __future__ import annotations

from collections import Counter

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from skerry.identity.codec import decode, encode
from skerry.ports import Row
from skerry.records.record import KINDS
from skerry.sim.machine import Machine
from skerry.sim.world import World

_HEAD_BYTES = 6  # of a COSE_Sign1 with our one header: 84 43 a1 01 27 a0
_SIGNATURE_BYTES = 64


class SignedByAuthors:
    """Looks at every record of a node, of one at a time while it lasts; each is verified once, and remembered by its bytes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._verdicts: dict[tuple[bytes, bytes, str, str], str] = {}
        self._looks = 0

    def look(self) -> list[str]:
        up = self._world.up()
        self._looks += 1
        return self._of(up[self._looks % len(up)]) if up else []

    def settled(self) -> list[str]:
        return [wrong for machine in self._world.up() for wrong in self._of(machine)]

    def _of(self, machine: Machine) -> list[str]:
        wrong = []
        store, count = machine.node.ports.store, Counter[tuple[bytes, str]]()
        for kind, limits in KINDS.items():
            for row in store.of_kind(kind):
                count[row.author, kind] += 1
                fault = self._fault(row, machine.node.formation)
                if fault:
                    wrong.append(f"{machine.name} holds a {kind} record {row.name[:10]} of {row.author.hex()[:6]} that {fault}")
            wrong.extend(
                f"{machine.name} holds {held} {kind} records of {author.hex()[:6]}"
                for (author, one), held in count.items()
                if one == kind and held > limits.author_max
            )
        return wrong

    def _fault(self, row: Row, formation: bytes) -> str:
        key = (row.signed, row.author, row.kind, row.name)
        if key not in self._verdicts:
            self._verdicts[key] = _fault(row, formation)
        return self._verdicts[key]


def _fault(row: Row, formation: bytes) -> str:
    """What is wrong with it; "" where nothing is."""
    framed, signature = row.signed[_HEAD_BYTES : -_SIGNATURE_BYTES - 2], row.signed[-_SIGNATURE_BYTES:]
    try:
        payload = decode(framed)
        said = decode(payload)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever does not decode is no record
        return f"can't be read: {error}"
    signed = encode(["Signature1", b"\xa1\x01\x27", b"skerry/record/1", payload])
    try:
        VerifyKey(row.author).verify(signed, signature)
    except BadSignatureError:
        return "its author did not sign"
    if (said["author"], said["kind"], said["name"], said["stamp"]) != (row.author, row.kind, row.name, row.stamp):
        return "says something else than it is kept as"
    if said["formation"] != formation:
        return "is of another formation"
    return "" if blake3(payload).digest() == row.hash else "is kept under another hash"
