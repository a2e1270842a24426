"""What a peer that lies about who it is, or for whom it speaks, may not get: another's place in a mailbox, its name, its wire."""

from __future__ import annotations

from dataclasses import replace

from skerry.agents.letters import Letter, session_of
from skerry.agents.verbs import AgentInfo
from skerry.errors import Code
from skerry.identity.codec import pack
from skerry.identity.grants import Role, issue
from skerry.identity.stamps import stamp_at
from skerry.node.verbs import ContactAddRequest
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverRequest
from tests.support.clerks import address, delivered, desks, heard, people, state, tell, wire
from tests.support.formation import STRANGER
from tests.support.links import simulated
from tests.support.neighbours import neighbours, said

LATER = 1 << 40


def shows(machine: Machine, formation: bytes) -> None:
    """From now on its node shows a grant that it made up: of a formation that never heard of it."""
    forged = issue(STRANGER, formation=formation, subject=machine.key.public, role=Role.MEMBER, stamp=stamp_at(machine.clock.now_ms()))
    machine.node.trust.grant_to_show = lambda: forged.signed  # type: ignore[method-assign]


async def lone_contact(world: World, alpha: Machine, *rights: str) -> Machine:
    """psi, which is a contact of alpha's formation by its own key, and not linked with it yet."""
    psi = world.machine("psi")
    await psi.start()
    await alpha.ask("contact.add", ContactAddRequest("psi", [], node=psi.key.public.hex(), allow=list(rights)))
    return psi


async def dials(psi: Machine, alpha: Machine) -> None:
    await psi.ask("contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex()))


@simulated
async def test_one_node_that_is_a_contact_does_not_speak_for_the_formation_whose_grant_it_made_up() -> None:
    async with neighbours("forged-grant", "wire:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        (mine,) = await desks(world, xi)
        await world.until(lambda: alpha.knows_agent(right.name))
        await xi.ask(
            "contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex(), allow=["wire:xi-clerk"])
        )
        await wire(xi, mine.name, f"alphas/{right.name}")
        psi = await lone_contact(world, alpha, "wire:beta-clerk")
        shows(psi, xi.node.formation)
        await dials(psi, alpha)
        (theirs,) = await desks(world, psi)
        for lie in (delivered(xi, mine, right.id, 1), delivered(psi, theirs, right.id, 1)):
            assert await said(psi, "mail.deliver", lie, to=alpha) == Code.PEER_SPEC
        assert state(beta, right)["people"] == {}


@simulated
async def test_one_node_that_is_a_contact_does_not_speak_for_our_own_agents() -> None:
    """It shows no grant, or one that says that it is of our own formation: its letters are nobody's of ours."""
    for number, grant in enumerate(("none", "ours")):
        world = World(f"forged-ours-{number}")
        alpha, beta = await world.formation(2)
        left, right = await desks(world, alpha, beta)
        await wire(alpha, left.name, f"beta/{right.name}")
        psi = await lone_contact(world, alpha, "wire:alpha-clerk")
        if grant == "none":
            psi.node.trust.grant_to_show = lambda: b""  # type: ignore[method-assign]
        else:
            shows(psi, alpha.node.formation)
        await dials(psi, alpha)
        (theirs,) = await desks(world, psi)
        for lie in (delivered(beta, right, left.id, 1), delivered(psi, theirs, left.id, 1)):
            assert await said(psi, "mail.deliver", lie, to=alpha) == Code.PEER_SPEC, grant
        assert state(alpha, left)["people"] == {}
        await world.close()


# --- members of one's own formation -----------------------------------------------------------------------------------------------------


@simulated
async def test_a_member_neither_moves_anothers_cursor_nor_writes_under_its_name() -> None:
    """gamma knows all that beta's mailbox knows of alpha's clerk: its key, its session, and what alpha's node shows for it."""
    world = World("forged-session")
    alpha, beta, gamma = await world.formation(3)
    left, right, mine = await desks(world, alpha, beta, gamma)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    stolen = delivered(alpha, left, right.id, 1 << 50)
    own = delivered(gamma, mine, right.id, 1)
    people_here, who = people(alpha, right.id)
    lies = {
        "with alpha's own voucher": stolen,
        "with a voucher of its own": replace(stolen, voucher=own.voucher),
        "with none": replace(stolen, voucher=b""),
        "with alpha's key and a signature that is none": replace(stolen, voucher=stolen.voucher[:32] + bytes(64)),
        "the session of alpha's clerk": delivered(gamma, mine, right.id, 1, session=stolen.letters[0].session),
        "the address of alpha's clerk": delivered(gamma, mine, right.id, 1, reply_to=address(alpha, left)),
        "its agent, as if it lived on alpha": delivered(gamma, mine, right.id, 1, reply_to=f"{mine.id}@{alpha.key.public.hex()}"),
        "alpha's people": DeliverRequest(right.id, [Letter(people_here, LATER, "alpha", "", pack(["alpha/x", 9, None]))], who),
        "one of two": replace(own, letters=[*own.letters, *stolen.letters]),
    }
    for what, lie in lies.items():
        assert await said(gamma, "mail.deliver", lie, to=beta) == Code.PEER_SPEC, what
    assert state(beta, right)["people"] == {}
    await tell(alpha, left, address(beta, right), 3)
    await world.until(lambda: heard(beta, right, left.name) == 5)
    assert state(beta, right)["wrong"] == [], "nothing was lost, nothing came twice"
    await world.close()


@simulated
async def test_what_a_member_hands_on_for_a_contact_touches_the_contacts_sessions_alone() -> None:
    async with neighbours("forged-border", "inject:beta-clerk") as (world, alpha, beta, xi):
        left, right = await desks(world, alpha, beta)
        (mine,) = await desks(world, xi)
        await tell(beta, right, address(beta, right), 1)
        contact = xi.node.formation
        honest = delivered(xi, mine, right.id, 1, sender="xis/xi/xi-clerk", reply_to=f"{address(xi, mine)}@{contact.hex()}")
        for what, lie in {
            "of nobody": replace(honest, contact=b"x" * 32),
            "of our own": delivered(alpha, left, right.id, 1, sender="xis/xi/xi-clerk"),
            "under another name": delivered(xi, mine, right.id, 1, sender="beta/beta-clerk", reply_to=honest.letters[0].reply_to),
        }.items():
            said_of = await said(alpha, "mail.deliver", replace(lie, contact=lie.contact or contact), to=beta)
            assert said_of in (Code.PEER_SPEC, Code.BUSY), what
        session = session_of(_key(beta, right), right.id)
        lie = delivered(xi, mine, right.id, 1 << 50, sender="xis/xi/xi-clerk", reply_to=honest.letters[0].reply_to, session=session)
        assert await said(alpha, "mail.deliver", replace(lie, contact=contact), to=beta) == ""
        await tell(beta, right, address(beta, right), 2)
        await world.until(lambda: heard(beta, right, right.name) == 3, what="its own session stands where it stood")


@simulated
async def test_a_name_is_what_the_receiver_knows_its_node_by() -> None:
    world = World("forged-name")
    _, beta, gamma = await world.formation(3)
    right, mine = await desks(world, beta, gamma)
    taken: list[str] = []
    take = beta.node.mail.take

    async def note(agent: str, letters: list[Letter], *, is_foreign: bool = False) -> int:
        taken.extend(letter.sender for letter in letters)
        return await take(agent, letters, is_foreign=is_foreign)

    beta.node.mail.take = note  # type: ignore[method-assign]
    for number, sender in enumerate(("alpha/alpha-clerk", "friends/alpha/x", "gamma-clerk"), 1):
        assert await said(gamma, "mail.deliver", delivered(gamma, mine, right.id, number, sender=sender), to=beta) == ""
    session, who = people(gamma, right.id)
    for number, sender in enumerate(("alpha", "friends/theirs"), 1):
        letter = Letter(session, LATER + number, sender, "", pack(["gamma/y", number, None]))
        assert await said(gamma, "mail.deliver", DeliverRequest(right.id, [letter], who), to=beta) == ""
    assert taken == ["gamma/alpha-clerk", "gamma/x", "gamma/gamma-clerk", "gamma", "gamma"]
    await world.close()


@simulated
async def test_a_letter_outlives_its_sender() -> None:
    """The agent that sent it is removed before it arrives: what its node shows for it was made when it was sent."""
    world = World("outlives")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    beta.kill()
    await tell(alpha, left, address(beta, right), 2)
    await alpha.remove_agent(left.name)
    alpha.kill()
    await alpha.start()
    await beta.start()
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await world.close()


def _key(machine: Machine, info: AgentInfo) -> bytes:
    resident = machine.node.host.get(info.id)
    assert resident is not None
    return resident.key.public
