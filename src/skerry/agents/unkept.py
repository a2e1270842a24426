"""What an agent's tasks changed and sent, on its way from the worker to the disk of its node.

A state is taken when no task runs, since inside one it is between nothing: the last of those that run beside each other brings what all
changed, however it ends. It goes to the node in a call of its own, `agent.keep`, and the task ends after that; in the task's own reply
it would be lost with a caller that has given up. What letters changed goes with their reply, since it is kept in one commit with their
cursor; whoever sends that takes it here.

The rule: a state is on its way once, in the order in which they were taken, and what was sent is with the state that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from skerry.agents.letters import KeepRequest, Outgoing
from skerry.agents.runtimes.contract import Checkpointing
from skerry.errors import SkerryError
from skerry.identity.pieces import Pieces

LOOK_S = 0.01
LOOKS = 100  # a second, until a process whose work can't be kept ends with whatever it does still
Send = Callable[[bytes | Pieces], Awaitable[object]]  # to the node; returns when it is kept


class Unkept:
    """One worker's. Where the node did not keep what it was sent, what is known here is not what is kept: `lost` is called, once nobody
    waits for what the worker says (`is_busy`) or some time has passed."""

    def __init__(self, send: Send, *, lost: Callable[[], None], is_busy: Callable[[], bool] = lambda: False, saved: bytes = b"") -> None:
        self._send = send
        self._lost = lost
        self._is_busy = is_busy
        self._ending: asyncio.Task[None] | None = None
        self._saved = saved  # the state as the node has it
        self._sent: list[Outgoing] = []
        self._running = 0
        self._owed = False  # a task ended well since the state was last taken
        self._order = asyncio.Lock()

    def began(self) -> None:
        self._running += 1

    async def ended(self, runtime: Checkpointing, sent: list[Outgoing]) -> None:
        """A task ended well. Returns once that is kept, where no other one runs. Raises SkerryError that says what can't be kept."""
        self._running -= 1
        self._sent += sent
        self._owed = True
        await self._bring(runtime)

    async def failed(self, runtime: Checkpointing) -> None:
        """A task did not end well: what others did beside it is kept all the same."""
        self._running -= 1
        with suppress(SkerryError):  # theirs to hear, and they have ended
            await self._bring(runtime)

    def take(self, runtime: Checkpointing) -> tuple[bytes | None, list[Outgoing]]:
        """The state, where it changed, and what was sent since the last one was taken. Raises SkerryError that says what can't be kept."""
        state = runtime.checkpoint()
        sent, self._sent = self._sent, []
        self._owed = False
        if state == self._saved:
            return None, sent
        self._saved = state
        return state, sent

    async def _bring(self, runtime: Checkpointing) -> None:
        if self._running or not self._owed:
            return
        state, sent = self.take(runtime)
        if state is None and not sent:
            return
        going = asyncio.get_running_loop().create_task(self._go(KeepRequest(state, sent).to_bytes()))
        try:
            await asyncio.shield(going)
        except asyncio.CancelledError:  # nobody waits for the task any more; for what it changed we do
            await asyncio.wait({going})
            raise

    async def _go(self, body: bytes | Pieces) -> None:
        try:
            async with self._order:
                await self._send(body)
        except SkerryError:
            if self._ending is None:
                self._ending = asyncio.get_running_loop().create_task(self._end())
            raise

    @property
    def is_lost(self) -> bool:
        """No more work is begun here."""
        return self._ending is not None

    async def _end(self) -> None:
        """Whoever waits hears first why its work does not count."""
        for _ in range(LOOKS):
            if not self._is_busy():
                break
            await asyncio.sleep(LOOK_S)
        self._lost()
