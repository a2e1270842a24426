"""Hostile peers, many at once: `python -m tests.hostile.besiegers`, told on stdin what to do, a line of JSON each.

`{"target", "count"}` first. Then `{"seconds", "kinds"}`: each of `count` places makes one attack after another for so long, of those kinds
or of all; when its connection was ended it comes again at once. Then what is under way goes on until the node ends it, for
`{"patience_s"}`. Answered with how it went.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from skerry.errors import SkerryError
from tests.hostile.attacks import ATTACKS, LAG_S, Attack, Way
from tests.hostile.target import Members, Target, all_files, tls

NICE = 15  # on another machine they would take nothing of this one's processors
ADDRESSES = 10
INSIDERS = 16  # keys that were let in once, and are used by all of them
AGAIN_S = 0.25  # before the next attempt
SPREAD_S = 10.0  # in which they all come; a quarter of the time, where that is shorter


class Counted(socket.socket):
    """Counts what is sent: so much a node stood."""

    sent_bytes = 0

    def send(self, *args: Any) -> int:
        sent = super().send(*args)
        Counted.sent_bytes += sent
        return sent


class Siege:
    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._count = count
        self._kinds: list[Attack] = []
        members = Members(target)
        self._insiders = [members.make() for _ in range(INSIDERS)]
        self._context = tls()
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.shut_out: Counter[str] = Counter()
        self.longest_s: dict[str, float] = defaultdict(float)
        self.late: Counter[str] = Counter()

    async def run(self, seconds: float, patience_s: float, kinds: list[str]) -> dict[str, Any]:
        self._kinds = [attack for attack in ATTACKS if attack.__name__ in kinds] or list(ATTACKS)
        used_s = time.process_time()
        ends, spread_s = time.monotonic() + seconds, min(SPREAD_S, seconds / 4)
        places = [asyncio.create_task(self._keep_attacking(number, spread_s, ends)) for number in range(self._count)]
        await asyncio.sleep(seconds)
        sent_bytes, used_s = Counted.sent_bytes, time.process_time() - used_s
        _, still = await asyncio.wait(places, timeout=patience_s or 0.01)
        under_way = [name for name in self.begun for _ in range(self.begun[name] - self.ended[name])]
        for place in still:
            place.cancel()
        outcomes = await asyncio.gather(*places, return_exceptions=True)
        bugs = [repr(error) for error in outcomes if isinstance(error, Exception)]
        return {
            "begun": dict(self.begun),
            "ended": dict(self.ended),
            "shut_out": dict(self.shut_out),
            "longest_s": {name: round(value, 1) for name, value in self.longest_s.items()},
            "late": dict(self.late),
            "under_way": under_way,
            "sent_bytes_per_s": round(sent_bytes / seconds),
            "cpu": round(used_s / seconds, 3),
            "bugs": bugs,
        }

    async def _keep_attacking(self, number: int, spread_s: float, ends: float) -> None:
        await asyncio.sleep(spread_s * number / self._count)
        turn = number
        way = Way(self._target, f"127.2.0.{1 + number % ADDRESSES}", self._insiders[number % INSIDERS], self._context)
        while time.monotonic() < ends:
            await self._attack(self._kinds[turn % len(self._kinds)], way)
            turn += 7  # coprime to the number of kinds: each place tries each
            await asyncio.sleep(AGAIN_S)

    async def _attack(self, attack: Attack, way: Way) -> None:
        name = attack.__name__
        began = time.monotonic()
        self.begun[name] += 1
        try:
            await attack(way)
        except (OSError, SkerryError, AssertionError, RuntimeError, EOFError):
            self.shut_out[name] += 1  # the node did not even let it begin, or cut it in the middle
        took_s = time.monotonic() - began
        self.ended[name] += 1
        self.longest_s[name] = max(self.longest_s[name], took_s)
        if took_s > ATTACKS[attack] + LAG_S:
            self.late[name] += 1


async def main() -> None:
    os.nice(NICE)
    all_files()
    socket.socket = Counted  # type: ignore[misc]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first = json.loads(await lines.readline())
    siege = Siege(Target(**first["target"]), first["count"])
    print(json.dumps({"besieged": True}), flush=True)
    while line := await lines.readline():
        asked = json.loads(line)
        print(json.dumps(await siege.run(asked["seconds"], asked["patience_s"], asked.get("kinds", []))), flush=True)
    os._exit(0)  # nothing is closed in order: that is how they are


if __name__ == "__main__":
    asyncio.run(main())
