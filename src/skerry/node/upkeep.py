"""What a node does by itself from time to time: renew, purge, refresh what time changes, commit.

The rule: one loop, one list of chores; a chore that fails is tried again and stops no other.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.channel.link import Link
from skerry.channel.messages import unpack_message
from skerry.errors import SkerryError
from skerry.identity.grants import TOLERANCE_MS, WARNING_MS, Role, State
from skerry.identity.keys import short
from skerry.node import scores
from skerry.node.verbs import RenewReply
from skerry.ports import jitter
from skerry.records.replica import PURGE_MAX

if TYPE_CHECKING:
    from skerry.node.node import Node

EVERY_S = 30.0
OTHERS_EVERY = 20  # rounds, ten minutes: what is held of others is forgotten then
PURGE_TURNS_MAX = 100  # of the loop in one round: 50,000 records
RENEW_TIMEOUT_S = 5.0
log = logging.getLogger(__name__)


class Upkeep:
    """The chores of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._tick()
        self.warn()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note_clock(self, link: Link) -> None:
        """A peer's clock is far from ours: say so, because grants and records suffer from it."""
        assert link.peer is not None
        ahead_ms = link.peer.clock_ahead_ms
        key = f"clock-{short(link.id)}"
        if abs(ahead_ms) > TOLERANCE_MS:
            self._node.warnings[key] = f"the clock of {short(link.id)} is {ahead_ms / 1000:+.0f} s from this node's: set both"
        else:
            self._node.warnings.pop(key, None)

    async def _run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(jitter(self._node.ports.random, EVERY_S * 0.8, EVERY_S * 1.2))
            rounds += 1
            chores: list[Callable[[], object]] = [
                self._tick,
                self._node.advertiser.renew,
                self._keep_scores,
                self._node.sharing.renew,
                self._node.household.refresh,  # rights change with time alone: grants lapse
                self._node.presence.refresh,
                self._node.keeper.look,
                self._node.keeper.close_idle,
                self._node.tasks.forget,
                self.warn,
            ]
            for chore in chores:
                self._do(chore)
            await self._purge(self._node.replica.purge)
            if rounds % OTHERS_EVERY == 0:
                await self._purge(self._node.abroad.purge)
                self._do(lambda: self._node.confidence.purge(now_ms=self._node.ports.clock.now_ms()))
            await self.renew_grant()
            await self._node.contacts.compare_with_one()

    def _do(self, chore: Callable[[], object]) -> object:
        try:
            return chore()
        except SkerryError as error:
            self._node.metrics.trouble(error)
            log.warning("a chore failed and is tried again: %s", error)
            return None

    async def _purge(self, purge: Callable[..., int]) -> None:
        """Forget what is over, a slice at a time: others have their turn between two."""
        for _ in range(PURGE_TURNS_MAX):
            if self._do(lambda: purge(now_ms=self._node.ports.clock.now_ms())) != PURGE_MAX:
                break
            await asyncio.sleep(0)

    async def renew_grant(self) -> None:
        """Half of our grant's life is over: sign it ourselves where we can, else ask the operators that are connected."""
        trust = self._node.trust
        try:
            if not trust.renewal_due() or trust.renew_own():
                return
        except SkerryError as error:
            log.warning("our own grant can't be renewed: %s", error)
            return
        for link in self._node.links.nodes():
            if trust.standing(link.id).role is not Role.OPERATOR:
                continue
            try:
                reply = unpack_message(RenewReply, await link.call("grant.renew", b"\xa0", timeout_s=RENEW_TIMEOUT_S))
            except SkerryError as error:
                log.info("%s did not renew our grant: %s", short(link.id), error)
                continue
            self._node.replica.ingest(reply.grant, now_ms=self._node.ports.clock.now_ms(), sender=link.id)
            if not trust.renewal_due():
                return

    def _keep_scores(self) -> None:
        scores.keep(self._node.dispatcher.reputation, self._node.ports.store)
        self._node.ports.store.commit()

    def _tick(self) -> None:
        self._node.federation.tick(alone=not self._node.wanted())

    def warn(self) -> None:
        """Say what people should know of our own grant: when it changes, and as time goes."""
        own = self._node.trust.own()
        left_ms = own.expires_ms - self._node.ports.clock.now_ms()
        warnings = self._node.warnings
        warnings.pop("grant", None)
        whom = "the node that holds the root key" if own.role is Role.OPERATOR else "an operator's node"
        renewed = f"start {whom} so that it is renewed"
        if own.state is State.LAPSED:
            warnings["grant"] = f"this node's grant has lapsed: it still serves calls; {renewed}"
        elif own.state is State.CLOCK_OFF:
            warnings["grant"] = f"this machine's clock is off (it says {_date(self._node.ports.clock.now_ms())}): set it; {own.reason}"
        elif own.state is State.REVOKED:
            warnings["grant"] = f"{_revoked(own.reason)}, which is final for its key: come back with a new home and a new ticket"
        elif own.state is not State.VALID:
            warnings["grant"] = f"this node belongs no more ({own.reason}): come back with a new ticket, `skerry join TICKET`"
        elif left_ms < WARNING_MS and self._node.trust.renewal_due():
            warnings["grant"] = f"this node's grant lapses in {left_ms / 86_400_000:.1f} days: {renewed}"


def _revoked(reason: str) -> str:
    return "this node was revoked" + (f" ({reason})" if reason not in ("", State.REVOKED.value) else "")


def _date(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, tz=datetime.UTC).strftime("%Y-%m-%d")
