"""The membership of one node, among others that the test plays."""

from __future__ import annotations

import pytest

from skerry.discovery import moves
from skerry.discovery.claims import INCARNATION_MAX
from skerry.discovery.membership import CLAIMS_MAX, HEALTH_MAX
from skerry.discovery.moves import State
from skerry.discovery.ourselves import REFUTATIONS_AT_ONCE, RETURNS_AT_ONCE
from skerry.discovery.suspicion import WITNESSES_MAX
from tests.support.presences import INCARNATION, LAN, Alone, keys


def gone(alone: Alone, number: int = 0) -> None:
    """One of the others is gone for us, in the incarnation that it said first."""
    who, *witnesses = alone.others[number : number + 1] + [o for o in alone.others if o is not alone.others[number]]
    alone.hear(witnesses[0], *[alone.suspect(witness, who) for witness in witnesses])
    alone.pass_time(3.0, answering=True, silent=who)
    assert alone.state(who) is State.GONE


# --- probing ----------------------------------------------------------------------------------------------------------------------


def test_each_second_the_neighbour_is_probed_and_somebody_in_turn() -> None:
    alone = Alone()
    effects = alone.pass_time(30.0, answering=True)
    probed = [effect.node for effect in effects if isinstance(effect, moves.SendProbe)]
    assert 56 <= len(probed) <= 60
    counts = [probed.count(other.public) for other in alone.others]
    assert counts[0] > 30, "the neighbour on the ring is the first of the others"
    assert all(4 <= count <= 8 for count in counts[1:]), "the others in turn"
    assert all(not effect.claims for effect in effects if isinstance(effect, moves.SendProbe)), "nothing is said where nothing is new"
    assert not [effect for effect in effects if isinstance(effect, moves.Tell)]


def test_who_does_not_answer_is_looked_for_by_helpers_then_suspected_then_gone() -> None:
    alone = Alone()
    silent = alone.others[0]
    while not alone.probes_of(silent):
        alone.pass_time(0.05, answering=True, silent=silent)
    (probe,) = [e for e in alone.effects if isinstance(e, moves.SendProbe) and e.node == silent.public]
    alone.pass_time(LAN.direct_s + 0.1, answering=True, silent=silent)
    helpers = [e for e in alone.effects if isinstance(e, moves.AskToProbe)]
    assert [e.number for e in helpers] == [probe.number] * LAN.helpers
    assert silent.public not in {e.helper for e in helpers}
    assert alone.state(silent) is State.ALIVE
    alone.pass_time(0.5, answering=True, silent=silent)
    assert alone.state(silent) is State.SUSPECT
    alone.pass_time(2 * LAN.suspicion_s, answering=True, silent=silent)
    assert alone.state(silent) is State.SUSPECT, "nobody confirms it: it lasts three times as long"
    alone.pass_time(LAN.suspicion_s, answering=True, silent=silent)
    assert alone.state(silent) is State.GONE
    shown = [(e.state, e.before) for e in alone.effects if isinstance(e, moves.Show)]
    assert shown == [(State.SUSPECT, State.ALIVE), (State.GONE, State.SUSPECT)]


def test_one_helper_who_reaches_it_is_enough() -> None:
    alone = Alone()
    silent = alone.others[0]
    for _ in range(40):
        for effect in alone.pass_time(0.25):
            if isinstance(effect, moves.SendProbe) and effect.node != silent.public:
                alone.do(moves.ProbeAnswered(effect.node, effect.number, ()))
            elif isinstance(effect, moves.AskToProbe):
                alone.do(moves.HelperAnswered(effect.number, True))
    assert alone.state(silent) is State.ALIVE


def test_a_broken_link_whose_node_refuses_is_suspected_at_once() -> None:
    alone = Alone()
    lost, *others = alone.others
    (probe,) = alone.do(moves.LinkLost(lost.public))
    assert isinstance(probe, moves.SendProbe)
    helpers = alone.do(moves.ProbeFailed(lost.public, probe.number))
    assert alone.state(lost) is State.ALIVE
    for effect in helpers:
        assert isinstance(effect, moves.AskToProbe)
        alone.do(moves.HelperAnswered(effect.number, False))
    assert alone.state(lost) is State.SUSPECT
    assert alone.machine.health == 0, "it is not our ears"
    alone.hear(others[0], *[alone.suspect(other, lost) for other in others])
    alone.pass_time(LAN.suspicion_s, answering=True, silent=lost)
    assert alone.state(lost) is State.GONE, "all others confirm it: it lasts no longer than it must"


def test_a_late_answer_says_something_and_is_no_sign_of_life() -> None:
    alone = Alone()
    who = alone.others[0]
    gone(alone)
    old = next(e.number for e in alone.effects if isinstance(e, moves.SendProbe) and e.node == who.public)
    alone.do(moves.ProbeAnswered(who.public, old, ()))
    assert alone.state(who) is State.GONE
    alone.do(moves.ProbeAnswered(who.public, old, (alone.alive(who, INCARNATION + 1).data,)))
    assert alone.state(who) is State.ALIVE


# --- suspicion and refutation -----------------------------------------------------------------------------------------------------


def test_a_refutation_ends_the_suspicion_and_older_words_do_not_bring_it_back() -> None:
    alone = Alone()
    who, witness, other = alone.others[:3]
    alone.hear(witness, alone.suspect(witness, who))
    assert alone.state(who) is State.SUSPECT
    alone.hear(other, alone.alive(who, INCARNATION + 1))
    assert alone.state(who) is State.ALIVE
    effects = alone.hear(witness, alone.suspect(witness, who), alone.suspect(other, who))
    assert alone.state(who) is State.ALIVE
    assert moves.Tell(witness.public, (alone.alive(who, INCARNATION + 1).data,)) in effects, "whoever says the old hears the new"


def test_we_refute_what_is_said_of_us_and_only_of_what_we_said() -> None:
    alone = Alone()
    witness = alone.others[0]
    (answer,) = alone.do(moves.Probed(witness.public, (alone.suspect(witness, alone.key).data,)))
    assert alone.machine.incarnation == INCARNATION + 1
    assert answer == moves.Answer((alone.alive(alone.key, INCARNATION + 1).data,))
    assert alone.machine.health == 1
    for incarnation in (INCARNATION, INCARNATION + 2, INCARNATION_MAX):  # old, and of a life that never was
        alone.hear(witness, alone.suspect(witness, alone.key, incarnation))
        assert alone.machine.incarnation == INCARNATION + 1


def test_our_own_word_of_an_earlier_life_is_outbid() -> None:
    alone = Alone()
    alone.hear(alone.others[0], alone.away(alone.key, INCARNATION + 50))
    assert alone.machine.incarnation == INCARNATION + 51
    assert alone.alive(alone.key, INCARNATION + 51).data in alone.said(moves.Tell, alone.others[0])


def test_two_processes_with_our_key_do_not_outbid_each_other_without_end() -> None:
    alone = Alone()
    neighbour = alone.others[0]
    alone.effects.clear()
    for _ in range(200):
        alone.hear(neighbour, alone.alive(alone.key, alone.machine.incarnation + 1))
    assert alone.machine.incarnation == INCARNATION + 2 * RETURNS_AT_ONCE
    assert sum(isinstance(effect, moves.Tell) for effect in alone.effects) == RETURNS_AT_ONCE
    alone.hear(neighbour, alone.suspect(neighbour, alone.key, alone.machine.incarnation))
    assert alone.machine.incarnation == INCARNATION + 2 * RETURNS_AT_ONCE + 1, "what others say is refuted all the same"


def test_a_probe_of_a_suspect_tells_it_so() -> None:
    alone = Alone()
    who, witness = alone.others[:2]
    doubt = alone.suspect(witness, who)
    alone.hear(witness, doubt)
    alone.pass_time(2.0)
    assert doubt.data in alone.said(moves.SendProbe, who)
    assert doubt.data in alone.machine.claims_for(who.public), "and so does one that it helps with"


def test_who_answers_us_is_not_gone_whatever_others_say() -> None:
    alone = Alone()
    who, *liars = alone.others
    for _ in range(10):
        alone.hear(liars[0], *[alone.suspect(liar, who) for liar in liars])
        alone.pass_time(1.0, answering=True)
    assert not [effect for effect in alone.effects if isinstance(effect, moves.Show) and effect.state is State.GONE]
    alone.pass_time(4.0, answering=True)
    assert alone.state(who) is State.ALIVE


def test_who_belongs_no_more_is_no_witness() -> None:
    alone = Alone()
    who, witness, *others = alone.others
    alone.hear(witness, alone.suspect(witness, who))
    alone.do(moves.MembersChanged(frozenset(other.public for other in (who, *others))))
    alone.pass_time(2.0, answering=True)
    assert alone.state(who) is State.ALIVE, "nobody doubts it any more, and it answers"


def test_we_refute_also_whom_we_do_not_know_yet() -> None:
    alone = Alone(4)
    newcomer = next(pair for pair in keys(9) if pair.public not in {o.public for o in [*alone.others, alone.key]})
    alone.hear(alone.others[0], alone.suspect(newcomer, alone.key))
    assert alone.machine.incarnation == INCARNATION + 1


def test_a_liar_alone_makes_nobody_gone_before_it_can_refute() -> None:
    alone = Alone()
    who, liar = alone.others[:2]
    alone.hear(liar, alone.suspect(liar, who))
    alone.pass_time(1.9 * LAN.suspicion_s, answering=True, silent=who)  # even where we can't reach it either
    assert alone.state(who) is State.SUSPECT


def test_nobody_speaks_for_another() -> None:
    alone = Alone()
    who, liar = alone.others[:2]
    forged = bytearray(alone.suspect(liar, who).data)
    forged[41:73] = alone.others[2].public  # in the name of another witness
    alone.do(moves.Told(liar.public, (bytes(forged),)))
    assert alone.state(who) is State.ALIVE
    gone(alone)
    back = bytearray(alone.alive(liar, INCARNATION + 9).data)
    back[1:33] = back[41:73] = who.public
    alone.do(moves.Told(liar.public, (bytes(back),)))
    assert alone.state(who) is State.GONE


def test_claims_are_about_members_by_members_from_members() -> None:
    alone = Alone()
    member = alone.others[0]
    (stranger,) = [pair for pair in keys(9) if pair.public not in {o.public for o in [*alone.others, alone.key]}][:1]
    alone.hear(member, alone.alive(stranger, 5), alone.suspect(stranger, member), alone.suspect(member, stranger))
    alone.hear(stranger, alone.suspect(member, alone.others[1]))
    alone.hear(stranger, alone.suspect(stranger, alone.key))
    assert alone.state(stranger) is None
    assert {alone.state(other) for other in alone.others} == {State.ALIVE}
    assert alone.machine.incarnation == INCARNATION


def test_what_a_peer_can_make_us_hold_and_say_is_bounded() -> None:
    alone = Alone(others=12)
    liar = alone.others[0]
    for number in range(50):
        alone.hear(liar, *[alone.suspect(liar, whom, INCARNATION) for whom in alone.others[1:]])
        alone.hear(liar, alone.suspect(liar, alone.key, alone.machine.incarnation))
        alone.do(moves.Told(liar.public, tuple(bytes([number % 4]) * size for size in (0, 136, 137, 138, 60_000))))
    assert alone.machine.held_claims <= (len(alone.others) + 1) * (WITNESSES_MAX + 1)
    assert alone.machine.incarnation <= INCARNATION + REFUTATIONS_AT_ONCE + 1
    said = [effect for effect in alone.effects if isinstance(effect, (moves.Tell, moves.SendProbe))]
    assert max(len(effect.claims) for effect in said) <= 2 * CLAIMS_MAX


# --- coming and going -------------------------------------------------------------------------------------------------------------


def test_gone_stays_gone_until_it_says_something_new_or_answers() -> None:
    alone = Alone()
    who, other = alone.others[:2]
    gone(alone)
    assert alone.do(moves.LinkLost(who.public)) == []
    alone.hear(other, alone.alive(who, INCARNATION), alone.alive(who, INCARNATION - 1), alone.suspect(other, who))
    alone.pass_time(60.0, answering=True, silent=who)
    assert alone.state(who) is State.GONE
    assert not [e for e in alone.pass_time(30.0, answering=True) if isinstance(e, moves.SendProbe) and e.node == who.public]
    alone.effects.clear()
    alone.do(moves.LinkOpened(who.public))
    assert alone.state(who) is State.GONE, "a link is not yet an answer"
    epitaph = {alone.suspect(witness, who).data for witness in alone.others if witness is not who}
    assert epitaph & alone.said(moves.SendProbe, who), "it hears what was said of it"
    alone.answer(who)
    assert alone.state(who) is State.ALIVE


def test_who_is_gone_and_yet_linked_is_asked_again_until_it_answers() -> None:
    alone = Alone()
    who = alone.others[2]
    gone(alone, 2)
    alone.do(moves.LinkOpened(who.public))
    alone.pass_time(3.0, answering=True, silent=who)  # its greeting got lost
    assert alone.state(who) is State.GONE
    alone.pass_time(12.0, answering=True)
    assert alone.state(who) is State.ALIVE


def test_away_is_no_crash_and_ends_with_a_newer_word() -> None:
    alone = Alone()
    who, witness = alone.others[:2]
    alone.hear(who, alone.away(who, INCARNATION + 1))
    assert alone.state(who) is State.AWAY
    assert alone.do(moves.LinkLost(who.public)) == []
    alone.hear(witness, alone.suspect(witness, who, INCARNATION + 1))
    alone.pass_time(60.0, answering=True)
    assert alone.state(who) is State.AWAY
    alone.hear(witness, alone.alive(who, INCARNATION))
    assert alone.state(who) is State.AWAY
    alone.hear(witness, alone.alive(who, INCARNATION + 2))
    assert alone.state(who) is State.ALIVE


def test_who_goes_tells_everybody_probes_nobody_and_comes_back() -> None:
    alone = Alone()
    tells = alone.do(moves.WentAway())
    away = alone.away(alone.key, INCARNATION + 1).data
    assert tells == [moves.Tell(other.public, (away,)) for other in alone.others]
    assert not [e for e in alone.pass_time(10.0) if isinstance(e, moves.SendProbe)]
    alone.hear(alone.others[0], alone.suspect(alone.others[0], alone.key, INCARNATION + 1))
    assert alone.away(alone.key, INCARNATION + 2).data in alone.said(moves.Tell, alone.others[0])
    assert moves.Tell(alone.others[0].public, (alone.alive(alone.key, INCARNATION + 3).data,)) in alone.do(moves.CameBack())
    assert [e for e in alone.pass_time(3.0) if isinstance(e, moves.SendProbe)]


def test_who_was_never_heard_of_has_its_time_to_show_itself() -> None:
    alone = Alone(greeted=False)
    here, missing = alone.others[:2]
    assert alone.state(here) is State.SUSPECT
    alone.do(moves.LinkOpened(here.public))
    alone.answer(here, alone.alive(here, 7))
    assert alone.state(here) is State.ALIVE
    assert alone.machine.incarnation_of(here.public) == 7
    alone.pass_time(20.0)
    assert alone.state(missing) is State.GONE


def test_who_belongs_no_more_is_forgotten_and_may_come_again() -> None:
    alone = Alone()
    who, *others = alone.others
    alone.hear(others[0], alone.suspect(others[0], who))
    alone.do(moves.MembersChanged(frozenset(other.public for other in others)))
    assert alone.state(who) is None
    alone.hear(who, alone.suspect(who, others[0]))
    assert alone.state(others[0]) is State.ALIVE
    alone.do(moves.MembersChanged(frozenset(other.public for other in alone.others)))
    assert alone.state(who) is State.SUSPECT


# --- our own ears -----------------------------------------------------------------------------------------------------------------


def test_a_node_that_stood_still_counts_that_time_for_nobody() -> None:
    alone = Alone()
    who, witness = alone.others[:2]
    alone.hear(witness, alone.suspect(witness, who))
    alone.pass_time(0.7)
    alone.now_s += 30.0  # nothing of us ran
    alone.do(moves.TimePassed())
    assert alone.state(who) is State.SUSPECT
    assert alone.machine.health > 0
    assert {alone.state(other) for other in alone.others if other is not who} == {State.ALIVE}


@pytest.mark.parametrize("helped", [True, False])
def test_a_node_that_nobody_answers_trusts_its_ears_less(helped: bool) -> None:
    alone = Alone()
    for _ in range(8):
        for effect in alone.pass_time(0.5):
            if helped and isinstance(effect, moves.AskToProbe):
                alone.do(moves.HelperAnswered(effect.number, False))
    assert alone.machine.health == (0 if helped else HEALTH_MAX), "helpers who say no are heard"
    if not helped:
        alone.effects.clear()
        alone.pass_time(10.0)
        assert len([e for e in alone.effects if isinstance(e, moves.SendProbe)]) <= 6, "it probes at a fifth of the pace"
        alone.pass_time(60.0, answering=True)
        assert alone.machine.health == 0
