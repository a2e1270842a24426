"""Programs without a node in a simulated world: their wallets, and their way to the mesh."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from skerry.client.mesh import Mesh
from skerry.client.remote import TicketWay
from skerry.client.wallet import Contents
from skerry.identity.grants import read_grant
from skerry.identity.keys import KeyPair
from skerry.identity.statement import parse
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.world import World
from tests.support.formation import key


@dataclass
class Pocket:
    """A wallet in memory, which outlives the programs that use it."""

    contents: Contents = field(default_factory=lambda: Contents(key(0x7001)))

    def open(self) -> Contents:
        return self.contents

    def save(self, *, grant: bytes | None = None, records: list[bytes] | None = None, refreshed_ms: int | None = None) -> None:
        self.contents = replace(
            self.contents,
            grant=self.contents.grant if grant is None else grant,
            records=self.contents.records if records is None else tuple(records),
            refreshed_ms=self.contents.refreshed_ms if refreshed_ms is None else refreshed_ms,
        )

    @property
    def key(self) -> KeyPair:
        return self.contents.key

    @property
    def expires_ms(self) -> int:
        return read_grant(parse(self.contents.grant)).expires_ms


def program(world: World, ticket: str | Ticket, pocket: Pocket, *, clock: SimClock | None = None) -> Mesh:
    host = world.network.host("laptop", public_key=pocket.key.public)
    parsed = parse_ticket(ticket) if isinstance(ticket, str) else ticket
    clock = clock or SimClock(world.loop, start_ms=next(iter(world.machines.values())).clock.now_ms())
    return Mesh(TicketWay(parsed, pocket, network=host, clock=clock, random=SimRandom(f"{world.seed}/laptop")))
