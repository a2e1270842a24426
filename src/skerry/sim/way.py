"""One direction of a simulated connection: what is under way on it, and when it arrives.

A `Way` is what a stream does to bytes: they arrive late, in other pieces than they were written, but in order and each once; a lost
segment shows as a delay. While its path is blocked it holds them; if that lasts, the sender's connection breaks and the other end is
*not told*: it finds out when it next writes.

The rule: bytes are late, lost with their connection, or there; never changed, never out of order, never twice.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from typing import TYPE_CHECKING

from skerry.sim.link import RETRANSMIT_MOST_S, transit_s

if TYPE_CHECKING:
    from skerry.sim.network import SimNetwork
    from skerry.sim.stream import End

WINDOW_BYTES = 256 * 1024  # what the two kernels hold between them before a writer's own buffer grows


class Mark:
    """Something other than bytes that travels in order with them."""

    def __init__(self, name: str) -> None:
        self.name = name


OPENED = Mark("opened")  # the dialler is through: the listener's protocol gets its connection
ENDED = Mark("ended")  # the sender will write no more
RESET = Mark("reset")  # the sender knows nothing of this connection any more


class Way:
    """One direction of a connection: a queue of what is under way."""

    def __init__(self, network: SimNetwork, sender: End, receiver: End) -> None:
        self.path = (sender.host, receiver.host)
        self.back: Way  # the other direction
        self.size_bytes = 0  # written, and not yet read by the other protocol
        self.sender = sender
        self.receiver = receiver
        self._network = network
        self._loop = network.loop
        self._queue: deque[tuple[float, bytes | Mark]] = deque()
        self._latest = 0.0  # arrival of the last in the queue: nothing overtakes
        self._arrival: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._is_unheard = False  # something arrived, but the word that it did could not come back

    @property
    def is_over(self) -> bool:
        """Nothing can happen on it any more."""
        return not self._queue and self.sender.is_lost and self.receiver.is_lost

    def send(self, item: bytes | Mark) -> None:
        """Put it under way."""
        network = self._network
        if item is RESET and network.is_blocked(self.path):
            return  # sent once and not again: a reset that meets a cut is lost
        link = network.link(self.path)
        due = max(self._loop.time(), self.sender.stalled_until) + transit_s(link, network.random)
        if due < self._latest:
            due = self._latest
        self._latest = due
        if link.reset and network.random.random() < link.reset:
            self._loop.call_at(due, self.reset_both, context=network.context)
        if isinstance(item, bytes):
            self.size_bytes += len(item)
            if network.tap is not None:
                network.tap(self, item)
        self._queue.append((due, item))
        if network.is_blocked(self.path) or network.is_blocked(self.back.path):
            self.lose_patience()
        if self._arrival is None:
            self._arrival = self._loop.call_at(due, self._arrive, context=network.context)

    def _arrive(self) -> None:
        self._arrival = None
        network = self._network
        if network.is_blocked(self.path):
            return  # held; `move_on` comes when the path is open again
        now, queue = self._loop.time(), self._queue
        if self.receiver.stalled_until > now:  # the kernel has it, and nobody reads
            self._arrival = self._loop.call_at(self.receiver.stalled_until, self._arrive, context=network.context)
            return
        self._is_unheard = self._is_unheard or network.is_blocked(self.back.path)
        while queue and queue[0][0] <= now:
            item = queue.popleft()[1]
            if isinstance(item, bytes):
                while queue and queue[0][0] <= now and isinstance(more := queue[0][1], bytes):
                    item += more  # what arrives together is read together
                    queue.popleft()
            self.receiver.arrived(item)
        if queue and self._arrival is None:
            self._arrival = self._loop.call_at(queue[0][0], self._arrive, context=network.context)

    def split_at(self, size_bytes: int) -> int:
        """Where to cut a read, 0 for nowhere."""
        chance = self._network.random.random
        if size_bytes < 2 or chance() >= self._network.link(self.path).split:
            return 0
        return 1 + int(chance() * (size_bytes - 1))

    def taken(self, size_bytes: int) -> None:
        """The other protocol has read; the sender hears of it one delay later."""
        was_over = self.size_bytes > WINDOW_BYTES
        self.size_bytes = max(0, self.size_bytes - size_bytes)  # the writer may have broken off since, and dropped the count
        if was_over:
            self._loop.call_later(self._network.link(self.back.path).delay_s, self._tell_sender, context=self._network.context)

    def _tell_sender(self) -> None:
        if not self._network.is_blocked(self.back.path):
            self.sender.written_on()

    # --- faults -------------------------------------------------------------------------------------------------------------------

    def lose_patience(self) -> None:
        """The path is blocked, one way or the other: unless it heals, what is under way breaks the connection."""
        if self._patience is None and (self._queue or self._is_unheard):
            self._patience = self._loop.call_later(self._network.reset_after_s, self._give_up, context=self._network.context)

    def _give_up(self) -> None:
        self._patience = None
        self.sender.broken(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def move_on(self, held_s: float) -> None:
        """Something on the path healed after `held_s`: the next retry brings what was held."""
        network = self._network
        if network.is_blocked(self.path):
            return
        if self._queue and self._arrival is None:
            due = self._loop.time() + network.link(self.path).delay_s + network.random.random() * min(held_s, RETRANSMIT_MOST_S)
            held = [(max(due, at), item) for at, item in self._queue]
            self._queue.clear()
            self._queue.extend(held)
            self._latest = held[-1][0]
            self._arrival = self._loop.call_at(due, self._arrive, context=network.context)
        if not network.is_blocked(self.back.path):
            self._is_unheard = False
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            self._loop.call_soon(self._tell_sender, context=network.context)

    def drop(self) -> None:
        """What is under way is gone."""
        self._queue.clear()
        self.size_bytes = 0
        self._is_unheard = False
        for timer in (self._arrival, self._patience):
            if timer is not None:
                timer.cancel()
        self._arrival = self._patience = None

    def reset_both(self) -> None:
        for end in (self.sender, self.receiver):
            if not end.is_lost:
                end.broken(reset_error())


def reset_error() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def connect(network: SimNetwork, dialler: End, listener: End) -> tuple[Way, Way]:
    """Tie two ends together."""
    there, back = Way(network, dialler, listener), Way(network, listener, dialler)
    there.back, back.back = back, there
    dialler.out, listener.out = there, back
    return there, back
