"""Which nodes to stay connected to, and at which addresses: every member, where it last said that it is, or where we were told.

Asked of all when the node starts and from time to time, of one with each thing that is learned: a formation of n nodes that forms tells
each of them of n others, and whoever looked at all of them each time would look n cubed times.

The rule: what is said of one node alone is what is said of it among all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.channel.address import VIA
from skerry.identity.contacts import ADDRESS_CHARACTERS_MAX
from skerry.identity.grants import Role, State
from skerry.identity.statement import Statement
from skerry.node.advertise import NODE_NAME
from skerry.node.trust import Trust
from skerry.records.replica import Replica

STRAIGHT_MAX = 32  # addresses of one node: a machine with containers has an interface for each network of theirs
OVER_MAX = 4  # ways over relays; it has two, and for a moment those that it had


class Whereabouts:
    """As one node knows them (`channel.keeper.Wanted`). `told`: addresses of nodes that we were told of before any record; `heard`: where
    a node says that it is on the local network."""

    def __init__(
        self,
        trust: Trust,
        replica: Replica,
        *,
        told: dict[bytes, tuple[str, ...]],
        heard: Callable[[bytes], tuple[str, ...]] = lambda node: (),
    ) -> None:
        self._trust = trust
        self._replica = replica
        self._told = told
        self._heard = heard

    def all(self) -> dict[bytes, tuple[str, ...]]:
        """Node id -> addresses, without our own, in the order of ids."""
        said = {s.author: s for s in self._replica.held("node") if s.name == NODE_NAME}
        nodes = sorted({*self._trust.roster.subjects(), *self._told})
        found = {node: self._addresses(node, said.get(node)) for node in nodes if self._is_wanted(node)}
        return {node: addresses for node, addresses in found.items() if addresses}

    def of(self, node: bytes) -> tuple[str, ...]:
        """The addresses of one; empty where it is none of those."""
        is_known = node in self._told or self._trust.roster.knows(node)
        if not is_known or not self._is_wanted(node):
            return ()
        return self._addresses(node, self._replica.last_said(node, "node", NODE_NAME))

    def _is_wanted(self, node: bytes) -> bool:
        standing = self._trust.standing(node)
        is_ours = standing.belongs or standing.state is State.UNKNOWN  # its grant may not have come yet
        return is_ours and standing.role is not Role.CLIENT and node != self._trust.key.public

    def _addresses(self, node: bytes, said: Statement | None) -> tuple[str, ...]:
        known = said_addresses(said.body) if said is not None else ()
        return tuple(dict.fromkeys(self._heard(node) + known + self._told.get(node, ())))


def said_addresses(body: dict[str, Any]) -> tuple[str, ...]:
    """Where a node's record says that it is. All of us dial them again and again: a member that names thousands has the formation look for
    ports, or flood somebody."""
    said = body.get("addresses")
    texts = [one for one in said if isinstance(one, str) and len(one) <= ADDRESS_CHARACTERS_MAX] if isinstance(said, list) else []
    straight = [one for one in texts if not one.startswith(VIA)]
    over = [one for one in texts if one.startswith(VIA)]
    return tuple(dict.fromkeys((*straight[:STRAIGHT_MAX], *over[:OVER_MAX])))
