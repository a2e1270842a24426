"""Who is alive: SWIM with Lifeguard over the links of a formation, as a machine.

A probe that nobody answers, directly or through helpers, makes its sender a *witness*: it says, signed, that it suspects the node. A
suspicion lasts the shorter the more witnesses there are, and then each node concludes for itself that the other is gone. Who hears that it
is suspected says that it is alive, in a higher incarnation; that ends the suspicion everywhere. News travels with probes and their answers,
and to some others at once while there is any.

What Lifeguard adds: a node whose own probes fail, or that is suspected itself, trusts its own ears less (`health`) and waits longer; a
probe of a suspect tells it so; suspicions end sooner when others confirm them. And one thing more: a node that stood still (its own timer
comes late) counts that time for nobody.

Whom the formation consists of is known from its grants: a claim about anybody else is passed over. What one peer may make us check, say
and keep is bounded; incarnations, and coming back, are signed by whom they are about.

The rule: gone stays gone until it says something newer itself, or answers us; no word about one incarnation touches a later one.
"""

from __future__ import annotations

from typing import assert_never

from skerry.discovery import moves
from skerry.discovery.claims import Claim, Word, read
from skerry.discovery.members import Member, Members
from skerry.discovery.moves import Claims, State
from skerry.discovery.news import News
from skerry.discovery.ourselves import Ourselves
from skerry.discovery.probes import Fraction, Probe, Probes, shuffled
from skerry.discovery.profiles import PATIENCE, Profile
from skerry.discovery.scrutiny import Scrutiny
from skerry.discovery.suspicion import Suspicion
from skerry.identity.keys import KeyPair

CLAIMS_MAX = 8  # of a kind in one message: with what belongs to them 2.2 KB
HEALTH_MAX = 4  # a node that trusts its ears least waits five times as long
LATE_S = 0.25  # so late no timer comes in a process that runs
CHECKERS = 8  # nodes, of all, that look for themselves when they hear of a suspicion: enough witnesses, however many nodes there are
NOT_NOW_S = float("inf")


class Membership:
    """What one node knows of the others' presence. `next_s` says when to call with `TimePassed`."""

    def __init__(self, key: KeyPair, formation: bytes, *, profile: Profile, incarnation: int, fraction: Fraction, now_s: float) -> None:
        """`incarnation`: above those of earlier lives, as far as is known; the time of the start will do."""
        self.health = 0  # 0: our own ears are good
        self.next_s = NOT_NOW_S
        self._us = Ourselves(key, formation, incarnation=incarnation)
        self._ours = key.public
        self._profile = profile
        self._fraction = fraction
        self._members = Members()
        self._linked: dict[bytes, None] = {}
        self._probes = Probes(self._ours, fraction)
        self._news = News()
        self._scrutiny = Scrutiny(formation)
        self._effects: list[moves.Effect] = []
        self._replies: dict[bytes, dict[bytes, None]] = {}  # to whom, claims
        self._near_s, self._round_s = (now_s + (1 + fraction()) * profile.probe_s for _ in range(2))  # by then the links are there
        self._gossip_s = NOT_NOW_S
        self._news.add(self._us.claim)

    @property
    def incarnation(self) -> int:
        return self._us.incarnation

    @property
    def is_away(self) -> bool:
        return self._us.is_away

    @property
    def held_claims(self) -> int:
        return len(self._news) + sum(len(suspicion.witnesses) for _, suspicion in self._members.suspects())

    def states(self) -> dict[bytes, State]:
        return {member.node: member.state for member in self._members}

    def state_of(self, node: bytes) -> State | None:
        """None: it is no member."""
        member = self._members.get(node)
        return member.state if member is not None else None

    def incarnation_of(self, node: bytes) -> int:
        member = self._members.get(node)
        return member.incarnation if member is not None else 0

    def claims_for(self, node: bytes) -> Claims:
        """What a node should hear that we, or somebody through us, probe: what is said of it, then news."""
        member = self._members.get(node)
        about: dict[bytes, None] = {}
        if member is not None and member.state is not State.ALIVE:
            doubts = list(member.suspicion.witnesses.values())[:1] if member.suspicion is not None else []
            about.update((claim.data, None) for claim in (member.said, member.epitaph, *doubts) if claim is not None)
        return self._with_news(about)

    # --- the machine ----------------------------------------------------------------------------------------------------------

    def handle(self, event: moves.Event, *, now_s: float) -> list[moves.Effect]:
        """Everything goes through here. Times are seconds of one clock that never goes back."""
        self._wake(now_s)
        match event:
            case moves.MembersChanged(nodes):
                self._set_members(nodes, now_s)
            case moves.LinkOpened(node):
                self._linked[node] = None
                self._meet(node, now_s)
            case moves.LinkClosed(node):
                self._linked.pop(node, None)
            case moves.LinkLost(node):
                self._linked.pop(node, None)
                self._check(self._members.get(node), now_s)
            case moves.Probed(sender, claims):
                self._learn(sender, claims, now_s)
                self._effects.append(moves.Answer(self._with_news(self._replies.pop(sender, {}))))
            case moves.Told(sender, claims):
                self._learn(sender, claims, now_s)
            case moves.ProbeAnswered(node, number, claims):
                self._answered(node, number, claims, now_s)
            case moves.ProbeFailed(node, number):
                self._refused(node, number, now_s)
            case moves.HelperAnswered() | moves.HelperFailed():
                self._helped(event, now_s)
            case moves.TimePassed():
                self._look(now_s)
            case moves.WentAway():
                self._go(away=True)
            case moves.CameBack():
                self._go(away=False)
            case _:
                assert_never(event)
        return self._finish(now_s)

    def _finish(self, now_s: float) -> list[moves.Effect]:
        self._effects += [moves.Tell(node, tuple(claims)[: 2 * CLAIMS_MAX]) for node, claims in self._replies.items()]
        self._replies.clear()
        if len(self._news) and self._linked and self._gossip_s == NOT_NOW_S:
            self._gossip_s = now_s + self._fraction() * self._profile.gossip_s
        due_s = [self._gossip_s, self._probes.next_s, *(suspicion.ends_s for _, suspicion in self._members.suspects())]
        if self._members.ring and not self.is_away:
            due_s += [self._near_s, self._round_s]
        self.next_s = min(due_s)
        effects, self._effects = self._effects, []
        return effects

    def _wake(self, now_s: float) -> None:
        """We stood still where our own timer is late: nobody else was silent in that time."""
        late_s = now_s - self.next_s
        if late_s > LATE_S:
            self._near_s += late_s
            self._round_s += late_s
            self._gossip_s += late_s
            self._probes.shift(late_s)
            for _, suspicion in self._members.suspects():
                suspicion.began_s += late_s
            self._feel(1)

    # --- members --------------------------------------------------------------------------------------------------------------

    def _set_members(self, nodes: frozenset[bytes], now_s: float) -> None:
        gone = [member.node for member in self._members if member.node not in nodes]
        for node in gone:
            self._scrutiny.forget(node)
            self._news.drop(node)
            self._probes.drop(node)
        self._members.drop(gone)
        for _, suspicion in self._members.suspects():
            suspicion.forget(gone)
        for node in sorted(nodes - {self._ours}):
            if node not in self._members:
                self._members.add(node, self._suspicion(now_s, present=len(nodes) + 1))
                if node in self._linked:
                    self._meet(node, now_s)

    def _suspicion(self, now_s: float, *, present: int) -> Suspicion:
        shortest_s = self._profile.least_suspicion_s(present)
        wanted = max(min(self._profile.confirmations, present - 2), 0)
        return Suspicion(began_s=now_s, shortest_s=shortest_s, longest_s=shortest_s * PATIENCE, wanted=wanted)

    def _turn(self, member: Member, state: State, *, suspicion: Suspicion | None = None, epitaph: Claim | None = None) -> None:
        before = self._members.turn(member, state, suspicion=suspicion, epitaph=epitaph)
        if state is not before:
            self._effects.append(moves.Show(member.node, state, before))

    # --- probing --------------------------------------------------------------------------------------------------------------

    def _meet(self, node: bytes, now_s: float) -> None:
        """A link is there: say who we are, and hear it of the other."""
        if node in self._members:
            self._probe(node, now_s, first=self._us.claim)

    def _check(self, member: Member | None, now_s: float) -> None:
        """Look for ourselves whether it is there. Who is absent and yet linked may have come back unheard."""
        if member is not None and (member.is_present or member.node in self._linked) and not self.is_away:
            self._probe(member.node, now_s)

    def _probe(self, node: bytes, now_s: float, *, first: Claim | None = None) -> None:
        if self._probes.of(node) is not None:
            if first is not None:
                self._reply(node, first)
            return
        profile, patience = self._profile, 1 + self.health
        probe = self._probes.begin(node, now_s=now_s, direct_s=profile.direct_s * patience, limit_s=profile.probe_limit_s * patience)
        claims = self.claims_for(node)
        if first is not None:
            claims = (first.data, *(claim for claim in claims if claim != first.data))[: 2 * CLAIMS_MAX]
        self._effects.append(moves.SendProbe(node, probe.number, claims))

    def _answered(self, node: bytes, number: int, claims: Claims, now_s: float) -> None:
        self._learn(node, claims, now_s)
        probe, member = self._probes.get(number), self._members.get(node)
        if probe is None or member is None or probe.node != node:
            return  # it comes late: what it says counts, that it says it does not
        self._succeeded(probe)
        member.heard_s = max(member.heard_s, probe.began_s)
        is_unheard = member.suspicion is not None and not member.suspicion.witnesses
        if is_unheard or member.state is State.GONE:
            self._turn(member, State.ALIVE)

    def _succeeded(self, probe: Probe) -> None:
        self._probes.end(probe)
        self._feel(-1)

    def _feel(self, by: int) -> None:
        self.health = min(max(self.health + by, 0), HEALTH_MAX)

    def _refused(self, node: bytes, number: int, now_s: float) -> None:
        probe = self._probes.get(number)
        if probe is not None and probe.node == node:
            probe.is_refused = True
            self._ask_helpers(probe)
            self._conclude_early(probe, now_s)

    def _ask_helpers(self, probe: Probe) -> None:
        member = self._members.get(probe.node)
        if probe.asked or member is None or not member.is_present:
            return
        able = [member.node for member in self._members if member.state is State.ALIVE and member.node != probe.node]
        near = shuffled([node for node in able if node in self._linked], self._fraction)
        helpers = (near + [node for node in able if node not in self._linked])[: self._profile.helpers]
        probe.asked = len(helpers)
        probe.helpers_s = NOT_NOW_S
        self._effects += [moves.AskToProbe(helper, probe.node, probe.number) for helper in helpers]

    def _helped(self, event: moves.HelperAnswered | moves.HelperFailed, now_s: float) -> None:
        probe = self._probes.get(event.number)
        if probe is None:
            return
        if isinstance(event, moves.HelperFailed):
            probe.lost += 1
        elif event.reached:
            self._succeeded(probe)
            return
        else:
            probe.nacks += 1
        self._conclude_early(probe, now_s)

    def _conclude_early(self, probe: Probe, now_s: float) -> None:
        if probe.has_failed:
            self._conclude(probe, now_s)

    def _conclude(self, probe: Probe, now_s: float) -> None:
        """Nobody reached it. Where those who should have helped are silent too, it may be us."""
        self._probes.end(probe)
        member = self._members.get(probe.node)
        if member is None or not member.is_present or self.is_away:
            return
        if not probe.is_refused:
            self._feel(probe.asked - probe.nacks if probe.asked else 1)
        if member.suspicion is None or member.suspicion.takes(self._ours):
            self._doubt(member, self._us.suspect(member.node, member.incarnation), now_s)

    # --- time -----------------------------------------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        interval_s = self._profile.probe_s * (1 + self.health)
        if now_s >= self._near_s and not self.is_away:
            self._near_s = now_s + interval_s
            self._check(self._members.get(self._probes.neighbour(self._members.ring)), now_s)
        if now_s >= self._round_s and not self.is_away:
            self._round_s = now_s + interval_s
            absent = [member.node for member in self._members if not member.is_present and member.node in self._linked]
            self._check(self._members.get(self._probes.in_turn(self._members.ring + absent)), now_s)
        for probe in self._probes.all():
            if now_s >= probe.ends_s:
                self._conclude(probe, now_s)
            elif now_s >= probe.helpers_s:
                self._ask_helpers(probe)
                probe.helpers_s = NOT_NOW_S  # nobody could help: it has its time
        for member, suspicion in self._members.suspects():
            if now_s < suspicion.ends_s:
                continue
            if member.heard_s > suspicion.began_s:
                self._turn(member, State.ALIVE)  # whatever others say: it answered us since
            else:
                self._turn(member, State.GONE, epitaph=next(iter(suspicion.witnesses.values()), None))
        if now_s >= self._gossip_s:
            self._gossip(now_s)

    def _gossip(self, now_s: float) -> None:
        able = [node for node in self._linked if (member := self._members.get(node)) is not None and member.is_present]
        for node in shuffled(able, self._fraction)[: self._profile.fanout]:
            claims = self._with_news({})
            if claims:
                self._effects.append(moves.Tell(node, claims))
        self._gossip_s = now_s + self._profile.gossip_s if len(self._news) and self._linked else NOT_NOW_S

    def _with_news(self, claims: dict[bytes, None]) -> Claims:
        """Filled up with news; a suspicion goes with its subject's own last word, without which it could not be judged."""
        picked = self._news.pick(CLAIMS_MAX, nodes=len(self._members) + 1)
        for claim in picked:
            member = self._members.get(claim.subject)
            if claim.word is Word.SUSPECT and member is not None and member.said is not None:
                claims[member.said.data] = None
            claims[claim.data] = None
        return tuple(claims)[: 2 * CLAIMS_MAX]

    # --- claims ---------------------------------------------------------------------------------------------------------------

    def _learn(self, sender: bytes, claims: Claims, now_s: float) -> None:
        """What a member says, of itself or passed on. Nothing of it is believed that is not signed by the right one."""
        if sender not in self._members:
            return
        for claim in map(read, claims[: 2 * CLAIMS_MAX]):
            if claim is None:
                continue
            member = self._members.get(claim.subject)
            if claim.subject == self._ours:
                self._hear_of_us(claim, sender, now_s)
            elif member is not None and claim.word is Word.SUSPECT:
                self._hear_doubt(member, claim, sender, now_s)
            elif member is not None:
                self._hear_of_itself(member, claim, sender, now_s)

    def _hear_of_us(self, claim: Claim, sender: bytes, now_s: float) -> None:
        if claim.data == self._us.claim.data:
            return
        before = self._us.claim
        if claim.incarnation >= self._us.incarnation:
            witness = claim.witness if claim.witness in self._members else sender
            is_heard = self._scrutiny.passes(claim, sender, now_s=now_s) and (
                claim.word is not Word.SUSPECT or self._scrutiny.may_doubt(witness, now_s=now_s)
            )
            if not is_heard or not self._us.answers(claim, now_s=now_s):
                return
        if self._us.claim is not before:
            self._feel(1)
            self._news.add(self._us.claim)
        self._reply(sender, self._us.claim)

    def _go(self, *, away: bool) -> None:
        """Everybody whom we can reach hears it from us."""
        if self._us.go(away=away):
            self._news.add(self._us.claim)
        self._effects += [moves.Tell(node, (self._us.claim.data,)) for node in self._linked if node in self._members]

    def _hear_of_itself(self, member: Member, claim: Claim, sender: bytes, now_s: float) -> None:
        if claim.incarnation < member.incarnation:
            self._correct(sender, member)
        elif claim.incarnation > member.incarnation and self._scrutiny.passes(claim, sender, now_s=now_s):
            member.incarnation, member.said = claim.incarnation, claim
            self._news.add(claim)
            self._turn(member, State.AWAY if claim.word is Word.AWAY else State.ALIVE)

    def _hear_doubt(self, member: Member, claim: Claim, sender: bytes, now_s: float) -> None:
        if claim.witness not in self._members:
            return
        if claim.incarnation < member.incarnation or member.state is State.AWAY:
            self._correct(sender, member)
        elif claim.incarnation > member.incarnation:
            self._check(member, now_s)  # we missed something: look
        elif (
            member.is_present
            and (member.suspicion is None or member.suspicion.takes(claim.witness))
            and self._scrutiny.passes(claim, sender, now_s=now_s)
            and self._scrutiny.may_doubt(claim.witness, now_s=now_s)
        ):
            self._doubt(member, claim, now_s)

    def _doubt(self, member: Member, claim: Claim, now_s: float) -> None:
        suspicion = member.suspicion
        if suspicion is None:
            suspicion = self._suspicion(now_s, present=len(self._members.ring) + 1)
            self._turn(member, State.SUSPECT, suspicion=suspicion)
            self._gossip_s = min(self._gossip_s, now_s + self._fraction() * self._profile.gossip_s / 4)
            if claim.witness != self._ours and self._fraction() * len(self._members) < CHECKERS:
                self._check(member, now_s)
        suspicion.confirm(claim)
        self._news.add(claim)

    def _correct(self, sender: bytes, member: Member) -> None:
        """Whoever says something older hears the node's own last word, and why it is gone where it is."""
        for claim in (member.said, member.epitaph):
            if claim is not None:
                self._reply(sender, claim)

    def _reply(self, node: bytes, claim: Claim) -> None:
        self._replies.setdefault(node, {})[claim.data] = None
