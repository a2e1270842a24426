"""A simulated DHT: one table that all its nodes share, asked over a little time, with liars where a world wants some.

The rule: the same seed, the same answers; what is promised is what the real one promises, no more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from skerry.discovery.dht import FOUND_MAX, VALUE_BYTES_MAX
from skerry.errors import UsageError
from skerry.identity.keys import KeyPair

LOOK_UP_S = 0.05
KEPT_S = 2700.0  # without being said again
Said = dict[str, float]


@dataclass(slots=True)
class DhtTable:
    """What all nodes of one DHT hold together. `lies`: places that are claimed under every key."""

    said: dict[bytes, Said] = field(default_factory=dict)
    values: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)
    lies: list[str] = field(default_factory=list)


class SimDht:
    """One node of it (`ports.Dht`). `alone` until it was entered, or somebody entered at it."""

    def __init__(self, table: DhtTable, host: str, *, port: int = 7422, bootstrap: tuple[str, ...] = ()) -> None:
        self._table = table
        self._host = host
        self._place = f"{host}:{port}"
        self._bootstrap = bootstrap
        self._standing: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.address = ""

    async def open(self) -> None:
        await asyncio.sleep(0)
        if self._place in self._table.nodes:
            raise UsageError(f"the DHT can't listen at {self._place}: it is taken", code="port_in_use")
        self.address = self._place
        self._table.nodes.add(self._place)
        self._say_all()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.end()

    def end(self) -> None:
        """Its machine ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._standing.clear()
        self._table.nodes.discard(self.address)
        self.address = ""

    def enter(self, places: list[str]) -> None:
        self._bootstrap = tuple(dict.fromkeys((*self._bootstrap, *places)))

    def announce(self, key: bytes, port: int) -> None:
        self._standing[key] = port
        self._say(key)

    def withdraw(self, key: bytes) -> None:
        self._standing.pop(key, None)

    async def find(self, key: bytes, *, timeout_s: float) -> list[str]:
        if not self.address:
            return []
        await asyncio.sleep(min(LOOK_UP_S, timeout_s))
        now = asyncio.get_running_loop().time()
        known = [place for place, at in self._table.said.get(key, {}).items() if now - at < KEPT_S]
        found = sorted({*known, *self._table.lies})
        if not found:
            await asyncio.sleep(max(timeout_s - LOOK_UP_S, 0.0))
        return found[:FOUND_MAX]

    async def put(self, seed: bytes, value: bytes, *, salt: bytes = b"") -> bool:
        if len(value) > VALUE_BYTES_MAX:
            raise UsageError(f"a value of {len(value)} bytes, where a DHT keeps {VALUE_BYTES_MAX}", hint="keep a pointer to it")
        await asyncio.sleep(LOOK_UP_S)
        if not self.address or len(self._table.nodes) < 2:
            return False
        self._table.values[KeyPair.from_seed(seed).public, salt] = value
        return True

    async def get(self, public: bytes, *, salt: bytes = b"", timeout_s: float) -> bytes | None:
        await asyncio.sleep(min(LOOK_UP_S, timeout_s))
        return self._table.values.get((public, salt)) if self.address else None

    def _say(self, key: bytes) -> None:
        if self.address:
            self._table.said.setdefault(key, {})[f"{self._host}:{self._standing[key]}"] = asyncio.get_running_loop().time()

    def _say_all(self) -> None:
        for key in self._standing:
            self._say(key)
        self._timer = asyncio.get_running_loop().call_later(KEPT_S / 3, self._say_all)
