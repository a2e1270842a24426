"""Virtual time: it jumps, it is the same each time, and what can't go on says so."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from skerry.sim.loop import ROUNDS_MAX, Stuck, VirtualLoop, run

DAY_S = 24 * 3600.0


def test_a_month_passes_at_once() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(30):
            await asyncio.sleep(DAY_S)
        return loop.time()

    started = time.monotonic()
    assert run(main()) == 30 * DAY_S
    assert time.monotonic() - started < 5


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append(loop.time())
        await asyncio.sleep(0.25)
        seen.append(loop.time())
        return seen

    assert run(main()) == [0.0, 0.0, 0.25]


def test_timers_fire_in_order_of_time_and_then_of_their_setting() -> None:
    fired: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name in ("first", "second", "third"):
            loop.call_at(5.0, fired.append, name)
        loop.call_at(1.0, fired.append, "early")
        for number in range(1000):  # so many that a plain heap would shuffle them
            loop.call_at(7.0, fired.append, str(number))
        await asyncio.sleep(8)

    run(main())
    assert fired == ["early", "first", "second", "third", *map(str, range(1000))]


def test_a_timer_that_is_due_runs_though_others_keep_the_loop_busy() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        late: list[bool] = []
        loop.call_later(-1.0, late.append, True)
        for _ in range(3):
            await asyncio.sleep(0)
        return bool(late)

    assert run(main())


def test_cancelled_timers_do_not_fire_and_do_not_pile_up() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(10_000):
            loop.call_later(1000, pytest.fail, "a cancelled timer fired").cancel()
            await asyncio.sleep(0.01)
        return len(loop._timers)

    assert run(main()) < 1000


def test_timeouts_are_virtual() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run(main()) == 600


def test_an_executor_runs_there_and_then() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        threads: list[int] = []
        done = loop.run_in_executor(None, lambda: threads.append(threading.get_ident()))
        assert threads == [threading.get_ident()]
        await done
        assert await asyncio.to_thread(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    run(main())


def test_callbacks_run_in_their_context() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")

    async def main() -> list[str]:
        seen: list[str] = []
        inside = contextvars.copy_context()
        inside.run(place.set, "inside")
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: seen.append(place.get()), context=inside)
        loop.call_soon_threadsafe(lambda: seen.append(place.get()), context=inside)
        loop.call_later(1, lambda: seen.append(place.get()))
        await asyncio.sleep(2)
        return seen

    assert run(main()) == ["inside", "inside", "nowhere"]


# --- the same each time -----------------------------------------------------------------------------------------------------------


def test_tasks_are_numbered_from_the_start_of_each_run() -> None:
    async def main() -> list[str | None]:
        tasks = [asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(0), name="mine")]
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    assert run(main()) == run(main()) == ["task-2", "mine"]


def test_sets_of_tasks_have_one_order() -> None:
    """A task group cancels from a set; with addresses as hashes its order would be a matter of luck."""

    async def main() -> list[int]:
        cancelled: list[int] = []
        padding: list[bytearray] = []

        async def member(number: int) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                cancelled.append(number)

        async def failing() -> None:
            await asyncio.sleep(1)
            raise ValueError

        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    padding.append(bytearray(number * 37))  # moves the addresses
                    group.create_task(member(number))
                group.create_task(failing())
        return cancelled

    assert run(main()) == run(main()) == list(range(50))


# --- what can't go on -------------------------------------------------------------------------------------------------------------


def test_a_deadlock_is_named_with_those_who_wait() -> None:
    async def starving() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.sleep(3)
        await asyncio.create_task(starving(), name="the hungry one")

    with pytest.raises(Stuck, match=r"nothing is left to happen at 3\.000000 s.*the hungry one \(.*starving\)"):
        run(main())


def test_something_that_spins_is_named() -> None:
    async def spinning() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match=rf"time stands still at 0\.000000 s: {ROUNDS_MAX} turns.*spinning"):
        run(spinning())


@pytest.mark.parametrize("is_main_waiting", [True, False])
def test_an_exception_in_a_callback_fails_the_run(is_main_waiting: bool) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(2 if is_main_waiting else 0, lambda: 1 // 0)
        await asyncio.sleep(5 if is_main_waiting else 0)

    with pytest.raises(ZeroDivisionError) as caught:
        run(main())
    assert "in simulated time" in caught.value.__notes__[0]


def test_a_tasks_exception_that_nobody_reads_fails_the_run() -> None:
    async def careless() -> None:
        raise LookupError("lost")

    async def main() -> None:
        asyncio.create_task(careless())  # noqa: RUF006 - that nobody holds it is the point
        await asyncio.sleep(10)

    with pytest.raises(LookupError, match="lost"):
        run(main())


def test_what_main_raises_comes_out() -> None:
    async def main() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main())


def test_what_is_left_behind_is_ended_in_order() -> None:
    ended: list[str] = []

    async def lasting(name: str) -> None:
        try:
            await asyncio.sleep(DAY_S)
        finally:
            await asyncio.sleep(1)  # takes its time over it
            ended.append(name)

    async def parts() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def main() -> None:
        kept.extend(asyncio.create_task(lasting(name)) for name in "abc")
        left = parts()
        kept.append(left)
        await anext(left)

    kept: list[Any] = []
    run(main())
    assert ended == ["a", "b", "c", "generator"]


def test_a_failure_is_told_though_its_ruins_do_not_end() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(1)
        raise KeyError("the reason")

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(KeyError, match="the reason"):
        run(main())


# --- the world outside ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reach_out",
    [
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0),
        lambda: asyncio.open_unix_connection("/nowhere"),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    ],
)
def test_the_real_world_is_refused(reach_out: Callable[[], Any]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="out of the simulation"):
            await reach_out()

    run(main())


def test_real_sockets_are_refused() -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right, pytest.raises(RuntimeError, match="add_reader"):
            asyncio.get_running_loop().add_reader(left, lambda: None)

    run(main())


def test_other_threads_are_refused() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        refused: list[str] = []

        def call_in() -> None:
            try:
                loop.call_soon_threadsafe(lambda: None)
            except RuntimeError as error:
                refused.append(str(error))

        thread = threading.Thread(target=call_in)
        thread.start()
        thread.join()
        return refused

    (reason,) = run(main())
    assert "thread" in reason
