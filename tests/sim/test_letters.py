"""Letters in simulated worlds, one misfortune a test: full disks, backups, lost power, names that come back, workers that misbehave."""

from __future__ import annotations

import asyncio

import pytest

from skerry.agents.letters import LETTER_BYTES_MAX, HearReply, Letter, MeshSendRequest, Outgoing
from skerry.agents.mailbox import CURSORS
from skerry.errors import Code, Refused, SkerryError, StorageError
from skerry.identity.codec import pack
from skerry.node.wire_rounds import ROUND_S
from skerry.sim.world import World
from skerry.wiring.aside import SPACE as ASIDE
from skerry.wiring.outbox import SPACE, Entry
from skerry.wiring.verbs import LetterInfo, LetterNames, SendRequest
from tests.support.clerks import address, desks, heard, state, tell, wire, wires
from tests.support.links import simulated

SETTLES_S = 2 * ROUND_S + 5


@simulated
async def test_a_disk_that_is_full_at_the_commit_costs_time_and_no_letter() -> None:
    world = World("full-at-the-commit")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 3, echo=True)
    await world.until(lambda: heard(alpha, left, right.name) == 3)
    beta.disk.is_full = True
    await tell(alpha, left, address(beta, right), 5, echo=True)
    await asyncio.sleep(20)
    assert heard(beta, right, left.name) == 3
    beta.disk.is_full = False
    await world.until(lambda: heard(beta, right, left.name) == 8, 60.0)
    await world.until(lambda: heard(alpha, left, right.name) == 8)
    assert state(beta, right)["wrong"] == state(alpha, left)["wrong"] == []
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack(["alpha/x", 1, None])))
    with pytest.raises(SkerryError):
        await tell(alpha, left, address(beta, right), 5)
    await asyncio.sleep(5)
    alpha.disk.is_full = False
    await asyncio.sleep(5)
    await tell(alpha, left, address(beta, right), 1)
    await world.until(lambda: heard(beta, right, left.name) == 9, 60.0)
    assert state(beta, right)["wrong"] == [], "of what could not be kept neither the number nor the letter is there"
    await world.close()


@simulated
async def test_a_sender_whose_home_comes_from_a_backup_is_heard_again() -> None:
    """Its clock was ahead when it wrote what the backup does not hold: without new numbers nothing of it would be heard for a minute."""
    world = World("sender-restored")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await asyncio.sleep(2)
    backup = alpha.disk.image()
    alpha.clock.step(60_000)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 4)
    alpha.clock.step(-60_000)
    alpha.kill()
    alpha.disk.restore(backup)
    await alpha.start()
    await world.until(lambda: world.is_whole([alpha, beta]))
    await asyncio.sleep(5)
    await tell(alpha, left, address(beta, right), 3)  # numbers 3 to 5 of what the restored clerk remembers
    await world.until(lambda: heard(beta, right, left.name) == 5, 20.0, what="those written since are heard, at once")
    assert state(beta, right)["wrong"] == [[left.name, 4, 3]], "they follow what the backup forgot; all three came, each once"
    await asyncio.sleep(10)
    assert alpha.node.mail.outbox.sessions() == []
    await world.close()


@simulated
async def test_a_receiver_whose_home_comes_from_a_backup_is_whole_in_itself() -> None:
    """State, cursor and what was sent go back together."""
    world = World("receiver-restored")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await asyncio.sleep(2)
    backup = beta.disk.image()
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 4)
    beta.kill()
    await tell(alpha, left, address(beta, right), 2)  # while it is away
    beta.disk.restore(backup)
    await beta.start()
    await world.until(lambda: heard(beta, right, left.name) == 6, 60.0)
    assert state(beta, right)["wrong"] == [[left.name, 2, 5]], "what it had said that it handled is gone with the disk; all else came once"
    await world.close()


@simulated
async def test_a_sender_that_loses_its_power_with_a_clock_that_was_ahead_is_heard_again() -> None:
    world = World("lost-power-ahead")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    alpha.clock.step(100_000)
    stream = "alpha/people"
    await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 1, None])))
    await world.until(lambda: state(beta, right)["people"].get(stream) == [1])
    while True:  # until the power takes that commit along
        alpha.crash()
        if alpha.has_lost_commits and alpha.disk.fact("outbox-meta", "stamp") is None:
            break
        await alpha.start()
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 1, None])))
    alpha.clock.step(-100_000)
    await alpha.start()
    await world.until(lambda: world.is_whole([alpha, beta]))
    await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, 2, None])))
    await world.until(lambda: state(beta, right)["people"][stream][-1] == 2, 20.0)
    await world.close()


@simulated
async def test_an_agent_that_is_made_anew_under_its_name_starts_with_no_past() -> None:
    world = World("made-anew")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    await tell(alpha, left, address(beta, right), 2)
    await world.until(lambda: heard(beta, right, left.name) == 2)
    await beta.remove_agent(right.name)
    assert beta.node.ports.store.facts(CURSORS + right.id) == []
    await tell(alpha, left, address(beta, right), 1)  # to the one that is gone
    await world.until(lambda: len(alpha.node.ports.store.facts(ASIDE)) == 1)
    assert b"not on this node any more" in alpha.node.ports.store.facts(ASIDE)[0][1]
    await world.until(lambda: wires(alpha) == [], SETTLES_S)
    again = await beta.run_agent("Clerk", right.name)
    assert again.id != right.id
    await world.until(lambda: alpha.knows_agent(again.name))
    await asyncio.sleep(3)
    await tell(alpha, left, address(beta, again), 2)
    await world.until(lambda: heard(beta, again, left.name) == 2)
    assert state(beta, again)["wrong"] == []
    assert wires(alpha) == wires(beta) == [], "a wire is bound to the agent, not to its name"
    await world.close()


@simulated
async def test_a_node_that_only_starts_refuses_no_letter_for_good() -> None:
    """Between its door and its agents, and while an agent can't start, letters wait."""
    world = World("only-starts")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    beta.kill()
    await tell(alpha, left, address(beta, right), 2)
    await beta.start()
    for _ in range(20):  # its first starts all end
        for worker in beta.executor.workers():
            worker.kill()
        await asyncio.sleep(0.05)
    resident = beta.node.host.get(right.id)
    assert resident is not None
    assert resident.hears is None or resident.hears
    await world.until(lambda: heard(beta, right, left.name) == 2, 60.0)
    assert alpha.node.ports.store.facts(ASIDE) == []
    beta.node.running = False  # as before its agents are there, and at its end
    with pytest.raises(Refused) as refused:
        await beta.node.mail.take(right.id, [])
    assert refused.value.code == Code.SHUTTING_DOWN
    beta.node.running = True
    await world.close()


@simulated
async def test_a_deliver_that_is_given_up_leaves_nothing_and_the_letter_is_handled_all_the_same() -> None:
    world = World("given-up")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await beta.stop_agent(right.name)
    await beta.start_agent(right.name)
    for worker in beta.executor.workers():
        worker.kill()
    await tell(alpha, left, address(beta, right), 3)
    await asyncio.sleep(0.05)
    world.network.cut("alpha", "beta")
    await asyncio.sleep(10)
    world.heal()
    await world.until(lambda: heard(beta, right, left.name) == 3, 60.0)
    await world.until(lambda: alpha.node.mail.outbox.sessions() == [])
    assert [box.waiting for box in beta.node.mail._boxes.values()] == [[]]
    assert beta.node.ports.store.facts(SPACE) == []
    await world.close()


@simulated
@pytest.mark.parametrize(
    "reply",
    [
        HearReply(99),
        HearReply(-1),
        HearReply(0, failed="x", failed_at=-5),
        HearReply(0, failed="x", failed_at=99),
        HearReply(1, sent=[Outgoing("nobody", b"\x01")]),
        HearReply(1, sent=[Outgoing("ab" * 16 + "@" + "cd" * 32, bytes(LETTER_BYTES_MAX + 1))]),
    ],
)
async def test_a_worker_that_says_what_can_not_be_ends_nothing_but_itself(reply: HearReply) -> None:
    world = World("bad-worker")
    (alpha,) = await world.formation(1)
    (info,) = await desks(world, alpha)
    resident = alpha.node.host.get(info.id)
    assert resident is not None
    hear = resident.hear

    async def lie(letters: list[Letter], *, timeout_s: float) -> HearReply:
        resident.hear = hear  # type: ignore[method-assign]
        return reply

    resident.hear = lie  # type: ignore[method-assign]
    await alpha.ask("mail.send", SendRequest(info.id, pack(["alpha/x", 1, None])))
    await alpha.ask("mail.send", SendRequest(info.id, pack(["alpha/x", 2, None])))
    await world.until(lambda: 2 in state(alpha, info)["people"].get("alpha/x", []), 60.0)
    await world.until(lambda: alpha.node.mail.outbox.sessions() == [])
    assert len(alpha.node.mail.outbox) == 0
    await world.close()


@simulated
async def test_an_address_that_is_none_is_refused_and_not_remembered() -> None:
    world = World("addresses")
    (alpha,) = await world.formation(1)
    (info,) = await desks(world, alpha)
    for wrong in ("", "a/b/c/d", "x" * 10_000, "/", "a//b", f"{info.id}@" + " " * 5000 + alpha.key.public.hex()):
        with pytest.raises(SkerryError):
            await alpha.ask("mail.send", SendRequest(wrong, pack(1)))
    for content in (b"", b"\xff", bytes(LETTER_BYTES_MAX + 1), pack({1, 2}), pack(2**80)):
        with pytest.raises(SkerryError):
            await alpha.ask("mail.send", SendRequest(info.id, content))
    assert alpha.node.addressees._known.keys() <= {info.id}
    assert len(alpha.node.mail.outbox) == 0
    await world.close()


@simulated
async def test_letters_of_one_moment_keep_their_order_whichever_way_they_are_kept() -> None:
    """One is sent and waits for the next commit; what a handler sent is kept before that."""
    world = World("one-moment")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    mail, resident = alpha.node.mail, alpha.node.host.get(left.id)
    assert resident is not None
    to = address(beta, right)

    async def both(_: object) -> None:
        first = asyncio.create_task(mail.send_for(resident, MeshSendRequest(to, pack(["alpha/x", 1, None]))))
        while not mail._written:
            await asyncio.sleep(0)
        mail.keep(resident, [], [Outgoing(to, pack(["alpha/x", 2, None]))])
        await first

    await alpha.within(both)
    await world.until(lambda: state(beta, right)["people"].get("alpha/x") == [1, 2])
    alpha.disk.is_full = True

    async def full(_: object) -> None:
        first = asyncio.create_task(mail.send_for(resident, MeshSendRequest(to, pack(["alpha/x", 3, None]))))
        while not mail._written:
            await asyncio.sleep(0)
        with pytest.raises(StorageError):
            mail.keep(resident, [], [Outgoing(to, pack(["alpha/x", 4, None]))])
        with pytest.raises(StorageError):
            await first

    await alpha.within(full)
    alpha.disk.is_full = False
    assert mail.outbox.sessions() == []
    await world.close()


@simulated
async def test_a_session_holds_no_more_than_it_may_however_many_send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for room hears of it in one moment with all others."""
    monkeypatch.setattr("skerry.wiring.outbox.SESSION_LETTERS_MAX", 20)
    world = World("at-once")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    await beta.stop_agent(right.name)
    outbox = alpha.node.mail.outbox
    most = 0
    note = outbox.note

    def noted(entry: Entry) -> None:
        nonlocal most
        note(entry)
        most = max(most, len(outbox))

    outbox.note = noted  # type: ignore[method-assign]

    async def send(number: int) -> str:
        try:
            await alpha.ask("mail.send", SendRequest(address(beta, right), pack(["alpha/x", number, None])))
        except Refused as error:
            return str(error.code)
        return ""

    sending = [asyncio.create_task(send(number)) for number in range(200)]
    await asyncio.sleep(3)
    assert most == 20
    await beta.start_agent(right.name)
    said = await asyncio.gather(*sending)
    assert most == 20
    await world.until(lambda: sorted(state(beta, right)["people"].get("alpha/x", [])) == [n for n in range(200) if not said[n]])
    assert said.count("") >= 100, "room that was made was used"
    await world.until(lambda: len(outbox) == 0)
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await send(1)
    assert outbox._coming == {}
    alpha.disk.is_full = False
    await world.close()


@simulated
async def test_a_failed_letter_that_is_tried_again_takes_no_place_of_its_senders() -> None:
    """The receiver's clock is ahead: a number that it gave in the sender's session would hide all that the sender says next."""
    world = World("tried-again")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    stream = "alpha/people"

    async def say(content: object) -> None:
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack(content)))

    def aside() -> list[LetterInfo]:
        return beta.node.mail.undelivered.listed(100).letters

    await say([stream, 1, None])
    await say("no letter for a clerk")
    await world.until(lambda: [one.state for one in aside()] == ["failed"], 60.0)
    beta.clock.step(100_000)
    (before,) = aside()
    (sent,) = (await beta.ask("letter.retry", LetterNames([]))).letters
    assert (sent.state, sent.sender) == ("waiting", before.sender)
    await world.until(lambda: [one.state for one in aside()] == ["failed"], 60.0)
    assert aside()[0].id == sent.id
    beta.clock.step(-100_000)
    await say([stream, 2, None])
    await world.until(lambda: state(beta, right)["people"].get(stream) == [1, 2], 30.0)
    await beta.remove_agent(right.name)
    with pytest.raises(SkerryError) as refused:
        await beta.ask("letter.retry", LetterNames([sent.id]))
    assert refused.value.code == Code.UNKNOWN_MEMBER
    assert [one.id for one in (await beta.ask("letter.drop", LetterNames([sent.id]))).letters] == [sent.id]
    assert aside() == []
    await world.close()


@simulated
async def test_what_could_not_be_delivered_goes_once_it_can() -> None:
    """A right that a contact, or a grant, did not have when the letter was sent."""
    world = World("delivered-later")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    stream = "alpha/people"
    take = beta.node.mail.take

    async def refuse(*_: object, is_foreign: bool) -> int:
        raise Refused("not today", code=Code.NO_COMMS)

    beta.node.mail.take = refuse  # type: ignore[assignment]
    for number in (1, 2):
        await alpha.ask("mail.send", SendRequest(address(beta, right), pack([stream, number, None])))
    await world.until(lambda: (found := alpha.node.mail.undelivered.listed(100)).aside == 2 and not found.waiting, 30.0)
    assert {one.reason for one in alpha.node.mail.undelivered.listed(100).letters} == {"not today"}
    beta.node.mail.take = take  # type: ignore[method-assign]
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await alpha.ask("letter.retry", LetterNames([]))
    alpha.disk.is_full = False
    assert alpha.node.mail.undelivered.listed(100).aside == 2, "a full disk loses none"
    await alpha.ask("letter.retry", LetterNames([]))
    await world.until(lambda: state(beta, right)["people"].get(stream) == [1, 2], 30.0)
    assert alpha.node.mail.undelivered.listed(100).letters == []
    await world.close()
