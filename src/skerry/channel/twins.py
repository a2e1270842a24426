"""One key, two processes: a home that was copied and runs twice.

A node that comes again while we have a link to it has restarted, and the link we had is dead, or there are two of it. The old link is
asked: if it answers, there are two, the one that was first stays, and both hear of it. Without this they would take each other's place
for ever.

The rule: of two processes with one key a node talks to one, and to the same one for as long as that one lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.channel.greeting import Greeting
from skerry.channel.link import Link
from skerry.errors import Code, Refused, Unreachable

ANSWER_S = 1.0  # in which a living link answers; a restarted node waits so long where its old connection was not closed
LOOK_S = 0.02


class Twins:
    """Decides between a link that is up and a newcomer with its key. `watcher` hears of links that have a twin."""

    def __init__(self) -> None:
        self.watcher: Callable[[Link], None] | None = None
        self._contests: dict[bytes, tuple[asyncio.Task[None], Greeting]] = {}

    def contest(self, greeting: Greeting, known: Link, *, let_in: Callable[[], None]) -> None:
        """`greeting` waits, proved and not yet welcome, until it is clear whether `known` lives."""
        if known.id in self._contests:
            greeting.refuse(_twin())
            return
        task = asyncio.get_running_loop().create_task(self._decide(greeting, known, let_in))
        self._contests[known.id] = (task, greeting)
        task.add_done_callback(lambda _: self._contests.pop(known.id, None))

    def tell(self, known: Link) -> None:
        if self.watcher is not None:
            self.watcher(known)

    def close(self) -> None:
        """The node ends: nobody is let in any more, and whoever waits is not left waiting."""
        for task, greeting in list(self._contests.values()):
            task.cancel()
            greeting.stream.abort(Unreachable("the node shuts down", code=Code.SHUTTING_DOWN))

    async def _decide(self, greeting: Greeting, known: Link, let_in: Callable[[], None]) -> None:
        if await _lives(known):
            greeting.refuse(_twin())
            self.tell(known)
        elif not greeting.stream.closed:
            if not known.closed:
                known.abort(Unreachable("the node has started anew", code=Code.CONNECTION_LOST, outcome_unknown=True))
            let_in()


async def _lives(link: Link) -> bool:
    loop = asyncio.get_running_loop()
    asked = loop.time()
    link.ping()
    while not link.closed and loop.time() - asked < ANSWER_S:
        await asyncio.sleep(LOOK_S)
        if link.last_heard > asked:
            return True
    return False


def _twin() -> Refused:
    return Refused(
        "a node with this key is connected already: its home was copied and runs twice",
        code=Code.TWIN,
        hint="end one of the two; a second machine joins with a home of its own: `skerry node invite`",
    )
