"""What a peer may do: one table from role to rights, looked up per verb; and for contacts what their entry says.

A contact's rights are texts of their own (`contact:call:inference:*`), so that none of them is ever taken for a member's: a verb is open to
contacts only where its line in the table of verbs names the right of an entry that opens it.

The rule: a right that is not in the table is not there; a refusal names the right that is missing.
"""

from __future__ import annotations

from enum import StrEnum

from skerry.identity.contacts import Contact, matches
from skerry.identity.grants import Role, Standing, State


class Right(StrEnum):
    """What a verb can ask for."""

    PING = "ping"  # is anybody there
    JOIN = "join"  # show a ticket
    RENEW = "renew"  # have one's own grant renewed
    CALL = "call"  # have tasks done
    INJECT = "inject"  # send letters to agents
    WIRE = "wire"  # link agents of one's own with agents here
    FEDERATE = "federate"  # exchange records
    RELAY = "relay"  # be dialled back, and have bytes forwarded
    OBSERVE = "observe"  # look at nodes, agents, capabilities
    OPERATE = "operate"  # start and stop agents that are there
    ADMIN = "admin"  # invite and revoke
    CONTACT = "contact"  # be known as another formation, and tell what is new there
    OWN = "own"  # what only the owner of the machine may: its files, its end


_STRANGER = frozenset({Right.PING, Right.JOIN})
_CLIENT = _STRANGER | {Right.CALL, Right.INJECT, Right.OBSERVE, Right.RENEW}
_MEMBER = _CLIENT | {Right.FEDERATE, Right.WIRE, Right.RELAY}
_LAPSED_NODE = {Right.CALL, Right.RENEW, Right.FEDERATE, Right.RELAY, Right.WIRE}
_OPERATOR = _MEMBER | {Right.OPERATE, Right.ADMIN}

RIGHTS: dict[tuple[State, Role | None], frozenset[Right]] = {
    (State.VALID, Role.CLIENT): _CLIENT,
    (State.VALID, Role.MEMBER): _MEMBER,
    (State.VALID, Role.OPERATOR): _OPERATOR,
    # a lapsed grant still serves for calls and wires inside the formation, and for its own renewal
    (State.LAPSED, Role.CLIENT): _STRANGER | {Right.CALL, Right.RENEW},
    (State.LAPSED, Role.MEMBER): _STRANGER | _LAPSED_NODE,
    (State.LAPSED, Role.OPERATOR): _STRANGER | _LAPSED_NODE,
}
OWNER: frozenset[str] = frozenset(Right)
NOBODY: frozenset[str] = frozenset()


def rights_of(standing: Standing, *, owner: bool = False, contact: Contact | None = None) -> frozenset[str]:
    """What a peer with that standing may do.

    owner     it is the user that the node runs as, on the node's own socket
    contact   the entry of the contact whose node it is; it counts only where the peer is none of ours
    """
    if owner:
        return OWNER
    if standing.state is State.REVOKED:
        return NOBODY
    found = RIGHTS.get((standing.state, standing.role))
    if found is None and contact is not None:
        return _STRANGER | {Right.CONTACT.value} | {_ENTRY + right for right in contact.allow.rights}
    return found or _STRANGER


def is_stranger(rights: frozenset[str]) -> bool:
    """Whether it is neither one of ours nor a contact."""
    return Right.CALL not in rights and Right.CONTACT not in rights


def contact_lacks(rights: frozenset[str], right: str, name: str = "") -> str:
    """The right that a contact's entry does not give it, as the entry would have it; "" where it does.

    right, name: `federate`; or `call` and the capability, `wire` or `inject` and the agent
    """
    if not name:
        return "" if _ENTRY + right in rights else right
    given = (text.removeprefix(f"{_ENTRY}{right}:") for text in rights if text.startswith(f"{_ENTRY}{right}:"))
    return "" if any(matches(pattern, name) for pattern in given) else f"{right}:{name}"


_ENTRY = "contact:"
