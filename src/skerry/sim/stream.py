"""One end of a simulated connection, as a transport; the two ways between the ends are `way.py`'s.

An `End` looks to its protocol like any asyncio transport and keeps the real ones' rules: `connection_made` comes first,
`connection_lost` last and once, both and all data from the loop and never from inside a call that the protocol makes (but for
`pause_writing`, which asyncio too calls from `write`).

The rule: unkind, within what TCP allows. Reads merge and split, tails are lost with a reset, half-open ends stay half-open.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from skerry.ports import Security
from skerry.sim.process import CURRENT
from skerry.sim.way import ENDED, OPENED, RESET, WINDOW_BYTES, Mark, Way, reset_error

if TYPE_CHECKING:
    from skerry.sim.network import SimNetwork

HIGH_WATER_BYTES = 64 * 1024  # asyncio's default: above it the protocol is told to pause
LOW_WATER_SHARE = 4  # asyncio's default: low = high / 4


class End(asyncio.Transport):
    """One side of a connection, as a transport."""

    def __init__(
        self, network: SimNetwork, host: str, security: Security, extra: dict[str, Any], *, context: contextvars.Context | None = None
    ) -> None:
        """`context`: in which its protocol is called, as a real transport keeps the one it was made in."""
        super().__init__(extra)
        self._context = context or contextvars.copy_context()
        self._process = self._context.get(CURRENT)
        self.host = host
        self.security = security
        self.out: Way  # set by `connect`, before anybody sees this end
        self.protocol: asyncio.BaseProtocol
        self.accept: Callable[[], asyncio.BaseProtocol] | None = None  # the listener's end makes its protocol when it opens
        self._network = network
        self._loop = network.loop
        self._inbox: deque[bytes] = deque()
        self.is_open = False  # connection_made was called
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._is_read_due = False  # from call_soon
        self._has_ended = False  # the other side will write no more
        self._is_closing = False
        self._is_lost = False  # connection_lost was called or is due
        self._is_dead = False  # the host died: nothing is called any more
        self._set_limits(None, None)

    # --- what protocols call ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if self._is_closing or not data:
            return
        self.out.send(bytes(data))
        self._pause_if_full()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Read no more, deliver what was written, then end."""
        if self._is_closing:
            return
        self._is_closing = True
        self._clear_inbox()
        self.out.send(ENDED)
        if self.get_write_buffer_size() == 0:
            self._lose(None)

    def abort(self) -> None:
        """End now. What has not arrived never will."""
        if not self._is_lost:
            self.break_off()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._read_soon()

    def is_reading(self) -> bool:
        return not (self._is_reading_paused or self._is_closing)

    def get_write_buffer_size(self) -> int:
        return max(0, self.out.size_bytes - WINDOW_BYTES)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._set_limits(high, low)
        self._pause_if_full()

    def can_write_eof(self) -> bool:
        return False  # TLS has no half-closed state, and our channel runs alike over TLS and without

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def _set_limits(self, high: int | None, low: int | None) -> None:
        if high is None:
            high = HIGH_WATER_BYTES if low is None else LOW_WATER_SHARE * low
        if low is None:
            low = high // LOW_WATER_SHARE
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and that at least 0")
        self._high, self._low = high, low

    def _pause_if_full(self) -> None:
        if not self._is_writing_paused and self.get_write_buffer_size() > self._high:
            self._is_writing_paused = True
            self.protocol.pause_writing()

    # --- what the world does to it ------------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    @property
    def stalled_until(self) -> float:
        """Its process stands still until then: what it writes leaves later, and nothing is read."""
        return self._process.stalled_until if self._process is not None else 0.0

    def _waits(self, call: Callable[..., None], *args: object) -> bool:
        """Its process stands still: what there is to tell it is told when it goes on."""
        if self.stalled_until <= self._loop.time():
            return False
        self._loop.call_at(self.stalled_until, call, *args, context=self._network.context)
        return True

    def open(self) -> None:
        """From the loop: the connection stands."""
        if self._is_dead:
            return
        if self.accept is not None:
            self.protocol = self._context.run(self.accept)
        self.is_open = True
        self._context.run(self.protocol.connection_made, self)
        self._read_soon()

    def arrived(self, item: bytes | Mark) -> None:
        """From the loop: the other side's bytes or marks are here."""
        if item is OPENED:
            self.open()
        elif item is RESET:
            self.broken(reset_error())
        elif self._is_lost:
            self.out.send(RESET)  # nobody is here any more, and whoever writes to nobody is told so
        elif item is ENDED:
            self._has_ended = True
            self._read()
        elif isinstance(item, bytes):
            self._inbox.append(item)
            if self._is_closing:
                self._clear_inbox()
            elif not self._is_read_due:
                self._read()

    def broken(self, error: OSError) -> None:
        """The connection is gone; the other side is not told by us."""
        self.out.drop()
        self._lose(error)

    def break_off(self) -> None:
        """The connection is gone; the other side is told, if the path lets it through."""
        self.out.drop()
        self.out.send(RESET)
        self._lose(None)

    def die(self, *, is_told: bool) -> None:
        """The process or the host is dead: its protocols hear nothing, not even that. A dead process's kernel tells the other side."""
        self._is_closing = self._is_lost = self._is_dead = True
        self.out.drop()
        if is_told:
            self.out.send(RESET)

    def written_on(self) -> None:
        """From the loop: the other side has taken bytes; there may be room again, or all may be delivered."""
        if self._waits(self.written_on):
            return
        size = self.get_write_buffer_size()
        if self._is_writing_paused and size <= self._low and not self._is_lost:
            self._is_writing_paused = False
            self._context.run(self.protocol.resume_writing)
        if self._is_closing and size == 0:
            self._lose(None)

    def _read_soon(self) -> None:
        if not self._is_read_due and (self._inbox or self._has_ended):
            self._is_read_due = True
            self._loop.call_soon(self._read_due, context=self._network.context)

    def _read_due(self) -> None:
        if self._waits(self._read_due):
            return
        self._is_read_due = False
        self._read()

    def _read(self) -> None:
        if self._is_reading_paused or self._is_closing or not self.is_open:
            return
        if self._inbox:
            data = self._inbox[0] if len(self._inbox) == 1 else b"".join(self._inbox)  # what waited together is read together
            self._inbox.clear()
            cut = self.out.back.split_at(len(data))
            if cut:
                self._inbox.append(data[cut:])
                data = data[:cut]
            self.out.back.taken(len(data))
            self._hand_over(data)
            self._read_soon()
        elif self._has_ended:
            assert isinstance(self.protocol, asyncio.Protocol)
            self._context.run(self.protocol.eof_received)
            self.close()  # whatever it answered: see can_write_eof

    def _hand_over(self, data: bytes) -> None:
        assert isinstance(self.protocol, asyncio.Protocol)
        self._network.note(self.host, "read", data)
        try:
            self._context.run(self.protocol.data_received, data)
        except Exception as error:  # noqa: BLE001 - a boundary: as asyncio does, the error is reported and ends this connection
            message = f"data_received failed on {self.host}"
            self._loop.call_exception_handler({"message": message, "exception": error, "transport": self, "protocol": self.protocol})
            self.abort()

    def _clear_inbox(self) -> None:
        """Nobody will read it; the writer's room comes back, as it does where a kernel throws unread bytes away."""
        self.out.back.taken(sum(map(len, self._inbox)))
        self._inbox.clear()

    def _lose(self, error: OSError | None) -> None:
        if self._is_lost:
            return
        self._is_closing = self._is_lost = True
        self._clear_inbox()
        self._loop.call_soon(self._say_lost, error, context=self._network.context)

    def _say_lost(self, error: OSError | None) -> None:
        if self._waits(self._say_lost, error):
            return
        is_over = self._is_dead or (self._process is not None and self._process.is_over)  # it was killed while it stood still
        if self.is_open and not is_over:
            self._network.note(self.host, f"lost {type(error).__name__}")
            self._context.run(self.protocol.connection_lost, error)
