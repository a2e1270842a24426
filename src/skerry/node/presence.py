"""Binds `discovery/membership.py` to a node: its timers, its links, its verbs; and what follows when somebody goes or comes.

Who is gone or away leaves the catalogue at once, and its link ends, so that whoever waits on it hears of it; who comes back is in it again.
What is learned here is never written down: a node that starts knows nothing of the others but that they belong.

The rule: the machine decides; here is only done what it says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from skerry.channel.messages import pack_message, unpack_message
from skerry.discovery import moves
from skerry.discovery.membership import Membership
from skerry.discovery.moves import PRESENT, State
from skerry.discovery.verbs import ProbeReply, ProbeRequest, RelayReply, RelayRequest, TellRequest
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.grants import Role
from skerry.identity.keys import short

if TYPE_CHECKING:
    from skerry.node.node import Node

CALL_TIMEOUT_S = 5.0  # longer than a probe: an answer that comes late still says something
FAREWELL_S = 0.5  # how long a node that ends waits until the others have heard it
RELAYS_MAX = 64  # at once, for all who ask: each one is a call of ours
SLEPT_S = 5.0  # the wall clock went on so much longer than ours: the machine slept, and is here again
WATCH_SLEEP_S = 1.0
log = logging.getLogger(__name__)


class Presence:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._profile = node.settings.profile
        self._machine = Membership(
            node.key,
            node.formation,
            profile=self._profile,
            incarnation=max(node.ports.clock.now_ms(), 1),
            fraction=node.ports.random.fraction,
            now_s=self._loop.time(),
        )
        self._belong: frozenset[bytes] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = float("inf")
        self._sleep_watch: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._relays = 0
        self._is_closed = False

    # --- life -----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.refresh()

    async def close(self) -> None:
        """Say that we go, wait a moment until it was heard, and end."""
        if self._is_closed:
            return
        self._handle(moves.WentAway())
        self._is_closed = True
        for timer in (self._timer, self._sleep_watch):
            if timer is not None:
                timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FAREWELL_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refresh(self, *, only: bytes = b"") -> None:
        """Who belongs may have changed, or whether that one does."""
        if not only:
            self._belong = frozenset(subject for subject in self._node.roster.subjects() if self._belongs(subject))
        elif self._belongs(only) == (only in self._belong):
            return
        else:
            self._belong ^= {only}
        self._handle(moves.MembersChanged(self._belong))

    def _belongs(self, subject: bytes) -> bool:
        standing = self._node.trust.standing(subject)
        return standing.belongs and standing.role is not Role.CLIENT and subject != self._node.key.public

    def link_up(self, node: bytes) -> None:
        self._handle(moves.LinkOpened(node))

    def link_down(self, node: bytes, *, in_order: bool) -> None:
        self._handle(moves.LinkClosed(node) if in_order else moves.LinkLost(node))

    # --- looking at it --------------------------------------------------------------------------------------------------------

    def state_of(self, node: bytes) -> State | None:
        """None: it does not belong. Our own counts too."""
        if node == self._node.key.public:
            return State.AWAY if self._machine.is_away else State.ALIVE
        return self._machine.state_of(node)

    def is_absent(self, node: bytes) -> bool:
        """Whether nothing should be asked of it now."""
        state = self._machine.state_of(node)
        return state is not None and state not in PRESENT

    def count(self) -> dict[str, float]:
        """How many of the others stand how."""
        states = list(self._machine.states().values())
        return {state.value: states.count(state) for state in State}

    @property
    def machine(self) -> Membership:
        """For whoever watches; nobody else handles its events."""
        return self._machine

    # --- our owner says so ----------------------------------------------------------------------------------------------------

    def go_away(self) -> int:
        """A lid closes. We are back when `come_back` says so, or when the machine has slept."""
        told = len(self._node.links.nodes())
        self._handle(moves.WentAway())
        self._watch_sleep(self._node.ports.clock.now_ms(), self._loop.time())
        return told

    def come_back(self) -> int:
        if self._sleep_watch is not None:
            self._sleep_watch.cancel()
            self._sleep_watch = None
        self._handle(moves.CameBack())
        return len(self._node.links.nodes())

    def _watch_sleep(self, wall_ms: int, loop_s: float) -> None:
        slept_s = (self._node.ports.clock.now_ms() - wall_ms) / 1000 - (self._loop.time() - loop_s)
        if slept_s > SLEPT_S:
            log.info("this machine slept for %.0f s, and is here again", slept_s)
            self.come_back()
            return
        if self._sleep_watch is not None:
            self._sleep_watch.cancel()
        self._sleep_watch = self._loop.call_later(WATCH_SLEEP_S, self._watch_sleep, wall_ms, loop_s)

    # --- others ask -----------------------------------------------------------------------------------------------------------

    def serve_probe(self, request: ProbeRequest, caller: bytes) -> ProbeReply:
        answer = self._handle(moves.Probed(caller, tuple(request.claims)))
        return ProbeReply(list(answer))

    def serve_tell(self, request: TellRequest, caller: bytes) -> None:
        self._handle(moves.Told(caller, tuple(request.claims)))

    async def serve_relay(self, request: RelayRequest) -> RelayReply:
        """Try to reach a member for somebody who can't."""
        if self._machine.state_of(request.node) is None:
            raise Refused("that node is no member that is known here", code=Code.NOT_FOUND)
        if self._relays >= RELAYS_MAX:
            raise Refused(f"{RELAYS_MAX} nodes are looked for already", code=Code.BUSY, hint="ask somebody else")
        self._relays += 1
        try:
            async with asyncio.timeout(self._profile.relay_s):
                claims = await self._ask_probe(request.node, self._machine.claims_for(request.node))
        except (SkerryError, TimeoutError):
            return RelayReply(reached=False)
        finally:
            self._relays -= 1
        self._handle(moves.Told(request.node, claims))
        return RelayReply(reached=True)

    # --- doing ----------------------------------------------------------------------------------------------------------------

    def _handle(self, event: moves.Event) -> moves.Claims:
        answer: moves.Claims = ()
        if self._is_closed:
            return answer
        for effect in self._machine.handle(event, now_s=self._loop.time()):
            match effect:
                case moves.SendProbe():
                    self._spawn(self._probe(effect))
                case moves.AskToProbe():
                    self._spawn(self._ask_helper(effect))
                case moves.Tell():
                    self._spawn(self._tell(effect))
                case moves.Answer(claims):
                    answer = claims
                case moves.Show(node, state, before):
                    self._show(node, state, before)
        self._set_timer()
        return answer

    def _set_timer(self) -> None:
        if self._machine.next_s == self._timer_s:
            return
        self._timer_s = self._machine.next_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timer_s < float("inf"):
            self._timer = self._loop.call_at(self._timer_s, self._time_passed)

    def _time_passed(self) -> None:
        self._timer, self._timer_s = None, float("inf")
        self._handle(moves.TimePassed())

    def _show(self, node: bytes, state: State, before: State) -> None:
        level = logging.DEBUG if state in PRESENT and before in PRESENT else logging.INFO
        log.log(level, "%s is %s now (%s before)", short(node), state.value, before.value)
        self._node.catalogue.set_absent(node, absent=state not in PRESENT)
        link = self._node.links.get(node)
        if state is State.GONE and link is not None:
            link.abort(Unreachable("nobody can reach the node any more", code=Code.CONNECTION_LOST, outcome_unknown=True))

    async def _probe(self, effect: moves.SendProbe) -> None:
        try:
            claims = await self._ask_probe(effect.node, effect.claims)
        except Unreachable:
            self._handle(moves.ProbeFailed(effect.node, effect.number))
        except SkerryError as error:
            log.debug("a probe of %s came to nothing: %s", short(effect.node), error)
        else:
            self._handle(moves.ProbeAnswered(effect.node, effect.number, claims))

    async def _ask_probe(self, node: bytes, claims: moves.Claims) -> moves.Claims:
        """The claims in its answer. A link that breaks meanwhile is dialled again once: it may only have been the link."""
        body = pack_message(ProbeRequest(list(claims)))
        link = await self._node.link_to(node, CALL_TIMEOUT_S)
        try:
            reply = await link.call("presence.probe", body, timeout_s=CALL_TIMEOUT_S)
        except Unreachable:
            link = await self._node.link_to(node, CALL_TIMEOUT_S)
            reply = await link.call("presence.probe", body, timeout_s=CALL_TIMEOUT_S)
        except Refused as error:
            if error.code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED):
                raise
            return ()  # of an older release, or it has no right to say more to us: it is there
        return tuple(unpack_message(ProbeReply, reply).claims)

    async def _ask_helper(self, effect: moves.AskToProbe) -> None:
        try:
            link = await self._node.link_to(effect.helper, self._profile.probe_limit_s)
            body = await link.call("presence.relay", pack_message(RelayRequest(effect.node)), timeout_s=CALL_TIMEOUT_S)
            reached = unpack_message(RelayReply, body).reached
        except Unreachable:
            self._handle(moves.HelperFailed(effect.number))
        except SkerryError as error:
            log.debug("%s did not help to find %s: %s", short(effect.helper), short(effect.node), error)
            self._handle(moves.HelperFailed(effect.number))
        else:
            self._handle(moves.HelperAnswered(effect.number, reached))

    async def _tell(self, effect: moves.Tell) -> None:
        """Over a link that is there: nobody is dialled for news."""
        link = self._node.links.get(effect.node)
        if link is None:
            return
        try:
            await link.call("presence.tell", pack_message(TellRequest(list(effect.claims))), timeout_s=CALL_TIMEOUT_S)
        except SkerryError as error:
            log.debug("%s was not told: %s", short(effect.node), error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
