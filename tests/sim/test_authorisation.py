"""Every verb of the table against every kind of peer, and what a worker may ask.

Who may what is written down here once more, verb by verb and by hand: a verb that is new, or opened to somebody else, fails until somebody
has said here that it is meant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.agents.verbs import KEEP, MESH_CALL, MESH_SEND, WORKER_VERBS, ShareRequest
from skerry.channel.calls import Body
from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import Code, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.grants import Role
from skerry.node.node import Node
from skerry.node.operations import VERBS
from skerry.node.verbs import ContactAcceptRequest, ContactAddRequest, ContactInviteRequest, Nothing
from skerry.routing.task import Task, new_task_id
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverRequest, InjectRequest, LookupRequest, WireCheckRequest, WireRequest
from skerry.wiring.wires import key_text, peer_id
from tests.support.formation import key
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
OPERATOR = MEMBER | {
    "node.invite", "node.revoke", "node.forget",
    "contact.invite", "contact.accept", "contact.add", "contact.list", "contact.show", "contact.check", "contact.remove",
    "circle.create", "circle.enter", "circle.leave", "circle.invite", "circle.dissolve", "circle.forgive",
    "agent.run", "agent.stop", "agent.start", "agent.restart", "agent.pause", "agent.resume", "agent.remove", "agent.logs", "agent.share",
    "record.list", "record.show", "wire.add", "wire.remove", "reputation.forgive",
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
    assert {verb for verb, operation in VERBS.items() if operation.contact} == set().union(*OPENED.values()) | {"contact.news"}
    assert {MESH_CALL, MESH_SEND, KEEP} == WORKER_VERBS
    assert not WORKER_VERBS & set(VERBS)


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


def asked_by(node: Node, agent: str, *, requester: bytes = b"") -> dict[str, Body]:
    """Requests that only a right keeps from being answered. All other verbs are asked with nothing, which few of them can read."""
    requester = requester or node.key.public
    task = Task(new_task_id(requester, bytes(16)), "custom:tell", agent, pack(None), requester, node.ports.clock.now_ms())
    wire = WireRequest("desk", "tcp://xi:7420", "xi/Clerk/mine", peer_id(DESK.public), key_text(DESK.public))
    letter = Letter(session_of(DESK.public, agent), 1 << 40, "xi/mine", "", pack(["xi/x", 1, None]))
    return {
        "task.run": task.to_bytes(),
        "wire": pack_message(wire),
        "unwire": pack_message(wire),
        "wire.check": pack_message(WireCheckRequest(b"")),
        "lookup_member": pack_message(LookupRequest("desk")),
        "inject": pack_message(InjectRequest("desk", ["xi/x", 1, None])),
        "mail.deliver": pack_message(DeliverRequest(agent, [letter])),
    }


async def answered(ask: Callable[[str, Body], Awaitable[Any]], requests: dict[str, Body]) -> set[str]:
    """The verbs that are not refused for want of a right."""
    found = set()
    for verb in VERBS:
        try:
            await ask(verb, requests.get(verb, pack_message(Nothing())))
        except SkerryError as error:
            if error.code == Code.NOT_GRANTED:
                continue
        found.add(verb)
    return found


async def by(machine: Machine, agent: str) -> set[str]:
    async def ask_all(node: Node) -> set[str]:
        async def ask(verb: str, body: Body) -> Any:
            for _ in range(2):  # a stranger's link is ended after a while
                try:
                    return await (await to_alpha(node)).call(verb, body, timeout_s=5.0)
                except Unreachable:
                    continue
            raise AssertionError(f"{verb} ends every link")

        return await answered(ask, asked_by(node, agent))

    return await machine.within(ask_all)


@simulated
async def test_a_member_an_operator_and_a_stranger_have_what_the_matrix_says() -> None:
    async with world_of("matrix-ours") as (_, machines, agent):
        assert await by(machines["gamma"], agent) == MEMBER
        assert await by(machines["beta"], agent) == OPERATOR
        assert await by(machines["psi"], agent) == ANYBODY


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
            if not opened & OPENED["wire:*"]:
                assert await code_of(machines["xi"], "lookup_member", LookupRequest(name)) == Code.NOT_GRANTED


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
