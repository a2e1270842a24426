"""Planning and finding: what a DHT is told and asked, and whom a task goes to. The first tests are the seed's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.channel.reachable import read_networks
from skerry.records.record import Rejection
from skerry.routing.announcement import PublishedCircle
from skerry.routing.circle import TTL_MS, CircleStatus, announcement_key, capability_key
from skerry.routing.mesh import DISCOVERED_MAX, OF_FORMATION_MAX, Drop, Find, LocalAgent, MeshDiscoveryRouter, RemoteCircle, Store
from tests.support.circles import announced, circle, of_formation, profile
from tests.support.formation import FORMATION, NOW_MS, STRANGER

US = bytes([0xAA]) * 32


def router(**more: Any) -> MeshDiscoveryRouter:
    return MeshDiscoveryRouter(US, speak=lambda one, now_ms: announced(one, now_ms=now_ms), **more)


def other(*capabilities: str, nonce: int = 1, **more: Any) -> PublishedCircle:
    """Another formation's circle, as it was found."""
    members = more.pop("members", (profile(0x0808, *capabilities),))
    return announced(circle(*members, nonce=nonce.to_bytes(16, "big"), **more))


def ingest(mesh: MeshDiscoveryRouter, *found: PublishedCircle, now_ms: int = NOW_MS) -> int:
    return mesh.ingest_discovery([one.to_bytes() for one in found], now_ms=now_ms)


# --- as in the seed ---------------------------------------------------------------------------------------------------------------


def test_router_registration() -> None:
    mesh = router()
    mesh.register_local_circle(circle(), now_ms=NOW_MS)
    assert [one.id for one in mesh.local_circles()] == [circle().id]
    assert mesh.local(circle().id) == circle()


def test_router_find_capable() -> None:
    mesh = router()
    mesh.register_local_circle(circle(), now_ms=NOW_MS)
    assert len(mesh.find_capable_circles("inference:llama-7b", now_ms=NOW_MS).local_circles) == 1
    assert mesh.find_capable_circles("embedding:bge", now_ms=NOW_MS).local_circles == ()


def test_mesh_router_local_registration() -> None:
    mesh = router()
    mesh.register_local_circle(circle(), now_ms=NOW_MS)
    stats = mesh.stats(now_ms=NOW_MS)
    assert (stats.local_circle_count, stats.local_member_count, stats.local_available_count, stats.local_capability_count) == (1, 1, 1, 1)


def test_mesh_router_local_routing() -> None:
    mesh, member = router(), profile()
    mesh.register_local_circle(circle(member), now_ms=NOW_MS)
    assert mesh.route_task("inference:llama-7b", now_ms=NOW_MS) == LocalAgent(circle().id, member.pubkey, member.id)


def test_mesh_router_discovery_ingestion() -> None:
    mesh = router()
    found = other(members=tuple(profile(n, "inference:other") for n in range(1, 4)))
    assert ingest(mesh, found) == 1
    stats = mesh.stats(now_ms=NOW_MS)
    assert (stats.discovered_circle_count, stats.discovered_capacity) == (1, 3)


def test_mesh_router_cross_mesh_fallback() -> None:
    mesh = router()
    found = other("embedding:bge", name="Remote Embedding Circle")
    ingest(mesh, found)
    target = mesh.route_task("embedding:bge", now_ms=NOW_MS)
    assert isinstance(target, RemoteCircle)
    assert (target.circle_id, target.announcement.name) == (found.circle_id, "Remote Embedding Circle")
    assert mesh.route_task("embedding:bge", now_ms=NOW_MS, leaves=False) is None, "a task leaves its formation only when told"


def test_mesh_router_plan_announce() -> None:
    mesh = router()
    one = circle(profile(0x0707, "inference:mistral-7b"))
    mesh.register_local_circle(one, now_ms=NOW_MS)
    (op,) = mesh.plan_announce_all()
    assert op == mesh.plan_announce(one.id)
    assert isinstance(op, Store)
    assert op.key == announcement_key(one.id)
    assert op.capability_keys == (capability_key("inference:mistral-7b"), capability_key("inference:*"))


def test_mesh_router_no_capable_circles() -> None:
    assert router().route_task("transcription:whisper", now_ms=NOW_MS) is None


# --- the seed's faults, mended ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["inference:*", "inference:llama*", "*"])
def test_fix_wildcards_find_circles(query: str) -> None:
    mesh = router()
    mesh.register_local_circle(circle(profile(), profile(2, "inference:zephyr")), now_ms=NOW_MS)
    found = other("inference:llama-70b")
    ingest(mesh, found)
    result = mesh.find_capable_circles(query, now_ms=NOW_MS)
    assert [one.id for one in result.local_circles] == [circle().id]
    assert [one.circle_id for one in result.discovered_circles] == [found.circle_id]


def test_fix_registering_twice_does_not_double_and_unregistering_leaves_nothing() -> None:
    mesh = router()
    mesh.register_local_circle(circle(), now_ms=NOW_MS)
    mesh.register_local_circle(circle(), now_ms=NOW_MS)
    assert len(mesh.find_capable_circles("inference:llama-7b", now_ms=NOW_MS).local_circles) == 1
    said = mesh.plan_announce(circle().id)
    assert isinstance(said, Store)
    assert mesh.unregister_local_circle(circle().id) == [Drop(circle().id, said.keys)]
    assert mesh.stats(now_ms=NOW_MS).local_capability_count == 0
    assert mesh.plan_announce_all() == []
    assert mesh.unregister_local_circle(circle().id) == []


def test_fix_announcements_are_verified_at_ingest() -> None:
    mesh = router()
    forged = announced(circle(nonce=bytes(16)), by=STRANGER)
    assert ingest(mesh, other("web", nonce=1), forged) == 1
    assert mesh.refused[Rejection.NOT_GRANTED.value] == 1
    assert mesh.stats(now_ms=NOW_MS).discovered_circle_count == 1


def test_fix_an_expired_announcement_is_never_routed_to() -> None:
    mesh = router()
    found = other("web")
    ingest(mesh, found)
    end = NOW_MS + TTL_MS
    assert mesh.route_task("web", now_ms=end - 1) is not None
    assert mesh.route_task("web", now_ms=end) is None
    assert mesh.find_capable_circles("web", now_ms=end).discovered_circles == ()
    assert mesh.stats(now_ms=end).discovered_circle_count == 0
    assert mesh.discovered(found.circle_id, now_ms=end) is None
    assert (mesh.gc_discovered(now_ms=end), mesh.gc_discovered(now_ms=end)) == (1, 0)


def test_a_member_that_is_not_available_is_not_routed_to() -> None:
    mesh = router()
    mesh.register_local_circle(circle(profile(status=CircleStatus.BUSY), profile(3, status=CircleStatus.OFFLINE)), now_ms=NOW_MS)
    assert mesh.route_task("inference:*", now_ms=NOW_MS) is None


def test_of_discovered_circles_the_trusted_then_the_roomy_one_is_chosen_and_the_avoided_one_last() -> None:
    mesh = router()
    small, large = other("web", nonce=1), other(nonce=2, members=(profile(1, "web"), profile(2, "web")))
    ingest(mesh, small, large)

    def chosen(**how: Any) -> bytes:
        target = mesh.route_task("web", now_ms=NOW_MS, **how)
        assert isinstance(target, RemoteCircle)
        return target.circle_id

    assert chosen() == large.circle_id
    assert chosen(score=lambda one: 0.9 if one == small.circle_id else 0.4) == small.circle_id
    assert chosen(avoided=frozenset([large.circle_id])) == small.circle_id
    assert chosen(avoided=frozenset([large.circle_id, small.circle_id])) == large.circle_id, "where nobody else is there"


def test_fix_a_blacklisted_circle_is_never_chosen_while_another_is_there() -> None:
    mesh = router()
    good, bad = other("web", nonce=1), other(nonce=2, members=(profile(1, "web"), profile(2, "web")))
    ingest(mesh, good, bad)

    def chosen(avoided: frozenset[bytes]) -> bytes:
        target = mesh.route_task("web", now_ms=NOW_MS, score=lambda one: float(one == bad.circle_id), avoided=avoided)
        assert isinstance(target, RemoteCircle)
        return target.circle_id

    assert chosen(frozenset()) == bad.circle_id
    assert chosen(frozenset([bad.circle_id])) == good.circle_id
    assert chosen(frozenset([bad.circle_id, good.circle_id])) == bad.circle_id, "where nobody else is there"


def test_fix_all_times_are_milliseconds() -> None:
    """The seed registers in seconds what it announces in milliseconds."""
    mesh, one = router(), circle()
    mesh.register_local_circle(one, now_ms=NOW_MS)
    registered = mesh.announced(one.id)
    mesh.on_member_change(one, now_ms=NOW_MS + 1)
    changed = mesh.announced(one.id)
    assert registered is not None
    assert changed is not None
    assert (registered.announcement.timestamp, changed.announcement.timestamp) == (NOW_MS, NOW_MS + 1)
    assert registered.announcement.expires - registered.announcement.timestamp == TTL_MS == 3600 * 1000
    abroad = router()
    assert ingest(abroad, changed) == 1
    assert abroad.discovered(one.id, now_ms=NOW_MS + TTL_MS) is not None
    assert abroad.discovered(one.id, now_ms=NOW_MS + 1 + TTL_MS) is None


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0])
def test_fix_a_score_that_is_none_decides_nothing(nonsense: float) -> None:
    mesh = router()
    known, broken = other("web", nonce=1), other("web", nonce=2)
    for order in ((known, broken), (broken, known)):
        ingest(mesh, *order)
        target = mesh.route_task("web", now_ms=NOW_MS, score=lambda one: nonsense if one == broken.circle_id else 0.1)
        assert isinstance(target, RemoteCircle)
        assert target.circle_id == known.circle_id


# --- plans ------------------------------------------------------------------------------------------------------------------------


def test_what_to_look_for() -> None:
    mesh = router()
    assert mesh.plan_discover_capability("inference:llama") == Find(capability_key("inference:llama"), capability="inference:llama")
    assert mesh.plan_discover_capability("inference:l*") == Find(capability_key("inference:*"), capability="inference:l*")
    assert mesh.plan_discover_capability("*") is None
    assert mesh.plan_discover_circle(circle().id) == Find(announcement_key(circle().id), circle_id=circle().id)


def test_a_change_is_announced_and_what_is_offered_no_more_taken_back() -> None:
    mesh = router()
    before = circle(profile(1, "web"), profile(2, "custom:a"))
    mesh.register_local_circle(before, now_ms=NOW_MS)
    after = replace(before, members=before.members[:1], epoch=2)
    stored, dropped = mesh.on_member_change(after, now_ms=NOW_MS + 5)
    assert isinstance(stored, Store)
    assert stored.capability_keys == (capability_key("web"),)
    assert dropped == Drop(before.id, (capability_key("custom:a"), capability_key("custom:*")))
    said = mesh.announced(before.id)
    assert said is not None
    assert (said.announcement.timestamp, said.announcement.epoch, said.announcement.member_count) == (NOW_MS + 5, 2, 1)
    assert mesh.on_capability_change(after, now_ms=NOW_MS + 6) == [stored]


def test_a_circle_that_we_do_not_speak_for_is_not_announced() -> None:
    mesh = router()
    mesh.register_local_circle(circle(), now_ms=NOW_MS, announced=False)
    assert mesh.plan_announce_all() == []
    assert mesh.plan_announce(circle().id) is None
    assert [one.name for one in mesh.local_circles()] == ["Test Circle"]


# --- bounds -----------------------------------------------------------------------------------------------------------------------


def test_an_older_epoch_is_refused_and_a_newer_one_takes_its_place() -> None:
    mesh = router()
    new = other("web", epoch=5)
    assert ingest(mesh, new, other("custom:x", epoch=4)) == 1
    assert mesh.refused[Rejection.STALE.value] == 1
    assert ingest(mesh, other("custom:x", epoch=6)) == 1
    assert mesh.find_capable_circles("web", now_ms=NOW_MS).discovered_circles == ()
    assert mesh.stats(now_ms=NOW_MS).discovered_circle_count == 1


def test_one_formation_can_not_fill_the_room() -> None:
    mesh = router()
    assert ingest(mesh, *(other("web", nonce=n) for n in range(1, OF_FORMATION_MAX + 3))) == OF_FORMATION_MAX
    assert mesh.refused[Rejection.OVER_QUOTA.value] == 2
    later = announced(circle(profile(1, "web"), nonce=b"l" * 16), now_ms=NOW_MS + TTL_MS)
    assert ingest(mesh, later, now_ms=NOW_MS + TTL_MS) == 1, "what is over makes room"


def test_many_formations_full_of_lies_push_nobody_out_who_says_little() -> None:
    mesh = router(most=8)
    honest = of_formation(0, "web")
    liars = [of_formation(n, "web", nonce=bytes([k]) * 16, now_ms=NOW_MS - k) for n in range(1, 5) for k in range(4)]
    assert ingest(mesh, honest, *liars) == 17, "who comes last always finds room"
    assert mesh.stats(now_ms=NOW_MS).discovered_circle_count == 8
    assert mesh.discovered(honest.circle_id, now_ms=NOW_MS) is not None
    late = of_formation(9, "web")
    assert ingest(mesh, late) == 1
    assert mesh.discovered(late.circle_id, now_ms=NOW_MS) is not None
    assert mesh.stats(now_ms=NOW_MS).discovered_circle_count == 8
    assert MeshDiscoveryRouter(US, speak=lambda one, now_ms: announced(one))._discovered_max == DISCOVERED_MAX


def test_our_own_circles_come_by_records_alone() -> None:
    mesh = router(formation=FORMATION)
    assert ingest(mesh, other("web")) == 0
    assert mesh.refused[Rejection.WRONG_FORMATION.value] == 1


def test_networks_that_the_owner_adds_are_passed_on() -> None:
    inner = announced(circle(nonce=bytes(16)), addresses=["tcp://127.0.0.1:7420"])
    assert ingest(router(), inner) == 0
    assert ingest(router(also=read_networks("127.0.0.0/8")), inner) == 1
