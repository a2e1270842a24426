"""A simulated process that ends runs no further line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.sim.clock import SimRandom
from skerry.sim.loop import run
from skerry.sim.network import SimNetwork
from skerry.sim.process import CURRENT, Died, Process


def test_what_a_process_starts_is_its_own_however_deep() -> None:
    async def scene() -> list[str]:
        process, seen = Process("one"), list[str]()

        async def deep() -> None:
            asyncio.get_running_loop().call_later(1, lambda: seen.append(getattr(CURRENT.get(), "name", "nobody")))

        async def work() -> None:
            await asyncio.get_running_loop().create_task(deep())

        await process.run(work())
        await asyncio.sleep(2)
        asyncio.get_running_loop().call_soon(lambda: seen.append(getattr(CURRENT.get(), "name", "nobody")))
        await asyncio.sleep(0)
        return seen

    assert run(scene()) == ["one", "nobody"]


def test_a_dead_process_runs_no_further_line() -> None:
    async def scene() -> list[str]:
        process, ran = Process("one"), list[str]()

        async def ticking() -> None:
            while True:
                await asyncio.sleep(1)
                ran.append("tick")

        async def work() -> None:
            asyncio.get_running_loop().call_later(2.5, ran.append, "timer")
            asyncio.get_running_loop().create_task(ticking())
            await asyncio.Event().wait()

        waiting = asyncio.create_task(process.run(work()))
        await asyncio.sleep(2.2)
        process.end()
        with pytest.raises(Died):
            await waiting
        await asyncio.sleep(10)
        assert process.tasks() == []
        return ran

    assert run(scene()) == ["tick", "tick"]


def test_what_its_last_blocks_await_or_raise_meets_nobody() -> None:
    async def scene() -> None:
        process = Process("one")

        async def stubborn() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                try:
                    await asyncio.sleep(100)
                finally:
                    raise ValueError("nobody hears this")

        async def parts() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(100)

        async def reader() -> None:
            async for _ in parts():
                pass

        process.spawn(stubborn())
        process.spawn(reader())
        await asyncio.sleep(1)
        process.end()
        await asyncio.sleep(1)

    run(scene())


def test_what_a_process_would_have_heard_in_the_moment_of_its_end_is_no_failure() -> None:
    async def scene() -> None:
        process = Process("one")
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def ask(answer: asyncio.Future[None]) -> None:
            await answer

        task = process.spawn(ask(answer))
        await asyncio.sleep(1)
        answer.set_exception(LookupError("nobody is there"))
        process.end()
        del task, answer
        await asyncio.sleep(1)

    run(scene())


def test_who_asks_a_dead_process_hears_so_and_the_end_is_told_once() -> None:
    async def scene() -> list[int]:
        ends: list[int] = []
        process = Process("one", on_end=ends.append)
        process.end(0)
        process.end(-9)
        with pytest.raises(Died, match="one is dead"):
            await process.run(asyncio.sleep(1))
        return ends

    assert run(scene()) == [0]


def test_a_door_that_closes_gives_up_what_was_asked() -> None:
    async def scene() -> list[str]:
        process, heard = Process("one"), list[str]()

        async def work() -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        waiting = asyncio.create_task(process.run(work()))
        await asyncio.sleep(1)
        process.hang_up()
        with pytest.raises(Died):
            await waiting
        await asyncio.sleep(1)
        return heard

    assert run(scene()) == ["cancelled"]


def test_a_connection_is_called_in_the_process_that_made_it() -> None:
    class Noted(asyncio.Protocol):
        def __init__(self, seen: list[str]) -> None:
            self._seen = seen

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self._seen.append(f"{getattr(CURRENT.get(), 'name', 'nobody')} {data.decode()}")

    async def scene() -> list[str]:
        seen: list[str] = []
        network = SimNetwork(SimRandom(1))
        alpha, beta = network.host("alpha"), network.host("beta")
        server, client = Process("server"), Process("client")
        await server.run(beta.listen("tcp://beta:1", lambda: Noted(seen)))
        near = await client.run(alpha.dial("tcp://beta:1", lambda: Noted(seen), timeout_s=1))
        assert isinstance(near, Noted)
        near.transport.write(b"hello")
        await asyncio.sleep(1)
        return seen

    assert run(scene()) == ["server hello"]
