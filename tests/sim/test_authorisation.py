"""Every verb of the table against every kind of peer, and what a worker may ask.

Who may what is written down here once more, verb by verb and by hand: a verb that is new, or opened to somebody else, fails until somebody
has said here that it is meant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skerry.agents import verbs as worker_verbs
from skerry.agents.letters import Letter, MeshSendRequest, session_of
from skerry.agents.verbs import KEEP, MESH_CALL, MESH_SEND, WORKER_VERBS, ShareRequest
from skerry.channel.calls import Body
from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import Code, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.grants import Role, State
from skerry.node.node import Node
from skerry.node.operations import VERBS
from skerry.node.policy import rights_of
from skerry.node.verbs import ContactAcceptRequest, ContactAddRequest, ContactInviteRequest, Nothing
from skerry.routing.task import Task, new_task_id
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverRequest, InjectRequest, LookupRequest, WireCheckRequest, WireRequest
from skerry.wiring.wires import key_text, peer_id
from tests.support.calendar import days
from tests.support.clerks import address, desks, heard, tell, wire
from tests.support.formation import key
from tests.support.halves import descriptor, end_of, real_end
from tests.support.links import simulated
from tests.support.pockets import Pocket, program

ANYBODY = {"ping", "node.join", "contact.meet", "circle.announcements"}
CLIENT = ANYBODY | {
    "grant.renew", "task.run", "task.call", "formation.directory",
    "capability.list", "node.status", "node.list", "node.show", "node.doctor", "formation.show", "agent.list", "agent.show", "wire.list",
    "circle.list", "circle.show", "reputation.list",
    "mail.send", "inject",
}  # fmt: skip
MEMBER = CLIENT | {
    "records.pull", "records.push", "records.reconcile", "records.exchange", "records.neighbour", "private.pull", "private.push",
    "presence.probe", "presence.relay", "presence.tell", "node.twin",
    "reach.dial_back", "relay.offer", "relay.open", "relay.come",
    "mail.deliver", "wire", "unwire", "wire.check", "lookup_member",
}  # fmt: skip
LAPSED = ANYBODY | {
    "grant.renew", "task.run", "task.call", "formation.directory", "mail.deliver", "wire", "unwire", "wire.check", "lookup_member",
    "records.pull", "records.push", "records.reconcile", "records.exchange", "records.neighbour", "private.pull", "private.push",
    "presence.probe", "presence.relay", "presence.tell", "node.twin",
    "reach.dial_back", "relay.offer", "relay.open", "relay.come",
}  # fmt: skip
OPERATOR = MEMBER | {
    "node.invite", "node.revoke", "node.forget",
    "contact.invite", "contact.accept", "contact.add", "contact.list", "contact.show", "contact.check", "contact.remove",
    "circle.create", "circle.enter", "circle.leave", "circle.invite", "circle.dissolve", "circle.forgive",
    "agent.run", "agent.stop", "agent.start", "agent.restart", "agent.pause", "agent.resume", "agent.remove", "agent.logs", "agent.share",
    "record.list", "record.show", "wire.add", "wire.remove", "reputation.forgive",
    "letter.list", "letter.show", "letter.retry", "letter.drop",
}  # fmt: skip
OWNER_ALONE = {"node.rename", "node.leave", "node.away", "node.down", "node.ask", "formation.restore"}
CONTACT = ANYBODY | {"contact.news"}
OPENED = {
    "federate": {"records.pull"},
    "call:*": {"task.run"},
    "relay": {"reach.dial_back", "relay.offer", "relay.open", "relay.come"},
    "wire:*": {"wire", "unwire", "wire.check", "lookup_member"},
    "inject:*": {"inject", "mail.deliver", "lookup_member"},
}  # what each right of a contact's entry opens
DESK = key(0x0711)  # an agent of whoever asks


def test_every_verb_stands_in_the_matrix() -> None:
    assert set(VERBS) == OPERATOR | OWNER_ALONE | CONTACT, "who may a new verb? say it in this file"
    assert not OPERATOR & OWNER_ALONE
    assert LAPSED < MEMBER
    assert {verb for verb, operation in VERBS.items() if operation.contact} == set().union(*OPENED.values()) | {"contact.news"}
    assert {KEEP, MESH_CALL, MESH_SEND} == WORKER_VERBS, "what may a worker ask of its node? say it in this file"
    assert not WORKER_VERBS & set(VERBS)
    assert {"wire", "inject"} <= {operation.contact for operation in VERBS.values()}
    assert {right.partition(":")[0] for right in OPENED} == {operation.contact for operation in VERBS.values()} - {"", "contact"}


@asynccontextmanager
async def world_of(seed: str, *allow: str) -> AsyncIterator[tuple[World, dict[str, Machine], str]]:
    """alpha, the founder, answers, with an agent that takes letters; beta is an operator, gamma a member; xi founded another formation,
    which may what `allow` says; psi is a stranger. And the agent's id."""
    world = World(seed)
    alpha, _, _ = await world.formation(3, operators=2)
    info = await alpha.run_agent("Clerk", "desk")
    for name in ("xi", "psi"):
        await world.machine(name).start()
    xi, psi = world.machines["xi"], world.machines["psi"]
    ticket = (await alpha.ask("contact.invite", ContactInviteRequest("xis", list(allow)))).ticket
    await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate"]))
    await psi.ask("contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex()))
    yield world, world.machines, info.id
    await world.close()


async def to_alpha(node: Node) -> Link:
    contacts = list(node.contacts.directory.contacts.values())
    if contacts and not any(said.body.get("name") == "alpha" for said in node.replica.held("node")):
        return await node.envoy.link_to(contacts[0], 10.0)
    (alpha,) = (said.author for said in node.replica.held("node") if said.body.get("name") == "alpha")
    return await node.link_to(alpha, 5.0)


def asked_by(node: Node, agent: str, *, requester: bytes = b"", member: str = "desk", check: bytes = b"") -> dict[str, Body]:
    """Requests that only a right keeps from being answered. All other verbs are asked with nothing, which few of them can read.

    member   how the agent is called; check: a descriptor to show with `wire.check`
    """
    requester = requester or node.key.public
    task = Task(new_task_id(requester, bytes(16)), "custom:tell", agent, pack(None), requester, node.ports.clock.now_ms())
    wire = WireRequest(member, "tcp://xi:7420", "xi/Clerk/mine", peer_id(DESK.public), key_text(DESK.public), check)
    letter = Letter(session_of(DESK.public + node.key.public, agent), 1 << 40, "xi", "", pack(["xi/x", 1, None]))
    return {
        "task.run": task.to_bytes(),
        "wire": pack_message(wire),
        "unwire": pack_message(wire),
        "wire.check": pack_message(WireCheckRequest(check)),
        "lookup_member": pack_message(LookupRequest(member)),
        "inject": pack_message(InjectRequest(member, ["xi/x", 1, None])),
        "mail.deliver": pack_message(DeliverRequest(agent, [letter], DESK.public)),
    }


async def answered(ask: Callable[[str, Body], Awaitable[Any]], requests: dict[str, Body], *, verbs: Iterable[str] = VERBS) -> set[str]:
    """The verbs that are not refused for want of a right."""
    found = set()
    for verb in verbs:
        try:
            await ask(verb, requests.get(verb, pack_message(Nothing())))
        except SkerryError as error:
            if error.code == Code.NOT_GRANTED:
                continue
        found.add(verb)
    return found


async def by(machine: Machine, agent: str, requests: dict[str, Body] | None = None, *, verbs: Iterable[str] = VERBS) -> set[str]:
    async def ask_all(node: Node) -> set[str]:
        async def ask(verb: str, body: Body) -> Any:
            for _ in range(2):  # a stranger's link is ended after a while
                try:
                    return await (await to_alpha(node)).call(verb, body, timeout_s=5.0)
                except Unreachable:
                    continue
            raise AssertionError(f"{verb} ends every link")

        return await answered(ask, requests or asked_by(node, agent), verbs=verbs)

    return await machine.within(ask_all)


@simulated
async def test_a_member_an_operator_and_a_stranger_have_what_the_matrix_says() -> None:
    async with world_of("matrix-ours") as (_, machines, agent):
        assert await by(machines["gamma"], agent) == MEMBER
        assert await by(machines["beta"], agent) == OPERATOR
        assert await by(machines["psi"], agent) == ANYBODY


@simulated
async def test_a_member_whose_grant_lapsed_has_what_the_matrix_says_and_its_wires_stand() -> None:
    """It still serves for calls and wires inside the formation, and for its own renewal."""
    world = World("matrix-lapsed")
    alpha, beta, gamma = await world.formation(3)
    left, right = await desks(world, beta, gamma)
    third = await gamma.run_agent("Clerk", "third")
    await world.until(lambda: beta.knows_agent("third"))
    await wire(gamma, right.name, f"beta/{left.name}")
    await alpha.stop()
    await days(world, 31)
    assert beta.node.trust.standing(gamma.key.public).state is State.LAPSED

    async def ask_all(node: Node) -> set[str]:
        async def ask(verb: str, body: Body) -> Any:
            return await (await node.link_to(beta.key.public, 5.0)).call(verb, body, timeout_s=5.0)

        return await answered(ask, asked_by(node, left.id, member=left.name))

    assert await gamma.within(ask_all) == LAPSED - {"grant.renew"}, "beta is no operator, and renews nobody's"
    await wire(gamma, "third", f"beta/{left.name}")
    assert [(info.state, info.detail) for info in gamma.node.wires.infos()] == [("standing", "")] * 2
    await tell(gamma, third, address(beta, left), 1)
    await world.until(lambda: heard(beta, left, "third") == 1)
    await world.close()


@simulated
async def test_who_is_revoked_has_nothing_and_who_left_is_a_stranger() -> None:
    async with world_of("matrix-gone") as (world, machines, agent):
        alpha, beta, gamma = machines["alpha"], machines["beta"], machines["gamma"]
        await gamma.ask("node.leave", Nothing())
        await world.until(lambda: alpha.node.trust.standing(gamma.key.public).state is State.DEPARTED)
        rights = rights_of(alpha.node.trust.standing(gamma.key.public))
        assert {verb for verb, operation in VERBS.items() if operation.right in rights} == ANYBODY
        await alpha.revoke(beta)
        world.revoked["beta"] = None
        await world.until(lambda: alpha.node.links.get(beta.key.public) is None)
        with pytest.raises(SkerryError) as refused:
            await beta.within(lambda node: node.links.probe("tcp://alpha:7420", expected=alpha.key.public, timeout_s=5.0))
        assert refused.value.code == Code.REVOKED, "not even a link"
        assert agent


@simulated
async def test_a_client_has_what_the_matrix_says() -> None:
    async with world_of("matrix-client") as (world, machines, agent):
        alpha, pocket = machines["alpha"], Pocket()
        async with program(world, await alpha.invite(role=Role.CLIENT), pocket) as mesh:
            requests = asked_by(alpha.node, agent, requester=pocket.key.public)

            async def ask(verb: str, body: Body) -> Any:
                return await mesh._call(verb, body, 5.0, _never)

            assert await answered(ask, requests) == CLIENT


@simulated
@pytest.mark.parametrize(
    "allow",
    [(), ("federate",), ("call:*",), ("call:custom:other",), ("wire:*",), ("wire:desk",), ("wire:other",), ("inject:desk",),
     ("inject:other",), ("federate", "call:*", "wire:*", "inject:*")],
)  # fmt: skip
async def test_a_contact_has_what_its_entry_says_and_for_that_agent_alone(allow: tuple[str, ...]) -> None:
    async with world_of(f"matrix-{'-'.join(allow)}", *allow) as (_, machines, agent):
        alpha = machines["alpha"]
        await alpha.ask("agent.share", ShareRequest("desk", ["xis"]))
        given = {right.replace("desk", "*") for right in allow}
        opened = set().union(*(OPENED.get(right, set()) for right in given))
        found = await by(machines["xi"], agent)
        assert found - CANT_BE_READ == (CONTACT | opened) - CANT_BE_READ
        for name in ("desk", "nobody"):  # whoever may not ask is not told whether there is one
            requests = asked_by(machines["xi"].node, name, member=name)
            about_agents = (OPENED["wire:*"] | OPENED["inject:*"]) - CANT_BE_READ
            if not opened & about_agents:
                assert await by(machines["xi"], agent, requests, verbs=about_agents) == set(), name


@simulated
async def test_what_a_contact_may_with_one_agent_it_may_not_with_another() -> None:
    """Neither by its name nor by its id nor by its node's name, and also where it is shared with it and both live on one node."""
    async with world_of("matrix-other", "wire:desk", "inject:desk", "call:custom:other") as (world, machines, desk):
        alpha, gamma, xi = machines["alpha"], machines["gamma"], machines["xi"]
        near, far = await alpha.run_agent("Clerk", "other"), await gamma.run_agent("Clerk", "desk2")
        await world.until(lambda: alpha.knows_agent("desk2"))
        for machine, name in ((alpha, "other"), (gamma, "desk2")):
            await machine.ask("agent.share", ShareRequest(name, ["xis"]))
        opened = OPENED["wire:*"] | OPENED["inject:*"]
        for machine, info in ((alpha, near), (gamma, far)):
            own = end_of(xi, None, key_=DESK)
            half = descriptor(own, real_end(machine, info.id), by=xi)
            for member in (info.name, info.id, f"{machine.name}/{info.name}"):
                requests = asked_by(xi.node, info.id, member=member, check=half)
                assert await by(xi, info.id, requests, verbs=opened) == set(), member
                assert await by(xi, info.id, requests, verbs={"task.run"}) == set(), "its tasks need call:custom:tell"
        half = descriptor(end_of(xi, None, key_=DESK), real_end(alpha, desk), by=xi)
        assert await by(xi, desk, asked_by(xi.node, desk, check=half), verbs=opened) == opened, "the one that it may"


@simulated
async def test_what_one_contact_may_is_no_other_contacts() -> None:
    async with world_of("matrix-two", "wire:desk", "inject:desk", "call:*", "federate") as (_, machines, agent):
        alpha, psi = machines["alpha"], machines["psi"]
        await alpha.ask("contact.add", ContactAddRequest("psis", [], formation=psi.node.formation.hex(), allow=["wire:other"]))
        opened = set().union(*OPENED.values())
        assert await by(psi, agent, verbs=opened - CANT_BE_READ) == set()


# --- workers ------------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_worker_has_what_the_matrix_says() -> None:
    """Over its own connection, which is all that it has: each verb of the table, and each that a node asks of its workers."""
    async with world_of("matrix-worker") as (_, machines, agent):
        alpha = machines["alpha"]
        (worker,) = alpha.executor.workers()

        async def ask_all() -> set[str]:
            assert worker.link is not None
            link = worker.link
            asks = lambda verb, body: link.call(verb, body, timeout_s=5.0)  # noqa: E731
            verbs = {*VERBS, *WORKER_VERBS, *OF_WORKERS, "no.such.verb"}
            requests = asked_by(alpha.node, agent) | {MESH_SEND: pack_message(MeshSendRequest("desk", pack(["alpha/x", 1, None])))}
            return await answered(asks, requests, verbs=verbs)

        assert await worker.run(ask_all()) == WORKER_VERBS


OF_WORKERS = {value for name, value in vars(worker_verbs).items() if name.isupper() and isinstance(value, str)} - WORKER_VERBS
CANT_BE_READ = {"wire.check"}  # what it is about stands in the descriptor: one that can't be read is refused as that


async def _never() -> bool:
    return False


async def code_of(machine: Machine, verb: str, request: Any) -> str:
    async def ask(node: Node) -> str:
        link = await to_alpha(node)
        try:
            await link.call(verb, pack_message(request), timeout_s=5.0)
        except SkerryError as error:
            return str(error.code)
        return ""

    return await machine.within(ask)
