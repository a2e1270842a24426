"""`GET /federation/pull`, asked by plain clients and by signed ones."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.channel.signed_request import signed_headers
from skerry.gateway import federation
from skerry.identity.codec import unpack
from skerry.identity.contacts import make_contact
from skerry.identity.grants import DAY_MS, Role, issue, read_grant, revoke
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import next_stamp, stamp_at, stamp_ms
from skerry.identity.statement import parse, state
from skerry.records.card import card_from_json
from skerry.records.pulling import PATH, FederationManager
from skerry.records.record import Refusal
from tests.support.federation import PublicNode, card_at, new_key, public_node


def client() -> httpx.AsyncClient:
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    return httpx.AsyncClient(trust_env=False, verify=unchecked)


async def get(node: PublicNode, target: str = PATH, headers: dict[str, str] | None = None) -> httpx.Response:
    async with client() as asking:
        return await asking.get(node.url + target, headers=headers)


def signed(node: PublicNode, key: KeyPair, *, target: str = PATH, ahead_s: int = 0, nonce: bytes = b"n" * 16, grant: bytes = b"") -> Any:
    now_s = node.node.ports.clock.now_ms() // 1000 + ahead_s
    return signed_headers(key, method="GET", target=target, server=node.node.key.public, now_s=now_s, nonce=nonce, grant=grant)


@pytest.mark.parametrize("tls", [True, False])
async def test_a_plain_client_gets_public_records(tmp_path: Path, tls: bool) -> None:
    async with public_node(tmp_path, tls=tls) as node:
        card = card_at(node.id)
        await node.registry.register_agent(card)
        await node.registry.register_agent(card_at(node.id, "ours"), audience="formation")
        await node.registry.register_agent(card_at(node.id, "theirs"), audience="contacts")
        answer = await get(node)
        assert answer.status_code == 200
        page = answer.json()
        assert set(page) == {"agents", "peers", "records", "cursor", "timestamp", "more"}
        assert [card_from_json(agent) for agent in page["agents"]] == [card]
        assert len(page["records"]) == 2
        assert abs(page["timestamp"] - node.node.ports.clock.now_ms() / 1000) < 60


async def test_pages_are_followed_by_their_cursor_to_the_end(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        for number in range(7):
            await node.registry.register_agent(card_at(node.id, f"agent{number}"))
        seen, cursor, more = [], "", True
        while more:
            page = (await get(node, f"{PATH}?since={cursor}&limit=3")).json()
            seen += [agent["name"] for agent in page["agents"]]
            cursor, more = page["cursor"], page["more"]
            assert httpx.URL(f"https://x/?since={cursor}").params["since"] == cursor, "URL-safe as it stands"
        assert seen == [f"agent{number}" for number in range(7)]
        assert (await get(node, f"{PATH}?since={cursor}")).json()["records"] == []


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/cbor", "application/cbor"),
        ("application/cbor, application/json;q=0.5", "application/cbor"),
        ("application/json, application/cbor;q=0.1", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
async def test_the_form_is_the_one_asked_for(tmp_path: Path, accept: str, form: str) -> None:
    async with public_node(tmp_path) as node:
        await node.registry.register_agent(card_at(node.id))
        answer = await get(node, headers={"accept": accept})
        assert answer.headers["content-type"] == form
        page = unpack(answer.content) if form.endswith("cbor") else answer.json()
        assert len(page["records"]) == 2


async def test_what_is_known_is_not_sent_again(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        first = await get(node)
        tag = first.headers["etag"]
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await get(node, headers={"if-none-match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        await node.registry.register_agent(card_at(node.id))
        assert (await get(node, headers={"if-none-match": tag})).status_code == 200


@pytest.mark.parametrize(
    ("target", "accept", "status", "named"),
    [
        (f"{PATH}?since=%25%25", "", 400, "since"),
        (f"{PATH}?since={'A' * 300}", "", 400, "since"),
        (f"{PATH}?limit=0", "", 400, "limit"),
        (f"{PATH}?limit=many", "", 400, "limit"),
        (f"{PATH}?limit=1&limit=2", "", 400, "limit"),
        (f"{PATH}?until=7", "", 400, "until"),
        (PATH, "text/html", 400, "accept"),
        (PATH, "application/json;q=x", 400, "accept"),
        ("/v1/models", "", 404, "/v1/models"),
        ("/metrics", "", 404, "/metrics"),
        ("/healthz", "", 404, "/healthz"),
        ("/", "", 404, "GET /"),
    ],
)
async def test_a_refusal_names_the_field(tmp_path: Path, target: str, accept: str, status: int, named: str) -> None:
    async with public_node(tmp_path) as node:
        answer = await get(node, target, headers={"accept": accept})
        assert answer.status_code == status
        assert named in answer.json()["error"]["message"]


async def test_only_get_is_served(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node, client() as asking:
        assert (await asking.post(node.url + PATH, content=b"x")).status_code == 405


async def test_a_contact_that_signs_gets_what_is_shared_with_it_and_nobody_else_does(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        root, key, other, forger = new_key(), new_key(), new_key(), new_key()
        stamp = stamp_at(node.node.ports.clock.now_ms())

        async def seen(by: KeyPair, grant: bytes, nonce: bytes) -> list[str]:
            page = (await get(node, headers=signed(node, by, nonce=nonce, grant=grant))).json()
            return [agent["name"] for agent in page["agents"]]

        theirs = card_at(node.id, "theirs")
        await node.registry.register_agent(theirs, audience="contacts")
        await node.registry.register_agent(card_at(node.id, "others"), audience="contacts")
        grant = issue(root, formation=root.public, subject=key.public, role=Role.OPERATOR, stamp=stamp).signed
        operator = read_grant(parse(grant))
        assert await seen(key, grant, b"0") == [], "it is no contact yet"
        contacts = node.node.contacts
        contacts.put(make_contact("them", addresses=[], formation=root.public.hex(), allow=["call:*"]))
        node.give(theirs, root.public)
        assert await seen(key, grant, b"1") == [], "it may call, and not federate"
        contacts.put(make_contact("them", addresses=[], formation=root.public.hex(), allow=["federate"]))
        assert (await get(node)).json()["agents"] == []
        assert await seen(key, grant, b"2") == ["theirs"]
        member = issue(key, formation=root.public, subject=other.public, role=Role.MEMBER, stamp=stamp, chain=operator).signed
        client = issue(key, formation=root.public, subject=forger.public, role=Role.CLIENT, stamp=stamp, chain=operator).signed
        assert await seen(other, member, b"3") == ["theirs"], "a member of theirs"
        assert await seen(forger, client, b"4") == [], "a client of theirs is no node"
        assert await seen(key, b"", b"5") == [], "no grant"
        assert await seen(new_key(), grant, b"6") == [], "somebody else's grant"
        outsider = new_key()
        own = issue(forger, formation=forger.public, subject=outsider.public, role=Role.OPERATOR, stamp=stamp).signed
        assert await seen(outsider, own, b"7") == [], "another formation's"
        forged = state(
            forger,
            kind="grant",
            name=outsider.public.hex(),
            formation=root.public,
            audience="formation",
            stamp=stamp,
            expires=stamp_ms(stamp) + DAY_MS,
            body={"subject": outsider.public, "role": "member", "chain": [own]},
        ).signed
        assert await seen(outsider, forged, b"8") == [], "a chain that does not lead to their root key"
        out = revoke(root, formation=root.public, subject=key.public, stamp=next_stamp(stamp, now_ms=0), reason="gone").signed
        assert not isinstance(node.node.abroad.of(root.public).ingest(out, now_ms=node.node.ports.clock.now_ms()), Refusal)
        assert await seen(key, grant, b"9") == [], "revoked there"
        contacts.remove(contacts.named("them"))
        assert await seen(other, member, b"a") == [], "a contact no more"


async def test_a_contact_that_is_one_node_is_known_by_its_key(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        key, theirs = new_key(), card_at(node.id, "theirs")
        await node.registry.register_agent(theirs, audience="contacts")
        node.node.contacts.put(make_contact("it", addresses=[], node=key.public.hex(), allow=["federate"]))
        node.give(theirs, key.public)
        assert [a["name"] for a in (await get(node, headers=signed(node, key))).json()["agents"]] == ["theirs"]
        assert (await get(node, headers=signed(node, new_key(), nonce=b"2"))).json()["agents"] == []


async def test_a_signature_that_does_not_hold_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        key = new_key()
        good = signed(node, key)
        assert (await get(node, headers=good)).status_code == 200
        cases = [
            (good, "replay"),
            (signed(node, key, target="/other", nonce=b"3"), "signature"),
            ({**signed(node, key, nonce=b"4"), "skerry-server": key.public.hex()}, "another server"),
            (signed(node, key, ahead_s=400, nonce=b"5"), "a clock is off"),
            (signed(node, key, ahead_s=-400, nonce=b"6"), "a clock is off"),
            ({"signature": "x"}, "signature-input"),
            ({**signed(node, key, nonce=b"7"), "skerry-grant": "AAAA"}, "skerry-grant"),
        ]
        for headers, named in cases:
            answer = await get(node, headers=headers)
            assert answer.status_code == 403
            assert named in answer.json()["error"]["message"]


async def test_who_asks_too_often_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "ASKED_AT_ONCE", 3)
    monkeypatch.setattr(federation, "ASKED_PER_S", 0.01)  # a loaded machine may take a second for each
    async with public_node(tmp_path / "a", tls=False) as node:
        answers = [await get(node) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert int(answers[-1].headers["retry-after"]) >= 1
    monkeypatch.setattr(federation, "ASKED_AT_ONCE", 100)
    monkeypatch.setattr(federation, "PULLED_AT_ONCE", 2)
    monkeypatch.setattr(federation, "PULLED_PER_S", 0.01)
    async with public_node(tmp_path / "b", tls=False) as node:
        key = new_key()
        answers = [await get(node, headers=signed(node, key, nonce=bytes([number]))) for number in range(4)]
        assert [answer.status_code for answer in answers][-1] == 429
        assert (await get(node, headers=signed(node, new_key()))).status_code == 200, "another key has a count of its own"


async def test_a_proxy_that_the_owner_named_says_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "ASKED_AT_ONCE", 1)
    monkeypatch.setattr(federation, "ASKED_PER_S", 0.01)
    for behind_proxy, status in ((True, 200), (False, 429)):
        async with public_node(tmp_path / str(behind_proxy), tls=False, behind_proxy=behind_proxy) as node:
            assert (await get(node, headers={"x-forwarded-for": "spoofed, one"})).status_code == 200
            assert (await get(node, headers={"x-forwarded-for": "spoofed, two"})).status_code == status


async def test_the_pin_is_checked_before_anything_is_said(tmp_path: Path) -> None:
    async with public_node(tmp_path) as node:
        asked = node.federating.manager.get_local_updates
        impostor = f"{new_key().public.hex()}@{node.url.removeprefix('https://')}"
        manager = FederationManager(node.registry, seeds=[impostor])
        report = await manager.sync_from_seeds()
        assert "another key" in report.failed[impostor]
        assert asked is not None
