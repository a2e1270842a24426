"""This node's part in the federation of formations: what it holds of others, whom it pulls from, and who its callers over HTTP are.

The rule: who a caller is follows from its key and from a chain to its formation's root key; what it may have from the contact's entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from skerry.errors import ProtocolError
from skerry.identity.grants import Grant, Role, read_grant
from skerry.identity.statement import parse
from skerry.records.abroad import Abroad, Shared, ShareLists
from skerry.records.pulling import INTERVAL_S, FederationManager
from skerry.records.registry import AgentRegistry, Holdings

if TYPE_CHECKING:
    from skerry.node.node import Node

log = logging.getLogger(__name__)
FindContact = Callable[[bytes, bytes], bytes]  # a node, and its formation (empty: unknown) -> the id of the contact that it is, or nothing


class Federating:
    """The registry and its federation, for one node. It asks nobody before there is a seed."""

    def __init__(self, node: Node, *, shared: Shared, contacts: Abroad, seeds: Iterable[str]) -> None:
        self._node = node
        self.find_contact: FindContact = lambda _, __: b""
        self.is_contact: Callable[[bytes], bool] = lambda _: False
        holdings = Holdings(
            node.key,
            node.formation,
            node.ports.clock,
            node.replica,
            node.roster,
            shared,
            contacts,
            self._is_contact,
        )
        self.registry = AgentRegistry(holdings)
        self.manager = FederationManager(
            self.registry,
            seeds,
            http=node.ports.http,
            chance=node.ports.random,
            grant=node.trust.grant_to_show,
            also_dial=node.settings.also_dial,
        )
        self._task: asyncio.Task[None] | None = None

    def _is_contact(self, formation: bytes) -> bool:
        return self.is_contact(formation)

    def start(self) -> None:
        if self._task is None and self.manager.peers and self._node.ports.http is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def contact_of(self, node: bytes, signed_grant: bytes) -> bytes:
        """The contact that a caller is of, proven by its key (the request's) and the grant that it shows; empty for anybody else."""
        grant = self._grant_of(node, signed_grant)
        if grant is None:
            return self.find_contact(node, b"")
        foreign = self.registry.holdings.contacts.find(grant.formation)
        if foreign is not None:  # what we know of its formation counts: revocations
            foreign.ingest(signed_grant, now_ms=self._node.ports.clock.now_ms())
            if not foreign.belongs(node, now_ms=self._node.ports.clock.now_ms()):
                return b""
        return self.find_contact(node, grant.formation)

    def _grant_of(self, node: bytes, signed: bytes) -> Grant | None:
        """The grant that holds for that node now, or None."""
        if not signed:
            return None
        try:
            grant = read_grant(parse(signed))
        except ProtocolError:
            return None
        in_force = grant.expires_ms > self._node.ports.clock.now_ms()
        return grant if grant.subject == node and in_force and grant.role is not Role.CLIENT else None

    async def _run(self) -> None:
        try:
            await self.manager.start_background_sync(INTERVAL_S)
        except Exception:  # whatever is wrong with HTTP, the node serves on without it
            log.exception("the federation over HTTP ended")
            self._node.warnings["federation"] = "records are no longer pulled over HTTP: the log says why"


class NoLists(ShareLists):
    """Where nothing is shared with contacts: nobody gets anything but what is public."""

    def gives(self, author: bytes, name: str, contact: bytes) -> bool:
        return False

    def taken_back(self, author: bytes, name: str, contact: bytes) -> bytes | None:
        return None
