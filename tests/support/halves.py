"""Halves of wires as nodes of a simulated world would sign them, true and false ones, and requests that show them."""

from __future__ import annotations

from typing import Any

from skerry.identity.keys import agent_id
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import state
from skerry.sim.machine import Machine
from skerry.wiring.verbs import WireRequest
from skerry.wiring.wires import KIND, End, comms_name, half_body, key_text, peer_id, wire_name
from tests.support.formation import key

FORGED = key(0x0721)


def end_of(machine: Machine, _: Any = None, *, key_: Any = FORGED) -> End:
    return End(agent_id(key_.public), machine.key.public, machine.node.formation, comms_name(machine.name, "Clerk", "forged"), key_.public)


def real_end(machine: Machine, identity: str) -> End:
    resident = machine.node.host.get(identity)
    assert resident is not None
    return End(
        identity, machine.key.public, machine.node.formation, comms_name(machine.name, "Clerk", resident.spec.name), resident.key.public
    )


def descriptor(own: End, peer: End, *, by: Machine, signer: Any = None, since_ms: int = 0, lifetime_ms: int = 1000) -> bytes:
    """`since_ms`: how long ago it was said."""
    now_ms = by.clock.now_ms() - since_ms
    return state(
        signer or by.key,
        kind=KIND,
        name=wire_name(own.agent, peer.agent),
        formation=own.formation,
        audience="formation",
        stamp=stamp_at(now_ms),
        expires=now_ms + lifetime_ms,
        body=half_body(own, peer),
    ).signed


def asked(own: End, peer: End, signed: bytes, **changed: Any) -> WireRequest:
    fields = {
        "remote_member": peer.agent,
        "local_peer_spec_address": "tcp://xi:7420",
        "local_comms_name": own.name,
        "local_peer_id": peer_id(own.key),
        "local_pubkey_b64": key_text(own.key),
        "descriptor": signed,
    }
    return WireRequest(**{**fields, **changed})
