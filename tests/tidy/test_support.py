"""The tests' own tools can fail: a guard that lets everything through, or a poll that never ends, would make every test worthless."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import async_poll_until, poll_until
from tests.support.coroutines import UnhandledOnLoop, run_test
from tests.support.loopback import LeftLoopback, is_local, take_escapes

ELSEWHERE = str(ipaddress.IPv4Address(0xC0000207))  # TEST-NET-1, where nobody is


def test_a_packet_that_would_leave_is_refused_and_noted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        with pytest.raises(LeftLoopback):
            udp.sendto(b"x", (ELSEWHERE, 9))
        with pytest.raises(LeftLoopback):
            udp.connect((ELSEWHERE, 9))
    assert take_escapes() == [f"socket.sendto {ELSEWHERE!r}", f"socket.connect {ELSEWHERE!r}"]


def test_a_name_that_would_be_looked_up_is_refused() -> None:
    with pytest.raises(LeftLoopback):
        socket.getaddrinfo("skerry.invalid", 80)
    assert len(take_escapes()) == 1


async def test_asyncio_is_watched_too() -> None:
    with pytest.raises(LeftLoopback):
        await asyncio.open_connection(ELSEWHERE, 9)
    assert take_escapes() != []


def test_what_stays_here_is_let_through() -> None:
    with socket.socket() as listener, socket.socket() as dialler:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        dialler.connect(("127.0.0.1", listener.getsockname()[1]))
    assert socket.getaddrinfo("localhost", 80)
    assert take_escapes() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost", b"127.0.0.1"])
def test_loopback_is_local(host: str | bytes) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", [ELSEWHERE, f"::ffff:{ELSEWHERE}", "0.0.0.0", "example", "", None])
def test_anything_else_is_not(host: str | None) -> None:
    assert not is_local(host)


def test_polling_ends_with_the_value_or_with_a_reason() -> None:
    answers = iter([0, "", 3])
    assert poll_until(lambda: next(answers)) == 3
    with pytest.raises(AssertionError, match=r"within 0.02 s: a light; last seen: 0"):
        poll_until(lambda: 0, 0.02, what="a light")


async def test_polling_on_a_loop_takes_both_kinds_of_predicate() -> None:
    answers = iter([0, 5, 0, 7])

    async def later() -> int:
        return next(answers)

    assert await async_poll_until(later) == 5
    assert await async_poll_until(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match="last seen: None"):
        await async_poll_until(lambda: None, 0.02)


def test_what_a_loop_would_only_log_fails_the_test() -> None:
    async def careless() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    with pytest.raises(UnhandledOnLoop, match="ZeroDivisionError"):
        run_test(careless())


@given(st.integers())
async def test_coroutines_take_examples(number: int) -> None:
    await asyncio.sleep(0)
    assert isinstance(number, int)
