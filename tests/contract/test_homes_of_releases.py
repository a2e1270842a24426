"""Homes that earlier releases left behind, opened with the code of today. See tests/fixtures/homes/README.md."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.processes import ProcessExecutor
from skerry.agents.profile import Status
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemRandom
from skerry.client.wallet import Wallet
from skerry.identity.codec import pack, unpack
from skerry.identity.grants import Role, State, read_grant
from skerry.identity.statement import parse
from skerry.identity.ticket import parse_ticket
from skerry.node import membership, views
from skerry.node.home import FileBlobs, FileKeyring, Home, node_key
from skerry.node.node import Node
from skerry.node.settings import Settings
from skerry.node.verbs import JoinRequest
from skerry.ports import Ports
from skerry.records.record import KINDS
from skerry.records.store import SqliteStore
from skerry.routing.task import Request
from skerry.sim.clock import SimClock
from tests.support import async_poll_until
from tests.support.formation import key

FOLDER = Path(__file__).parents[1] / "fixtures" / "homes"
RELEASES = sorted(path.name.removesuffix(".tar.gz") for path in FOLDER.glob("*.tar.gz"))


@asynccontextmanager
async def opened(release: str, folder: Path) -> AsyncIterator[tuple[Node, dict[str, Any]]]:
    """A node of today on that home, on the day on which it was made: its grants hold."""
    with tarfile.open(FOLDER / f"{release}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    about: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
    home = Home(folder)
    home.make()
    keyring = FileKeyring(home.path)
    own = node_key(keyring)
    store = SqliteStore(home.database)
    ports = Ports(
        clock=SimClock(asyncio.get_running_loop(), start_ms=about["made_at_ms"] + 60_000),
        random=SystemRandom(),
        network=RealNetwork(own),
        store=store,
        keyring=keyring,
        blobs=FileBlobs(home.blobs),
        executor=ProcessExecutor(),
    )
    try:
        formation = membership.formation_of(ports)
        assert formation is not None
        settings = Settings(name="alpha", listen=("tcp://127.0.0.1:0",), logs=home.logs, work=home.work)
        node = Node(ports, settings, key=own, formation=formation, seeds=membership.seeds_of(ports))
        await node.start()
        try:
            yield node, about
        finally:
            await node.close()
    finally:
        store.close()


def test_there_is_one() -> None:
    assert "0.1.0" in RELEASES


@pytest.mark.parametrize("release", RELEASES)
async def test_formation_and_records_are_found(release: str, tmp_path: Path) -> None:
    async with opened(release, tmp_path) as (node, about):
        assert node.key.public.hex() == about["alpha"]
        assert node.formation.hex() == about["formation"]
        assert (node.trust.own().state, node.trust.own().role) == (State.VALID, Role.OPERATOR)
        assert node.trust.holds_root
        beta = node.trust.standing(bytes.fromhex(about["beta"]))
        assert (beta.state, beta.role) == (State.VALID, Role.MEMBER)
        assert [info.name for info in views.nodes(node)] == ["alpha", "beta"]
        rows = [row for kind in KINDS for row in node.ports.store.of_kind(kind)]
        assert {row.kind for row in rows} >= {"grant", "node", "agent"}
        assert all(parse(row.signed).hash == row.hash for row in rows)
        assert views.node_names(node)[node.key.public] == "alpha"


@pytest.mark.parametrize("release", RELEASES)
async def test_agents_come_back_with_what_they_remember(release: str, tmp_path: Path) -> None:
    async with opened(release, tmp_path) as (node, _):
        (greeter,) = node.host.all()
        await async_poll_until(lambda: greeter.status is Status.AVAILABLE, 30.0, what="its agent is up")
        result = await node.dispatcher.call(Request("custom:greet", pack("Cy")), timeout_s=20.0)
        result.raise_error()
        assert result.payload is not None
        assert unpack(bytes(result.payload)) == ["Hello, Cy!", 3]


@pytest.mark.parametrize("release", RELEASES)
async def test_tickets_and_clients_of_then_work(release: str, tmp_path: Path) -> None:
    async with opened(release, tmp_path) as (node, about):
        ticket = parse_ticket(about["member_ticket"])
        assert ticket.formation == node.formation
        reply = node.invitations.join(JoinRequest(ticket.secret, "newcomer"), joiner=key(0x7200).public)
        assert read_grant(parse(reply.grant)).role is Role.MEMBER
        kept = Wallet(tmp_path, parse_ticket(about["client_ticket"])).open()
        standing = node.trust.standing(kept.key.public)
        assert (standing.state, standing.role) == (State.VALID, Role.CLIENT)
        assert read_grant(parse(kept.grant)).subject == kept.key.public
