"""Federation over HTTP, on real sockets: the plan that it comes from, test by test, and each thing that plan got wrong, by its name."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.channel.https import RealHttp
from skerry.channel.reachable import read_networks
from skerry.errors import UsageError
from skerry.identity.grants import Role, issue
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import state
from skerry.ports import HttpAnswer, HttpGet
from skerry.records.card import AgentCard, sealed_form
from skerry.records.pages import LIMIT, read_cursor, to_json, update_of
from skerry.records.peers import CANDIDATES_EACH_MAX
from skerry.records.pulling import FederationManager
from skerry.records.registry import AgentRegistry
from tests.support import async_poll_until
from tests.support.federation import card_at, new_key, public_node

HOUR_MS = 3600 * 1000
LOOPBACK = read_networks("127.0.0.0/8")
Answer = Callable[[str], tuple[int, dict[str, str], bytes]]  # a target -> status, headers, body


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that answers as it is told; its place."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers, body = answer(head.split(b" ")[1].decode())
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def giving(records: list[bytes], *, peers: tuple[str, ...] = (), cursor: str = "abc.1", more: bool = False) -> Answer:
    """One page, whatever is asked."""
    body = to_json(update_of(records, peers=peers, cursor=cursor, more=more, now_ms=1))
    return lambda _: (200, {"content-type": "application/json"}, body)


class Formation:
    """Another formation, whose owner says what he likes."""

    def __init__(self) -> None:
        self.registry = AgentRegistry()
        self.root, self.node = new_key(), new_key()
        self.now_ms = self.registry.holdings.clock.now_ms()

    def grant(self, subject: KeyPair | None = None) -> bytes:
        subject = subject or self.node
        stamp = stamp_at(self.now_ms)
        return issue(self.root, formation=self.root.public, subject=subject.public, role=Role.OPERATOR, stamp=stamp).signed

    def says(self, card: AgentCard, *, at_ms: int = 0, by: KeyPair | None = None, audience: str = "public", gone: bool = False) -> bytes:
        return state(
            by or self.node,
            kind="agent",
            name=card.id,
            formation=self.root.public,
            audience=audience,
            stamp=stamp_at(self.now_ms + at_ms),
            expires=self.now_ms + at_ms + 24 * HOUR_MS,
            body={} if gone else {"card": sealed_form(card), "status": "available"},
        ).signed


# --- the plan ---------------------------------------------------------------------------------------------------------------------


async def test_federation_pull_local_registry() -> None:
    registry = AgentRegistry()
    card = card_at(registry.node, "test-agent-1")
    await registry.register_agent(card)
    federation = FederationManager(registry=registry)
    updates = await federation.get_local_updates(since_timestamp=0)
    assert len(updates["agents"]) == 1
    assert updates["agents"][0].id == card.id
    assert (await federation.get_local_updates(since_timestamp=card.updated_at / 1000)).agents == []
    assert (await federation.get_local_updates(since=updates.cursor)).agents == []


async def test_sync_from_seeds(tmp_path: Path) -> None:
    """On both forms of the listener, with the id pinned, and without one."""
    for tls in (True, False):
        async with public_node(tmp_path / str(tls), tls=tls) as there:
            card = card_at(there.id)
            await there.registry.register_agent(card)
            there.federating.manager.announced = ["https://other.example"]
            for place in (there.place, there.url, f"{there.id}@{there.url.rpartition('/')[2]}"):
                registry = AgentRegistry()
                federation = FederationManager(registry, seeds=[place])
                report = await federation.sync_from_seeds()
                assert (report.failed, report.taken) == ({}, 2), place
                assert await registry.list_agents() == [card]
                assert "https://other.example" in federation.peers


async def test_a_listener_here_that_hangs_up_at_tls_is_asked_without() -> None:
    """A plain one may answer a TLS greeting with an error, or with nothing at all."""
    page = giving([])("")[2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(1)) == b"G":
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(page)}\r\n\r\n"
            writer.write(head.encode() + page)
            writer.close()
        else:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        place = f"{new_key().public.hex()}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        report = await FederationManager(AgentRegistry(), seeds=[place]).sync_from_seeds()
    assert (report.pulled, report.failed) == ([place], {})


async def test_background_loop(tmp_path: Path) -> None:
    async with public_node(tmp_path) as there:
        federation = FederationManager(AgentRegistry(), seeds=[there.place])
        task = asyncio.create_task(federation.start_background_sync(interval=0.02))
        [seed] = federation.all_peers()
        await async_poll_until(lambda: seed.pulled_ms, what="a first pull")
        first = seed.pulled_ms
        await async_poll_until(lambda: seed.pulled_ms > first, what="a second one")
        card = card_at(there.id)
        await there.registry.register_agent(card)
        await async_poll_until(federation.registry.list_agents, what="what is new comes by itself")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_seed_that_is_down_is_a_warning_and_not_a_stop(tmp_path: Path) -> None:
    async with public_node(tmp_path) as there:
        await there.registry.register_agent(card_at(there.id))
        down = f"{new_key().public.hex()}@127.0.0.1:1"
        federation = FederationManager(AgentRegistry(), seeds=[down, there.place])
        report = await federation.sync_from_seeds()
        assert list(report.failed) == [down]
        assert "can't be reached" in report.failed[down]
        assert len(await federation.registry.list_agents()) == 1
        one = next(peer for peer in federation.all_peers() if peer.failures)
        assert one.due_ms > one.tried_ms, "it is tried again, later"


# --- what the plan got wrong ------------------------------------------------------------------------------------------------------


async def test_fix_forged_clock() -> None:
    """A stamp of the future is refused, and the stamp is inside what is signed: nobody on the way can make a record newer."""
    there, card = Formation(), None
    card = card_at(there.node.public.hex())
    future = there.says(replace(card), at_ms=HOUR_MS)
    honest = there.says(card)
    forged = bytearray(honest)
    forged[honest.index(b"stamp") + 10] ^= 1
    registry = AgentRegistry()
    async with serving(giving([there.grant(), future, bytes(forged)])) as place:
        report = await FederationManager(registry, seeds=[place]).sync_from_seeds()
    assert dict(report.refused) == {"too_far_ahead": 1, "bad_signature": 1}
    assert await registry.list_agents() == []


async def test_what_was_refused_and_may_come_right_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.records.pulling.AGAIN_MS", 0)
    there = Formation()
    card, asked = card_at(there.node.public.hex()), list[str]()
    early, whole = (to_json(update_of(r, peers=(), cursor="a.1", more=False, now_ms=1)) for r in ([there.says(card)], [there.grant()]))

    def answer(target: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(read_cursor(target.partition("since=")[2].partition("&")[0]))
        return 200, {"content-type": "application/json"}, early if len(asked) == 1 else whole

    async with serving(answer) as place:
        federation = FederationManager(AgentRegistry(), seeds=[place])
        assert dict((await federation.sync_from_seeds()).refused) == {"not_granted": 1}
        await federation.sync_from_seeds()
        await federation.sync_from_seeds()
    assert asked == ["", "", "a.1"], "from the start, once"


async def test_fix_restamping(tmp_path: Path) -> None:
    """What is received is passed on and held exactly as its author signed it, stamp and all."""
    async with public_node(tmp_path) as there:
        await there.registry.register_agent(card_at(there.id))
        said = [row.signed for row in there.node.ports.store.of_kind("agent")]
        registry = AgentRegistry()
        await FederationManager(registry, seeds=[there.place]).sync_from_seeds()
        assert [statement.signed for statement in registry.holdings.living()] == said


async def test_fix_missing_cursor(tmp_path: Path) -> None:
    """The client sends the cursor that it was given, and a second pull brings what is new and nothing else."""
    asked: list[str] = []
    there = Formation()
    answer = giving([there.grant()], cursor="abc.41")

    def noting(target: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(target.partition("since=")[2].partition("&")[0])
        return answer(target)

    async with serving(noting) as place:
        federation = FederationManager(AgentRegistry(), seeds=[place])
        await federation.sync_from_seeds()
        await federation.sync_from_seeds()
    assert [read_cursor(one) for one in asked] == ["", "abc.41"]
    async with public_node(tmp_path) as real:
        await real.registry.register_agent(card_at(real.id, "one"))
        federation = FederationManager(AgentRegistry(), seeds=[real.place])
        assert (await federation.sync_from_seeds()).taken == 2
        await real.registry.register_agent(card_at(real.id, "two"))
        assert (await federation.sync_from_seeds()).taken == 1
        assert len(await federation.registry.list_agents()) == 2


async def test_fix_truncation(tmp_path: Path) -> None:
    """More than a page, and more than a hundred: all of them arrive."""
    async with public_node(tmp_path) as there:
        count = LIMIT + 50
        for number in range(count):
            there.registry.holdings.say(*sealed(there.id, f"agent{number:03}"), audience="public")
        registry = AgentRegistry()
        report = await FederationManager(registry, seeds=[there.place]).sync_from_seeds()
        assert report.failed == {}
        assert len(await registry.list_agents()) == count


async def test_fix_key_takeover() -> None:
    """An update comes from the agent's key, through the node that its card names, or not at all."""
    there, thief = Formation(), new_key()
    card = card_at(there.node.public.hex(), updated_at=1000)
    stolen = replace(card, public_key=thief.public, name="stolen", updated_at=2000)
    unsigned = state(
        there.node,
        kind="agent",
        name=card.id,
        formation=there.root.public,
        audience="public",
        stamp=stamp_at(there.now_ms + 2),
        expires=there.now_ms + HOUR_MS,
        body={"card": b"", "status": "available"},
    )
    with pytest.raises(Exception, match="key"):
        sealed_form(stolen)
    registry = AgentRegistry()
    records = [there.grant(), there.grant(thief), there.says(card), there.says(card, at_ms=1, by=thief)]
    async with serving(giving(records)) as place:
        await FederationManager(registry, seeds=[place]).sync_from_seeds()
    assert await registry.list_agents() == [card]
    living = list(registry.holdings.living())
    assert len(living) == 2, "the copy is held, and is no card"
    async with serving(giving([unsigned.signed])) as place:
        await FederationManager(registry, seeds=[place]).sync_from_seeds()
    assert await registry.list_agents() == []


async def test_fix_resurrection_after_deletion(tmp_path: Path) -> None:
    """Deletion travels, and what was deleted does not come back by whoever still has it."""
    async with public_node(tmp_path) as there:
        card = card_at(there.id)
        await there.registry.register_agent(card)
        old = (await there.federating.manager.get_local_updates()).records
        registry = AgentRegistry()
        federation = FederationManager(registry, seeds=[there.place])
        await federation.sync_from_seeds()
        assert await registry.list_agents() == [card]
        await there.registry.remove_agent(card.id)
        await federation.sync_from_seeds()
        assert await registry.list_agents() == []
        async with serving(giving(old)) as stale:
            federation.set_seeds([there.place, stale])
            report = await federation.sync_from_seeds()
        assert (report.taken, report.failed) == (0, {})
        assert await registry.list_agents() == []


async def test_fix_poisoned_peer_lists() -> None:
    """Bounded, validated, and dialled only where a stranger may send us: this machine is not such a place."""
    reached: list[str] = []

    def inside(target: str) -> tuple[int, dict[str, str], bytes]:
        reached.append(target)
        return 200, {}, b""

    async with serving(inside) as secret:
        port = secret.rpartition(":")[2]
        poison = [f"https://127.0.0.1:{port}", f"https://localhost:{port}", f"https://[::ffff:127.0.0.1]:{port}", secret, "x" * 9999, "..."]
        poison += [f"https://poison{number}.example" for number in range(500)]
        async with serving(giving([Formation().grant()], peers=tuple(poison))) as place:
            federation = FederationManager(AgentRegistry(), seeds=[place])
            await federation.sync_from_seeds()
            assert len(federation.peers) == 1 + CANDIDATES_EACH_MAX
            federation._peers.keep_seeds(set())
            for peer in federation.all_peers():
                if peer.place.host.endswith(".example"):
                    del federation._peers._known[str(peer.place)]  # no test looks a foreign name up
            report = await federation.sync_from_seeds()
    assert len(report.failed) == 3
    assert all("not dialled for a stranger: it is loopback" in why for why in report.failed.values()), report.failed
    assert reached == []
    assert federation.told_on() == [], "nobody is told of what was never checked"


async def test_what_settings_allow_is_dialled(tmp_path: Path) -> None:
    async with public_node(tmp_path) as there:
        card = card_at(there.id)
        await there.registry.register_agent(card)
        peer = f"{there.id}@{there.url.removeprefix('https://')}"
        async with serving(giving([Formation().grant()], peers=(peer,))) as place:
            federation = FederationManager(AgentRegistry(), seeds=[place], also_dial=LOOPBACK)
            await federation.sync_from_seeds()
            await federation.sync_from_seeds()
        assert await federation.registry.list_agents() == [card]
        assert federation.told_on() == [peer]


async def test_fix_leaked_private_fields(tmp_path: Path) -> None:
    """What a formation keeps to itself never leaves: not its agents, nodes, addresses, nor the grants of others."""
    async with public_node(tmp_path) as there:
        shown, hidden = card_at(there.id, "shown"), card_at(there.id, "hidden")
        await there.registry.register_agent(shown)
        await there.registry.register_agent(hidden, audience="formation")
        page = await there.federating.manager.get_local_updates()
        text = to_json(page) + b"".join(page.records)
        assert [card.name for card in page.agents] == ["shown"]
        assert len(page.records) == 2
        for private in (b"hidden", hidden.id.encode(), b"addresses", b"inventory", there.node.listening[0].encode()):
            assert private not in text, private
        await there.registry.register_agent(replace(shown), audience="formation")
        assert (await there.federating.manager.get_local_updates()).records == []


# --- bad input --------------------------------------------------------------------------------------------------------------------

NEVER = b'{"agents": [], "peers": [], "records": [], "cursor": "YS4x", "timestamp": 1' + b"0" * 400 + b"}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"content-type": "text/html"}, b"<html>"), "content-type"),
        ((200, {"content-type": "application/json"}, b"{"), "no JSON"),
        ((200, {"content-type": "application/json"}, b'{"peers": []}'), "records: it is missing"),
        ((200, {"content-type": "application/json"}, b"x" * 3_000_000), "2097152"),
        ((200, {"content-type": "application/json"}, NEVER), "timestamp"),
        ((302, {"location": "http://127.0.0.1:1/"}, b""), "302"),
        ((400, {}, json.dumps({"error": {"message": "since: no cursor\x1b[2J"}}).encode()), "since: no cursor"),
        ((500, {}, b""), "no reason given"),
    ],
)
async def test_an_answer_that_is_no_page_is_a_failure_with_its_reason(answer: Any, said: str) -> None:
    async with serving(lambda _: answer) as place:
        report = await FederationManager(AgentRegistry(), seeds=[place]).sync_from_seeds()
    [why] = report.failed.values()
    assert said in why
    assert "\x1b" not in why


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example", "[1:2]"])
async def test_a_peer_whose_name_no_resolver_takes_costs_its_own_turn(host: str) -> None:
    async with serving(giving([], peers=(f"https://{host}:8443",))) as place:
        federation = FederationManager(AgentRegistry(), seeds=[place])
        for _ in range(2):
            assert (await federation.sync_from_seeds()).pulled == [place]
        assert federation.peers == {place}


class Broken(RealHttp):
    """It has a bug that one host sets off."""

    async def get(self, request: HttpGet, *, timeout_s: float, size_bytes_max: int) -> HttpAnswer:
        if request.host == "localhost":
            raise ZeroDivisionError
        return await super().get(request, timeout_s=timeout_s, size_bytes_max=size_bytes_max)


async def test_a_bug_that_one_peer_sets_off_costs_that_peer_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(giving([])) as place:
        federation = FederationManager(AgentRegistry(), seeds=["http://localhost:1", place], http=Broken())
        report = await federation.sync_from_seeds()
    assert report.pulled == [place]
    assert report.failed == {"http://localhost:1": "its answer could not be worked on: ZeroDivisionError"}
    assert "Traceback" in caplog.text


async def test_a_peer_that_never_comes_to_an_end_is_left_in_time() -> None:
    asked = []
    answer = giving([], more=True)

    def endless(target: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(target)
        return answer(target)

    async with serving(endless) as place:
        assert (await FederationManager(AgentRegistry(), seeds=[place]).sync_from_seeds()).failed == {}
    assert len(asked) == 2


def test_a_seed_that_is_no_place_is_named() -> None:
    for text in ("nonsense", "http://seed.example", "https://"):
        with pytest.raises(UsageError, match=text):
            FederationManager(AgentRegistry(), seeds=[text])


@pytest.mark.parametrize("seeds", ["https://seed.example", [7], [b"https://seed.example"], 7], ids=str)
def test_seeds_that_are_no_list_of_texts_are_refused(seeds: Any) -> None:
    with pytest.raises(UsageError, match="seeds"):
        FederationManager(AgentRegistry(), seeds=seeds)


@pytest.mark.parametrize("since", [None, 0, 0.0, "", "0"])
async def test_nothing_and_zero_are_the_start(since: Any) -> None:
    registry = AgentRegistry()
    await registry.register_agent(card_at(registry.node))
    assert len((await FederationManager(registry, None).get_local_updates(since)).agents) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", 1.5),
        ("since", b"0"),
        ("since", ["0"]),
        ("since", "1700000000"),
        ("since_timestamp", "yesterday"),
        ("since_timestamp", math.nan),
        ("since_timestamp", math.inf),
        ("since_timestamp", True),
        pytest.param("since_timestamp", 10**400, id="a number of 400 digits"),
        ("limit", 0),
        ("limit", 1.5),
        ("limit", "7"),
        ("limit", None),
    ],
)
async def test_what_can_not_be_asked_for_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: "):
        await FederationManager(AgentRegistry()).get_local_updates(**{name: value})


@pytest.mark.parametrize("interval", [0, -1, math.nan, "soon", None, True])
async def test_an_interval_is_a_number_of_seconds(interval: Any) -> None:
    federation = FederationManager(AgentRegistry())
    with pytest.raises(UsageError, match=r"^interval: "):
        await federation.sync_from_seeds(interval=interval)
    with pytest.raises(UsageError, match=r"^interval: "):
        await asyncio.wait_for(federation.start_background_sync(interval), 5.0)


def sealed(node: str, name: str) -> tuple[bytes, AgentCard]:
    card = card_at(node, name)
    return sealed_form(card), card
