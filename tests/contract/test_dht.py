"""What a DHT promises: the real one, several sessions on loopback, and its simulated twin."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from skerry.client.here import SystemRandom
from skerry.discovery.dht import FOUND_MAX, VALUE_BYTES_MAX, LibtorrentDht
from skerry.errors import UsageError
from skerry.identity.keys import KeyPair
from skerry.sim.dht import DhtTable, SimDht
from skerry.surroundings import Dht

KEY, OTHER = b"k" * 20, b"o" * 20
TIMEOUT_S = 10.0
SHORT_S = 0.5  # for what is not there
Make = Callable[[int, tuple[str, ...]], Dht]
needs_libtorrent = pytest.mark.skipif(importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed")


def real(number: int, bootstrap: tuple[str, ...]) -> Dht:
    return LibtorrentDht(f"127.0.77.{number}:0", bootstrap=bootstrap, random=SystemRandom())


@pytest.fixture(params=[pytest.param("real", marks=needs_libtorrent), "simulated"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "real":
        return real
    table = DhtTable()
    return lambda number, bootstrap: SimDht(table, f"127.0.77.{number}", bootstrap=bootstrap)


@asynccontextmanager
async def several(make: Make, count: int) -> AsyncIterator[list[Dht]]:
    """The first knows nobody, the others enter at it."""
    async with AsyncExitStack() as stack:
        nodes: list[Dht] = []
        for number in range(1, count + 1):
            node = make(number, (nodes[0].address,) if nodes else ())
            await node.open()
            stack.push_async_callback(node.close)
            nodes.append(node)
        yield nodes


async def find(node: Dht, key: bytes) -> list[str]:
    """What is found in the end: a node that comes needs a moment to know the others."""
    ends = asyncio.get_running_loop().time() + TIMEOUT_S
    while asyncio.get_running_loop().time() < ends:
        found = await node.find(key, timeout_s=1.0)
        if found:
            return found
    return []


async def test_what_one_announces_the_others_find(make: Make) -> None:
    async with several(make, 4) as nodes:
        nodes[1].announce(KEY, 4321)
        for node in nodes[2:]:
            assert await find(node, KEY) == ["127.0.77.2:4321"]
        nodes[2].announce(KEY, 4322)
        ends = asyncio.get_running_loop().time() + TIMEOUT_S
        while sorted(await nodes[3].find(KEY, timeout_s=1.0)) != ["127.0.77.2:4321", "127.0.77.3:4322"]:
            assert asyncio.get_running_loop().time() < ends


async def test_what_is_not_there_is_not_found_in_time(make: Make) -> None:
    async with several(make, 3) as nodes:
        began = asyncio.get_running_loop().time()
        assert await nodes[2].find(OTHER, timeout_s=SHORT_S) == []
        assert asyncio.get_running_loop().time() - began < SHORT_S + 0.5
        assert await nodes[2].get(KeyPair.from_seed(OTHER[:1] * 32).public, timeout_s=SHORT_S) is None


async def test_who_begins_alone_is_heard_when_somebody_comes(make: Make) -> None:
    async with several(make, 1) as (first,):
        first.announce(KEY, 4321)
        later = make(9, ())
        await later.open()
        try:
            later.enter([first.address])
            assert await find(later, KEY) == ["127.0.77.1:4321"]
        finally:
            await later.close()


async def test_a_value_is_kept_under_its_key_and_a_newer_one_takes_its_place(make: Make) -> None:
    seed = b"s" * 32
    public = KeyPair.from_seed(seed).public
    async with several(make, 4) as nodes:
        for value in (b"here", b"there"):
            ends = asyncio.get_running_loop().time() + TIMEOUT_S
            while not await nodes[1].put(seed, value, salt=b"place"):
                assert asyncio.get_running_loop().time() < ends, "somebody takes it"
            assert await nodes[3].get(public, salt=b"place", timeout_s=TIMEOUT_S) == value
        assert await nodes[3].get(public, salt=b"other", timeout_s=SHORT_S) is None
        with pytest.raises(UsageError, match="901 bytes"):
            await nodes[1].put(seed, bytes(VALUE_BYTES_MAX + 1))


async def test_one_that_is_closed_says_and_finds_nothing(make: Make) -> None:
    async with several(make, 2) as nodes:
        await nodes[1].close()
        assert await nodes[1].find(KEY, timeout_s=SHORT_S) == []
        assert not await nodes[1].put(b"s" * 32, b"x")
        assert await nodes[1].get(b"p" * 32, timeout_s=SHORT_S) is None


def test_a_simulated_liar_is_bounded_too() -> None:
    async def lied_to() -> int:
        table = DhtTable(lies=[f"127.0.78.{n % 250}:{1000 + n}" for n in range(500)])
        node = SimDht(table, "a")
        await node.open()
        found = await node.find(KEY, timeout_s=1.0)
        await node.close()
        return len(found)

    assert asyncio.run(lied_to()) == FOUND_MAX


@needs_libtorrent
async def test_a_place_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.77.50", 0)) as taken:
        node = LibtorrentDht(f"127.0.77.50:{taken.getsockname()[1]}", random=SystemRandom())
        with pytest.raises(UsageError, match=r"127\.0\.77\.50") as caught:
            await node.open()
    assert caught.value.code == "port_in_use"


@needs_libtorrent
async def test_nobody_public_is_asked_and_nothing_is_opened_beside() -> None:
    node = LibtorrentDht("127.0.77.60:0", random=SystemRandom())
    await node.open()
    try:
        said = node._session.get_settings()
    finally:
        await node.close()
    assert said["dht_bootstrap_nodes"] == ""
    assert not any(said[name] for name in ("enable_lsd", "enable_upnp", "enable_natpmp", "enable_outgoing_tcp", "enable_outgoing_utp"))
