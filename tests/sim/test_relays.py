"""Nodes that nobody can dial, in worlds of whole nodes: they are reached over two others, and stay so when one of those goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from skerry.channel.address import Address, relay_of, via
from skerry.channel.pipes import Pipe, _End
from skerry.channel.via import ADDRESSES_OF_RELAY_MAX
from skerry.discovery.reach import ADDRESSES_MAX, AGAIN_S, REASON_CHARACTERS_MAX, Reach
from skerry.discovery.verbs import ComeRequest, DialBackReply, DialBackRequest, PipeRequest
from skerry.errors import Code, Refused
from skerry.identity.contacts import RELAY
from skerry.identity.grants import Role, Standing, State
from skerry.node import views
from skerry.node.doctor import examine
from skerry.node.policy import rights_of
from skerry.node.reach_operations import REACH_OPERATIONS
from skerry.node.reaching import DIALS_AT_ONCE, MISSES_AT_ONCE, MISSES_PER_S
from skerry.node.verbs import ContactAcceptRequest, ContactInviteRequest
from skerry.ports import ProtocolFactory
from skerry.sim.campaign import Plan, play
from skerry.sim.checkers.bounds import Bounds
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated

REPAIRED_S = 15.0  # a silent machine is found out after 3 to 12 s, depending on who waits on it; a killed one at once


async def world_with_two_nats(seed: int | str, *, relays: int = 2) -> tuple[World, list[Machine]]:
    """Some that can be dialled, then two that can't, each behind a NAT of its own."""
    world = World(seed)
    machines = [world.machine(name) for name in ("alpha", "beta", "gamma", "delta", "epsilon")[: relays + 2]]
    for hidden in machines[relays:]:
        world.network.put_behind_nat(hidden.name)
    await machines[0].start()
    for machine in machines[1:]:
        await machine.start(await machines[0].invite())
    return world, machines


def link_over(here: Machine, there: Machine) -> bool:
    """Whether the link between two is there, and goes over a relay."""
    link = here.node.links.get(there.key.public)
    return link is not None and link.connection.is_relayed


def relay_between(here: Machine, there: Machine) -> bytes | None:
    link = here.node.links.get(there.key.public)
    return relay_of(link.connection.path) if link is not None else None


@simulated
async def test_two_nodes_that_nobody_can_dial_are_linked_over_a_relay_and_call_each_other() -> None:
    world, machines = await world_with_two_nats(1)
    alpha, beta, gamma, delta = machines
    await world.until(lambda: world.is_whole(machines), 60, what="all are linked with all")
    assert [one.node.reaching.verdict.reach for one in machines] == [Reach.DIALABLE] * 2 + [Reach.OUTBOUND] * 2
    assert link_over(gamma, delta)
    assert link_over(delta, gamma)
    assert not any(link_over(a, b) for a in (alpha, beta) for b in machines if a is not b)
    await gamma.run_agent("Echo")
    await world.until(lambda: delta.knows_agent("echo"), what="delta knows gamma's agent")
    assert await delta.call("custom:echo", "hello") == "hello"
    large = "x" * 300_000
    assert await delta.call("custom:echo", large) == large
    await world.close()
    assert Bounds(world).settled() == [], "nothing is left open by nodes that ended in order"


@pytest.mark.parametrize("end", ["kill", "crash", "stop"])
@simulated
async def test_when_its_relay_goes_a_link_is_there_again_over_the_other_one(end: str) -> None:
    world, machines = await world_with_two_nats(f"goes {end}")
    *dialled, gamma, delta = machines
    await world.until(lambda: world.is_whole(machines), 60, what="all are linked with all")
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 60, what="both have two relays")
    await gamma.run_agent("Echo")
    await world.until(lambda: delta.knows_agent("echo"), what="delta knows gamma's agent")
    used = relay_between(gamma, delta)
    gone = next(machine for machine in dialled if machine.key.public == used)
    stays = next(machine for machine in dialled if machine is not gone)
    await asyncio.sleep(30)
    began_s = world.now_s
    if end == "stop":
        await gone.stop()
    else:
        getattr(gone, end)()
    await world.until(lambda: relay_between(gamma, delta) == stays.key.public, 30, what="it goes over the other one")
    assert await delta.call("custom:echo", "hello") == "hello"
    assert world.now_s - began_s <= REPAIRED_S
    await gone.start()
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 120, what="two relays again")
    await world.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_checkers_hold_where_two_of_five_nodes_are_hidden_and_relays_crash(seed: int) -> None:
    report = play(Plan(seed, nodes=5, faults="heavy", hidden=2))
    assert report.failure == ""


@simulated
async def test_a_node_that_starts_again_is_reached_before_it_has_asked_anybody() -> None:
    world, machines = await world_with_two_nats("again")
    *_, gamma, delta = machines
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 60)
    await asyncio.sleep(1)  # and it is on the disk
    gamma.kill()
    await asyncio.sleep(20)
    await gamma.start()
    assert gamma.node.reaching.verdict.reach is Reach.OUTBOUND, "it kept that"
    assert len(gamma.node.reaching.ways()) == 2
    await world.until(lambda: link_over(gamma, delta), 5, what="they are linked over a relay")
    await world.close()


@simulated
async def test_a_link_becomes_straight_when_a_node_can_be_dialled() -> None:
    world, machines = await world_with_two_nats("forwarded")
    *_, gamma, delta = machines
    await world.until(lambda: link_over(gamma, delta), 60)
    world.network.take_from_nat("gamma")  # its owner forwards the port
    await world.until(lambda: gamma.node.reaching.verdict.reach is Reach.DIALABLE, 2 * AGAIN_S, what="it has asked again")
    await world.until(lambda: not link_over(gamma, delta) and world.is_whole(machines), 60, what="the straight link takes over")
    assert not [a for a in delta.node.wanted()[gamma.key.public] if a.startswith("via:")]
    assert delta.node.reaching.reach_of(gamma.key.public) is Reach.DIALABLE
    await world.close()


@simulated
async def test_two_that_come_to_stand_behind_one_nat_are_linked_straight() -> None:
    world, machines = await world_with_two_nats("house")
    *_, gamma, delta = machines
    await world.until(lambda: link_over(gamma, delta), 60)
    for machine in (gamma, delta):
        world.network.put_behind_nat(machine.name, "one house")
    await world.until(lambda: not link_over(gamma, delta) and world.is_whole(machines), 2 * AGAIN_S, what="the straight link takes over")
    assert gamma.node.reaching.verdict.reach is Reach.OUTBOUND, "the others still can't dial it"
    await world.close()


@simulated
async def test_a_node_that_others_find_behind_its_router_says_that_address_too() -> None:
    """Its port is forwarded: it does not know the address that others see, and is told."""
    world, machines = await world_with_two_nats("found", relays=2)
    alpha = machines[0]
    found = await alpha.within(lambda node: node.reaching.serve_dial_back(_asks(7420), machines[1].key.public))
    assert found.answered == ["tcp://beta:7420"], "it was not named, but is where the caller comes from"
    assert found.host == "beta"
    await world.close()


@simulated
async def test_nobody_is_dialled_on_the_word_of_somebody_else() -> None:
    world, machines = await world_with_two_nats("word")
    alpha, beta, *_ = machines
    asked = DialBackRequest(["tcp://gamma:7420", "tcp://alpha:7420", "tcp://127.0.0.1:22"], [])
    found = await alpha.within(lambda node: node.reaching.serve_dial_back(asked, beta.key.public))
    assert (found.answered, found.failed) == ([], [])
    for _ in range(DIALS_AT_ONCE - 1):
        await alpha.within(lambda node: node.reaching.serve_dial_back(asked, beta.key.public))
    with pytest.raises(Refused) as caught:
        await alpha.within(lambda node: node.reaching.serve_dial_back(asked, beta.key.public))
    assert caught.value.code == Code.BUSY
    await world.close()


@pytest.mark.parametrize("host", ["x" * 50_000, "a b", "", "127.0.0.1", "::1", "a" * 64 + ".net", "v\n"])
@simulated
async def test_a_member_that_lies_about_where_it_found_us_puts_nothing_into_our_record(host: str) -> None:
    world = World("liar")
    alpha, beta = await world.formation(2)

    async def lie(request: DialBackRequest, caller: bytes, *, host: str = host) -> DialBackReply:
        return DialBackReply([str(Address("tcp", host, port)) for port in request.ports], [], host)

    alpha.node.reaching.serve_dial_back = lie  # type: ignore[method-assign]
    own = beta.node.addresses()
    await beta.within(lambda node: node.reaching._find_out())
    assert beta.node.reaching.found == ()
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"), what="beta still says what it has")
    assert alpha.node.whereabouts.of(beta.key.public) == own
    await world.close()


@pytest.mark.parametrize(
    "failed", [[["one"]], [[]], [["a", "b", "c"]], [["\x1b[2J" * 100_000, "\x1b]0;x\x07\n"]] * 3, [["a", "b"]] * 50_000]
)
@simulated
async def test_a_member_that_answers_with_nonsense_why_it_did_not_find_us_keeps_us_from_nothing(failed: list[list[str]]) -> None:
    world = World("nonsense")
    alpha, beta = await world.formation(2)

    async def lie(request: DialBackRequest, caller: bytes, *, host: str = "") -> DialBackReply:
        return DialBackReply([], failed, "beta")

    alpha.node.reaching.serve_dial_back = lie  # type: ignore[method-assign]
    await beta.within(lambda node: node.reaching._find_out())
    (reason,) = beta.node.reaching.reasons.values()
    assert len(reason) <= ADDRESSES_MAX * 2 * (REASON_CHARACTERS_MAX + len(": "))
    assert reason.isprintable()
    assert beta.node.reaching.verdict.missed == 1
    await world.close()


@pytest.mark.parametrize("passed_bytes", [0, 6000])
@simulated
async def test_a_relay_that_swallows_what_it_should_forward_is_left_for_the_other_one(
    passed_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers its pings, and opens every pipe; of each it forwards the first bytes, and no more."""
    world, machines = await world_with_two_nats(f"swallows {passed_bytes}")
    *relays, gamma, delta = machines
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 60, what="both have two relays")
    await gamma.run_agent("Echo")
    await world.until(lambda: delta.knows_agent("echo"), what="delta knows gamma's agent")
    await asyncio.sleep(60)
    evil = next(machine for machine in relays if machine.key.public == relay_between(gamma, delta))
    swallowing = evil.node.links.pipes
    passed = Counter[Pipe](dict.fromkeys(swallowing._open.values(), passed_bytes))
    take = _End.data_received

    def swallow(end: _End, data: bytes) -> None:
        passed[end._pipe] += len(data)
        if end._pipe._pipes is not swallowing or passed[end._pipe] <= passed_bytes:
            take(end, data)

    monkeypatch.setattr(_End, "data_received", swallow)
    good = next(machine for machine in relays if machine is not evil)
    began_s = world.now_s
    await world.until(lambda: relay_between(gamma, delta) == good.key.public, 60, what="it goes over the other one")
    assert world.now_s - began_s <= REPAIRED_S * 2
    assert await delta.call("custom:echo", "hello") == "hello"
    for _ in range(60):
        await asyncio.sleep(5)
        assert relay_between(gamma, delta) == good.key.public, "and stays there"
    await world.close()


@simulated
async def test_who_names_addresses_in_its_record_learns_nothing_of_what_is_there() -> None:
    """A member may say that it is anywhere, also behind our firewall: we look for it there, and do not look at ports for it."""
    world, machines = await world_with_two_nats("ports")
    alpha, beta, *_ = machines
    places = ["tcp://alpha:7420", "tcp://alpha:9", "tcp://127.0.0.1:22", "tcp://nowhere:80"]  # ours, nothing, nothing, nobody
    beta.node.settings = replace(beta.node.settings, advertised=lambda address: [address, *places])
    beta.node.advertiser.say_node()
    await world.until(lambda: set(places) <= set(alpha.node.whereabouts.of(beta.key.public)), what="alpha has heard of it")
    told = set()

    async def dialled(request: DialBackRequest) -> DialBackReply:
        return await alpha.within(lambda node: node.reaching.serve_dial_back(request, beta.key.public))

    for place in places:
        began_s = world.now_s
        found = await dialled(DialBackRequest([place], []))
        ((address, reason),) = found.failed
        assert address == place
        told.add((reason, round(world.now_s - began_s, 1)))
    assert len(told) == 1, told
    found = await dialled(_asks(9))
    assert "nobody listens" in found.failed[0][1], "of the host that it comes from it is told"
    await world.close()


@simulated
async def test_a_relay_that_calls_us_to_where_it_is_not_soon_calls_in_vain() -> None:
    """Else a member has all others dial, eight times a second, whatever its record names."""
    world, machines = await world_with_two_nats("nowhere")
    alpha, beta, gamma, _ = machines
    await world.until(lambda: gamma.node.links.get(beta.key.public), 60)
    tried: list[str] = []
    dial = gamma.node.ports.network.dial

    async def watched(address: str, factory: ProtocolFactory, *, timeout_s: float) -> asyncio.Protocol:
        tried.append(address)
        return await dial(address, factory, timeout_s=timeout_s)

    gamma.node.ports.network.dial = watched  # type: ignore[method-assign]
    nowhere = [f"tcp://alpha:{port}" for port in range(1, 30)]
    gamma.node.reaching.addresses_of = lambda relay: nowhere  # type: ignore[method-assign]
    codes: list[str] = []
    for _ in range(600):
        try:
            await gamma.within(lambda node: node.reaching.serve_come(ComeRequest(bytes(16)), beta.key.public))
        except Refused as error:
            codes.append(error.code)
        await asyncio.sleep(0.1)
    assert sum(address in nowhere for address in tried) <= 2 * ADDRESSES_OF_RELAY_MAX * (MISSES_AT_ONCE + 60 * MISSES_PER_S)
    assert codes
    assert set(codes) == {Code.BUSY}
    await gamma.within(lambda node: node.reaching.serve_come(ComeRequest(bytes(16)), alpha.key.public))
    await world.close()


@simulated
async def test_a_relay_says_why_it_forwards_nothing() -> None:
    world, machines = await world_with_two_nats("why")
    alpha, beta, gamma, delta = machines
    await world.until(lambda: link_over(gamma, delta), 60)

    async def refusal(of: Machine, to: bytes) -> str:
        with pytest.raises(Refused) as caught:
            await of.within(lambda node: node.reaching.serve_open(PipeRequest(to), beta.key.public))
        assert caught.value.hint
        return caught.value.message

    assert "no link" in await refusal(alpha, bytes(31) + b"x")
    assert "no link" in await refusal(alpha, b"short")
    assert "no link" in await refusal(alpha, beta.key.public), "oneself"
    assert "over a relay itself" in await refusal(delta, gamma.key.public)
    alpha.node.settings = replace(alpha.node.settings, relays=False)
    assert "its owner does not want it" in await refusal(alpha, gamma.key.public)
    assert "relay" not in alpha.node.reaching.said()
    await world.close()


@simulated
async def test_clients_and_strangers_have_nothing_forwarded() -> None:
    for role in (Role.CLIENT, None):
        rights = rights_of(Standing(State.VALID if role else State.UNKNOWN, role))
        assert not {operation.verb for operation in REACH_OPERATIONS if operation.right in rights}
    members = rights_of(Standing(State.VALID, Role.MEMBER))
    assert all(operation.right in members and operation.contact == RELAY for operation in REACH_OPERATIONS)


@simulated
async def test_doctor_says_how_a_node_is_reached_and_why_not_straight() -> None:
    world, machines = await world_with_two_nats("doctor")
    alpha, _, gamma, delta = machines
    await world.until(lambda: link_over(gamma, delta) and len(gamma.node.reaching.relays) == 2, 60)
    told = {check.what: check for check in await delta.within(lambda node: examine(node, "gamma"))}
    assert all(check.ok for check in told.values())
    assert told["path"].detail.startswith(("via alpha, not direct: tcp://gamma:7420", "via beta, not direct: tcp://gamma:7420"))
    told = {check.what: check for check in await alpha.within(lambda node: examine(node, "gamma"))}
    assert told["link"].detail == "up, direct, from gamma"
    told = {check.what: check for check in await alpha.within(lambda node: examine(node, "beta"))}
    assert told["path"].detail == "direct tcp://beta:7420"
    told = {check.what: check for check in await gamma.within(lambda node: examine(node, ""))}
    assert told["reach"].ok
    assert "nobody can dial this node" in told["reach"].detail
    told = {check.what: check for check in await alpha.within(lambda node: examine(node, ""))}
    assert told["reach"].detail == "others can dial this node"
    paths = {info.name: info.path for info in views.nodes(delta.node)}
    assert paths["gamma"] in ("via alpha", "via beta")
    await world.close()


@simulated
async def test_doctor_says_what_to_do_where_no_relay_is_there() -> None:
    world, machines = await world_with_two_nats("none")
    alpha, beta, gamma, delta = machines
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)) and link_over(gamma, delta), 60)
    for machine in (alpha, beta):
        machine.kill()
    await world.until(lambda: not delta.node.links.nodes() and not gamma.node.reaching.relays, 60)
    told = await delta.within(lambda node: examine(node, "gamma"))
    (bad,) = (check for check in told if check.ok is False)
    assert bad.what == "path"
    assert bad.detail.startswith("gamma can't be dialled, and nothing comes through over alpha or beta: ")
    assert "start alpha or beta" in bad.advice
    assert [check.what for check in told if check.ok is None], "why it can't be dialled is told, and is nothing that went wrong"
    assert "over alpha: nobody listens at tcp://alpha:7420" in bad.detail
    told = await gamma.within(lambda node: examine(node, ""))
    (reach,) = (check for check in told if check.what == "reach")
    assert reach.ok is False
    assert "no member is there that could try" in reach.detail, "it listens, and nobody is there who could say more"
    assert "another node" in reach.advice
    await world.close()


def _asks(port: int) -> DialBackRequest:
    return DialBackRequest([], [port])


async def hidden_with_a_contact(world: World) -> tuple[Machine, Machine, Machine]:
    """alpha, and two nodes of another formation behind one NAT, for which alpha is a contact that forwards."""
    alpha, xi, psi = (world.machine(name) for name in ("alpha", "xi", "psi"))
    for hidden in (xi, psi):
        world.network.put_behind_nat(hidden.name, "one house")
    await alpha.start()
    await xi.start()
    await psi.start(await xi.invite())
    ticket = (await alpha.ask("contact.invite", ContactInviteRequest("xis", ["relay"]))).ticket
    await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", []))
    return alpha, xi, psi


@simulated
async def test_two_nodes_of_one_formation_are_reached_over_a_contact_that_allows_it() -> None:
    world = World("contact")
    alpha, xi, psi = await hidden_with_a_contact(world)
    over_alpha = via(alpha.key.public)

    def knows(here: Machine, there: Machine) -> bool:
        return over_alpha in here.node.wanted().get(there.key.public, ())

    await world.until(lambda: knows(xi, psi) and knows(psi, xi), 60, what="each says that it is reached over alpha")
    world.network.put_behind_nat("psi", "another house")
    world.network.reset("xi", "psi")
    await world.until(lambda: link_over(xi, psi), 60, what="they are linked over the contact's node")
    assert relay_between(xi, psi) == alpha.key.public
    await xi.run_agent("Echo")
    await world.until(lambda: psi.knows_agent("echo"))
    assert await psi.call("custom:echo", "x" * 200_000) == "x" * 200_000
    await world.close()


@simulated
async def test_two_that_lost_each_other_before_either_said_over_whom_it_is_reached_meet_at_a_relay_of_their_own() -> None:
    """Nobody else could tell them: all that both have links with is a contact's node."""
    world = World("unsaid")
    alpha, xi, psi = await hidden_with_a_contact(world)
    await world.until(lambda: psi.node.contacts.directory.contacts, what="psi knows the contact")
    assert not xi.node.reaching.relays
    assert not psi.node.reaching.relays
    world.network.put_behind_nat("psi", "another house")
    world.network.reset("xi", "psi")
    await world.until(lambda: link_over(xi, psi), 120, what="they are linked over the contact's node")
    assert relay_between(xi, psi) == alpha.key.public
    await world.close()


@simulated
async def test_why_a_node_can_not_be_dialled_is_said_even_where_our_own_relays_were_asked_for_it() -> None:
    world, machines = await world_with_two_nats("down")
    *_, beta, gamma, _ = machines
    await world.until(lambda: len(gamma.node.reaching.relays) == 2 and gamma.node.links.get(beta.key.public), 60)
    beta.kill()
    await world.until(lambda: beta.key.public in gamma.node.keeper.last_error, 60)
    assert "beta:7420" in gamma.node.keeper.last_error[beta.key.public].message
    await world.close()
