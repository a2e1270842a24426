"""What other sides show of their wires, and whom it is believed of.

The rule: a half counts where the node that hosts its agent signed it, and where that node, or its contact's, shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.errors import Code, ProtocolError, Refused, UsageError
from skerry.identity.keys import parse_public_key
from skerry.wiring.verbs import WireRequest
from skerry.wiring.wires import Half, check_back_pointer, check_comms_name, peer_id, read_descriptor

if TYPE_CHECKING:
    from skerry.node.node import Node


class Descriptors:
    """As one node reads them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def of_request(self, request: WireRequest, member: str, *, caller: bytes) -> Half:
        """The asking side's half of a wire to our agent `member`, by id. Raises ProtocolError that names what does not fit."""
        check_comms_name(request.local_comms_name)
        check_back_pointer(request.local_peer_spec_address)
        if not request.descriptor:
            raise ProtocolError("the peer's descriptor is not signed", code=Code.PEER_SPEC, hint="show the half-record of its node")
        theirs = self.read(request.descriptor, caller=caller)
        key = _key(request.local_pubkey_b64) if request.local_pubkey_b64 is not None else theirs.own.key
        said = (request.local_comms_name, request.local_peer_id, key)
        if said != (theirs.own.name, peer_id(theirs.own.key), theirs.own.key):
            raise ProtocolError("local_comms_name, local_peer_id and local_pubkey_b64 are not those of the descriptor", code=Code.PEER_SPEC)
        if (theirs.peer.agent, theirs.peer.node) != (member, self._node.key.public):
            raise ProtocolError("the descriptor is of a wire to another agent", code=Code.PEER_SPEC)
        return theirs

    def read(self, descriptor: bytes, *, caller: bytes) -> Half:
        """A half that somebody shows, believed of its own node. Raises ProtocolError or Refused."""
        half = read_descriptor(descriptor, now_ms=self._node.ports.clock.now_ms())
        if half.own.formation == self._node.formation:
            is_ours = caller == half.own.node and self._node.trust.standing(caller).belongs
            if not is_ours and caller != self._node.key.public:
                raise ProtocolError("a node shows the descriptor of another one", code=Code.PEER_SPEC)
            return half
        contact = self._node.contacts.directory.of(node=half.own.node, formation=half.own.formation)
        foreign = self._node.abroad.find(half.own.formation)
        now_ms = self._node.ports.clock.now_ms()
        if contact is None or foreign is None or not foreign.belongs(half.own.node, now_ms=now_ms):
            raise Refused(
                "the descriptor's node is of no contact", code=Code.NOT_GRANTED, hint="ask an operator here to add it as a contact"
            )
        return half


def _key(text: str) -> bytes:
    try:
        return parse_public_key(text)
    except UsageError as error:
        raise ProtocolError(f"local_pubkey_b64: {error.message}", code=Code.PEER_SPEC) from None
