"""What a peer may do: one table from role to rights, looked up per verb.

The rule: a right that is not in the table is not there; a refusal names the right that is missing.
"""

from __future__ import annotations

from enum import StrEnum

from skerry.identity.grants import Role, Standing, State


class Right(StrEnum):
    """What a verb can ask for."""

    PING = "ping"  # is anybody there
    JOIN = "join"  # show a ticket
    RENEW = "renew"  # have one's own grant renewed
    CALL = "call"  # have tasks done
    FEDERATE = "federate"  # exchange records
    OBSERVE = "observe"  # look at nodes, agents, capabilities
    OPERATE = "operate"  # start and stop agents that are there
    ADMIN = "admin"  # invite and revoke
    OWN = "own"  # what only the owner of the machine may: its files, its end


_STRANGER = frozenset({Right.PING, Right.JOIN})
_CLIENT = _STRANGER | {Right.CALL, Right.OBSERVE, Right.RENEW}
_MEMBER = _CLIENT | {Right.FEDERATE}
_OPERATOR = _MEMBER | {Right.OPERATE, Right.ADMIN}

RIGHTS: dict[tuple[State, Role | None], frozenset[Right]] = {
    (State.VALID, Role.CLIENT): _CLIENT,
    (State.VALID, Role.MEMBER): _MEMBER,
    (State.VALID, Role.OPERATOR): _OPERATOR,
    # a lapsed grant still serves for calls inside the formation and for its own renewal
    (State.LAPSED, Role.CLIENT): _STRANGER | {Right.CALL, Right.RENEW},
    (State.LAPSED, Role.MEMBER): _STRANGER | {Right.CALL, Right.RENEW, Right.FEDERATE},
    (State.LAPSED, Role.OPERATOR): _STRANGER | {Right.CALL, Right.RENEW, Right.FEDERATE},
}
OWNER: frozenset[str] = frozenset(Right)
NOBODY: frozenset[str] = frozenset()


def rights_of(standing: Standing, *, owner: bool = False) -> frozenset[str]:
    """What a peer with that standing may do; `owner`: it is the user that the node runs as, on the node's own socket."""
    if owner:
        return OWNER
    if standing.state is State.REVOKED:
        return NOBODY
    return RIGHTS.get((standing.state, standing.role), _STRANGER)
