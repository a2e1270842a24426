"""One request and its answer: bounded in, cancelled when nobody waits, pulled no faster than it is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from skerry.errors import Code, Refused, SkerryError, Unreachable, UsageError
from skerry.gateway.exchange import EventStream, Exchanges, error_response, event, read_object
from tests.support import async_poll_until

HTTP: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Client:
    """The other end of an ASGI app: what it sends, when it hangs up, and what it got."""

    def __init__(self, *pieces: bytes) -> None:
        self.got: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self._pieces = list(pieces)

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.got.append(message)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.got).decode()

    def request(self, **headers: str) -> Request:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return Request({**HTTP, "headers": pairs}, self.receive)


# --- in ---------------------------------------------------------------------------------------------------------------------------


async def test_a_body_may_come_in_pieces() -> None:
    assert await read_object(Client(b'{"a":', b" 1}").request(), size_bytes_max=8) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000, b"[1]", b'"x"', b'{"a": "\xff"}'])
async def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError, match="JSON"):
        await read_object(Client(body).request(), size_bytes_max=1_000_000)


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    client = Client()
    with pytest.raises(Refused) as refusal:
        await read_object(client.request(content_length="9"), size_bytes_max=8)
    assert refusal.value.code == Code.TOO_LARGE


async def test_a_body_that_grows_too_large_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        await read_object(Client(b"12345", b"6789", b"never read").request(), size_bytes_max=8)
    assert refusal.value.code == Code.TOO_LARGE


async def test_a_client_that_leaves_with_half_a_body() -> None:
    client = Client()
    client.gone.set()
    with pytest.raises(ClientDisconnect):
        await read_object(client.request(), size_bytes_max=8)


# --- while wanted -----------------------------------------------------------------------------------------------------------------


async def test_work_ends_with_its_client() -> None:
    client, exchanges = Client(), Exchanges()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def exchange() -> None:
        async with exchanges.while_wanted(client.receive):
            await work()

    running = asyncio.create_task(exchange())
    await asyncio.sleep(0)
    client.gone.set()
    with pytest.raises(ClientDisconnect):
        await running
    assert cancelled.is_set()


async def test_work_ends_with_the_door_and_none_begins_after() -> None:
    client, exchanges = Client(), Exchanges()

    async def exchange() -> None:
        async with exchanges.while_wanted(client.receive):
            await asyncio.Event().wait()

    running = asyncio.create_task(exchange())
    await asyncio.sleep(0)
    exchanges.close()
    with pytest.raises(Unreachable) as refusal:
        await running
    assert refusal.value.code == Code.SHUTTING_DOWN
    with pytest.raises(Unreachable):
        await exchange()


async def test_a_timeout_of_the_work_itself_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with Exchanges().while_wanted(Client().receive), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_cancelling_from_outside_stays_cancelling() -> None:
    client, exchanges = Client(), Exchanges()

    async def exchange() -> None:
        async with exchanges.while_wanted(client.receive):
            await asyncio.Event().wait()

    running = asyncio.create_task(exchange())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- out --------------------------------------------------------------------------------------------------------------------------


async def _events(*items: bytes | SkerryError) -> AsyncGenerator[bytes, None]:
    for item in items:
        if isinstance(item, SkerryError):
            raise item
        yield item


async def _stream(client: Client, *items: bytes | SkerryError) -> None:
    await EventStream(_events(*items), Exchanges())(HTTP, client.receive, client.send)


async def test_events_are_sent_as_they_come() -> None:
    client = Client()
    await _stream(client, event({"a": 1}), event("b"))
    assert client.text == 'data: {"a":1}\n\ndata: "b"\n\n'
    head, *_, last = client.got
    assert (b"content-type", b"text/event-stream; charset=utf-8") in head["headers"]
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_an_error_before_the_first_event_is_an_ordinary_one() -> None:
    client = Client()
    with pytest.raises(Refused):
        await _stream(client, Refused("no", code=Code.BUSY))
    assert client.got == []


async def test_an_error_after_the_first_event_is_an_event() -> None:
    client = Client()
    await _stream(client, b"data: 1\n\n", Refused("cut off", code=Code.STREAM_INTERRUPTED))
    assert '"code":"stream_interrupted"' in client.text
    assert client.got[-1]["more_body"] is False
    assert "[DONE]" not in client.text


async def test_a_stream_is_pulled_no_faster_than_it_is_taken() -> None:
    client, made = Client(), 0

    async def quick() -> AsyncIterator[bytes]:
        nonlocal made
        while made < 100:
            made += 1
            yield b"data: x\n\n"

    client.takes.clear()
    running = asyncio.create_task(EventStream(quick(), Exchanges())(HTTP, client.receive, client.send))  # type: ignore[arg-type]
    await async_poll_until(lambda: made)
    for _ in range(200):
        await asyncio.sleep(0)
    assert made == 1
    client.takes.set()
    await running
    assert made == 100


async def test_a_client_that_does_not_read_does_not_keep_the_agent() -> None:
    client, closed = Client(), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: x\n\n"
        finally:
            closed.set()

    client.takes.clear()
    running = asyncio.create_task(EventStream(parts(), Exchanges())(HTTP, client.receive, client.send))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    client.gone.set()
    await running
    assert closed.is_set()


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (Refused("busy", code=Code.BUSY), 429, ("retry-after", "1")),
        (Refused("who?", code=Code.BAD_TOKEN), 401, ("www-authenticate", "Bearer")),
        (Unreachable("gone", outcome_unknown=True), 503, ("x-should-retry", "false")),
        (Unreachable("gone", code=Code.NO_CANDIDATE), 503, None),
        (Refused("late", code=Code.DEADLINE_EXCEEDED), 504, None),
    ],
)
def test_errors_say_when_to_ask_again(error: SkerryError, status: int, header: tuple[str, str] | None) -> None:
    response = error_response(error)
    assert response.status_code == status
    told = {name: response.headers[name] for name in ("retry-after", "www-authenticate", "x-should-retry") if name in response.headers}
    assert told == ({header[0]: header[1]} if header else {})
