"""This node's part in the federation of formations over HTTP: whom it pulls from, and who its callers are.

It pulls from the seeds of its settings, from contacts that have an https address, and from peers that those told of. It asks nobody before
there is one of them.

The rule: who a caller is follows from its key and from a chain to its formation's root key; what it may have from the contact's entry.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from skerry.errors import ProtocolError
from skerry.identity.contacts import FEDERATE
from skerry.identity.grants import Grant, read_grant
from skerry.identity.keys import short
from skerry.identity.statement import parse
from skerry.records.pulling import INTERVAL_S, FederationManager, SyncReport
from skerry.records.record import Refusal
from skerry.records.registry import AgentRegistry, Holdings
from skerry.surroundings import Http

if TYPE_CHECKING:
    from skerry.node.node import Node

WARNING = "seeds"  # the key of the warning about seeds that give nothing
SHOWN_MAX = 3  # seeds in one warning
log = logging.getLogger(__name__)


class Federating:
    """The registry and its federation, for one node."""

    def __init__(self, node: Node, http: Http) -> None:
        self._node = node
        known = _Known(node)
        self.registry = AgentRegistry(
            Holdings(node.key, node.formation, node.ports.clock, node.replica, node.roster, node.shared, node.abroad, known)
        )
        self.manager = FederationManager(
            self.registry,
            self._seeds(),
            http=http,
            chance=node.ports.random,
            grant=node.trust.grant_to_show,
            also_dial=node.settings.also_dial,
            synced=self._note,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None and self.manager.peers:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def refresh(self) -> None:
        """The contacts changed, and with them perhaps whom to pull from."""
        self.manager.set_seeds(self._seeds())
        self.manager.start_over()  # what was a stranger's, and is a contact's now or no more, has to come again
        self.registry.holdings.purge()
        if self._node.running:
            self.start()

    def contact_of(self, node: bytes, signed_grant: bytes) -> bytes:
        """The id of the contact that a caller is of, and that may have records: proven by the caller's key (the request's), and for a
        formation by the chain of the grant that it shows. Empty for anybody else."""
        grant = _grant_of(node, signed_grant)
        contact = self._node.contacts.directory.of(node=node, formation=grant.formation if grant is not None else b"")
        if contact is None or not contact.allow.may(FEDERATE):
            return b""
        if contact.is_node:
            return contact.id
        foreign, now_ms = self._node.abroad.of(contact.id), self._node.ports.clock.now_ms()
        outcome = foreign.ingest(signed_grant, now_ms=now_ms)
        if isinstance(outcome, Refusal) and outcome.reason.value != "superseded":
            log.info("the grant of %s is not believed: %s", short(node), outcome.detail)
        return contact.id if foreign.belongs(node, now_ms=now_ms) else b""

    def _seeds(self) -> list[str]:
        of_contacts = [url for contact in self._node.contacts.directory.contacts.values() for url in contact.urls()]
        return list(dict.fromkeys([*self._node.settings.seeds, *of_contacts]))

    def _note(self, report: SyncReport) -> None:
        """What came of one round: the owner sees which of the places that he named give nothing, and why."""
        self._node.federation.refused.update(report.refused)
        down = [f"{peer.place}: {peer.last_error}" for peer in self.manager.all_peers() if peer.is_seed and peer.failures]
        if down:
            more = f" (and {len(down) - SHOWN_MAX} more)" if len(down) > SHOWN_MAX else ""
            self._node.warnings[WARNING] = f"no records from {'; '.join(down[:SHOWN_MAX])}{more}; it is tried again"
        else:
            self._node.warnings.pop(WARNING, None)

    async def _run(self) -> None:
        try:
            await self.manager.start_background_sync(INTERVAL_S)
        except Exception:  # whatever is wrong with HTTP, the node serves on without it
            log.exception("the federation over HTTP ended")
            self._node.warnings["federation"] = "records are no longer pulled over HTTP: the log says why"


class _Known:
    """The node's contacts, as the registry asks of them (`registry.KnownContacts`)."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def holds(self, formation: bytes) -> bool:
        return bool(self._node.contacts.are_of(formation))

    def only_of(self, formation: bytes, author: bytes) -> bytes | None:
        contacts = self._node.contacts.are_of(formation)
        if any(not contact.is_node or contact.id == author for contact in contacts):
            return None
        return contacts[0].id if contacts else None

    def met(self, node: bytes, grant: bytes) -> None:
        self._node.contacts.met(node, grant)


def _grant_of(node: bytes, signed: bytes) -> Grant | None:
    """The grant for that node in what a caller shows; whether its chain leads to a contact's root key is not judged here."""
    if not signed:
        return None
    try:
        grant = read_grant(parse(signed))
    except ProtocolError:
        return None
    return grant if grant.subject == node else None
