"""Servers that are brought in: what goes wrong with them is told apart, and in their own words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.runtimes.contract import Call, Source
from skerry.agents.runtimes.remote import RemoteRuntime
from skerry.errors import Code, Refused, SkerryError, Unreachable, UsageError
from tests.support import async_poll_until
from tests.support.meshes import context
from tests.support.openai_server import MODELS, openai_server, seen

KEY = "sk-of-the-tests"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with openai_server() as url:
        yield url


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with openai_server(key=KEY) as url:
        yield url


@asynccontextmanager
async def remote(url: str, **options: Any) -> AsyncIterator[RemoteRuntime]:
    runtime = RemoteRuntime()
    try:
        await runtime.activate(Source("remote", "server", None, url, options), context())
        yield runtime
    finally:
        await runtime.stop()


async def refused(url: str, **options: Any) -> SkerryError:
    with pytest.raises(SkerryError) as refusal:
        async with remote(url, **options):
            pass
    assert refusal.value.hint
    return refusal.value


async def test_each_of_its_models_is_offered(server: str) -> None:
    async with remote(server) as runtime:
        assert [offer.capability for offer in runtime.offers()] == [f"inference:{model}" for model in MODELS]
        assert all(offer.streams and offer.idempotent for offer in runtime.offers())


async def test_or_what_was_chosen(server: str) -> None:
    async with remote(f"openai+{server}/", model="text-model", capabilities=["embedding:mine"]) as runtime:
        assert [offer.capability for offer in runtime.offers()] == ["embedding:mine"]
        assert (await runtime.health()).ok
        answer = await runtime.call(Call("embedding:mine", {"input": ["ab", "c"], "model": "ignored"}))
        assert [one["embedding"] for one in answer["data"]] == [[2.0, 1.0], [1.0, 1.0]]
        assert seen(server)["bodies"][-1] == {"input": ["ab", "c"], "model": "text-model"} | {"stream": False}
        (part,) = [part async for part in runtime.stream(Call("embedding:mine", {"input": "ab"}))]
        assert part["object"] == "list"
    async with remote(server, model="echo") as runtime:
        assert [offer.capability for offer in runtime.offers()] == ["inference:echo"]
    assert "speech:x" in str(await refused(server, capabilities=["speech:x"]))


async def test_a_name_that_can_be_no_capability_is_left_out() -> None:
    with openai_server(models=["good", "bad*", "x" * 300]) as url:
        async with remote(url) as runtime:
            assert [offer.capability for offer in runtime.offers()] == ["inference:good"]


async def test_the_server_is_told_its_own_model_name_and_every_field(server: str) -> None:
    async with remote(server) as runtime:
        answer = await runtime.call(Call("inference:echo", {**HELLO, "model": "other", "stream": True, "top_k": 7}))
        assert answer["choices"][0]["message"]["content"] == "you said: hello"
        assert seen(server)["bodies"][-1] == {**HELLO, "model": "echo", "stream": False, "top_k": 7}


async def test_errors_of_the_server_are_passed_on_in_its_words(server: str) -> None:
    async with remote(server) as runtime:
        for capability in ("inference:broken", "inference:absent"):
            with pytest.raises(Refused) as refusal:
                await runtime.call(Call(capability, HELLO))
            assert refusal.value.code == (Code.TASK_FAILED if capability == "inference:broken" else Code.UNKNOWN_CAPABILITY)
        with pytest.raises(Refused, match="the GPU is on fire"):
            [part async for part in runtime.stream(Call("inference:broken", HELLO))]
    async with remote(server, model="absent") as runtime:
        with pytest.raises(Refused, match="model 'absent' not found") as refusal:
            await runtime.call(Call("inference:absent", HELLO))
        assert refusal.value.code == Code.NOT_FOUND


async def test_a_stream_that_is_torn_is_told_from_one_that_ends(server: str) -> None:
    async with remote(server) as runtime:
        parts = []
        with pytest.raises(Unreachable) as refusal:
            async for part in runtime.stream(Call("inference:torn", HELLO)):
                parts.append(part)  # noqa: PERF401 - what came before the break counts
        assert len(parts) == 3
        assert refusal.value.code == Code.STREAM_INTERRUPTED
        assert refusal.value.outcome_unknown


async def test_the_server_hears_when_nobody_listens_any_more() -> None:
    with openai_server() as url:
        async with remote(url) as runtime:
            parts: Any = runtime.stream(Call("inference:slow", HELLO))
            await anext(parts)
            await parts.aclose()
            await async_poll_until(lambda: seen(url)["given_up"] == 1, what="the server to give up")


async def test_time_is_up_when_the_task_says_so(server: str) -> None:
    async with remote(server) as runtime:
        with pytest.raises(SkerryError, match=r"did not finish within 0.2 s") as refusal:
            await runtime.call(Call("inference:slow", HELLO, timeout_s=0.2))
        assert refusal.value.code == Code.DEADLINE_EXCEEDED
        with pytest.raises(SkerryError) as refusal:
            [part async for part in runtime.stream(Call("inference:slow", HELLO, timeout_s=0.2))]
        assert refusal.value.code == Code.DEADLINE_EXCEEDED


async def test_a_server_that_goes_away_is_unhealthy_with_the_reason() -> None:
    with openai_server() as url:
        runtime = RemoteRuntime()
        await runtime.activate(Source("remote", "server", None, url), context())
    health = await runtime.health()
    assert not health.ok
    assert "Connection refused" in health.detail
    with pytest.raises(Unreachable, match="Connection refused") as refusal:
        await runtime.call(Call("inference:echo", HELLO))
    assert not refusal.value.outcome_unknown, "nothing was sent: another may be asked"
    await runtime.stop()


async def test_a_server_that_breaks_off_may_have_done_the_work() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET"):
            body = b'{"data": [{"id": "m"}]}'
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, remote(f"http://127.0.0.1:{port}/v1") as runtime:
        with pytest.raises(Unreachable) as refusal:
            await runtime.call(Call("inference:m", HELLO))
        assert refusal.value.outcome_unknown


async def test_what_is_no_such_server_is_refused_with_the_reason(server: str) -> None:
    root = server.removesuffix("/v1")
    page, moved, lost = await refused(f"{root}/page/v1"), await refused(f"{root}/moved/v1"), await refused(f"{root}/lost")
    assert "not in JSON" in str(page)
    assert "sends us on to /v1/models" in str(moved)
    assert "404" in str(lost)
    assert {page.code, moved.code, lost.code} == {Code.BAD_INPUT}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = await refused(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    assert isinstance(down, Unreachable)


async def test_a_key_is_sent_and_its_absence_told(locked: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    async with remote(locked, api_key_file=str(file)) as runtime:
        assert await runtime.call(Call("inference:echo", HELLO))
    without = await refused(locked)
    assert "Incorrect API key provided" in str(without)
    assert "--api-key-file" in without.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
async def test_a_key_that_others_can_read_is_refused(locked: str, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(mode)
    error = await refused(locked, api_key_file=str(file))
    assert error.code == Code.UNSAFE_FILE
    assert str(file) in str(error)
    assert error.hint == f"chmod 600 {file}"
    assert KEY not in f"{error} {error.hint}"


async def test_a_key_file_without_a_key_is_refused(locked: str, tmp_path: Path) -> None:
    for text in ("", "two words", "\x00"):
        (tmp_path / "key").write_text(text)
        (tmp_path / "key").chmod(0o600)
        assert (await refused(locked, api_key_file=str(tmp_path / "key"))).code == Code.BAD_INPUT
    assert (await refused(locked, api_key_file=str(tmp_path / "absent"))).code == Code.NOT_FOUND


async def test_a_key_never_travels_in_clear(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    error = await refused("http://llm.invalid/v1", api_key_file=str(tmp_path / "key"))
    assert "in clear" in str(error)


@pytest.mark.parametrize("url", ["http://", "http://user:secret@127.0.0.1/v1", "http://127.0.0.1/v1?key=secret", "ftp://127.0.0.1"])
async def test_an_address_that_is_none_is_refused_and_no_password_shown(url: str) -> None:
    error = await refused(url)
    assert isinstance(error, UsageError)
    assert "user:secret" not in f"{error} {error.hint}"


async def test_what_is_no_json_is_refused_before_it_is_sent(server: str) -> None:
    async with remote(server) as runtime:
        for value in (b"x", float("nan")):
            with pytest.raises(UsageError) as refusal:
                await runtime.call(Call("inference:echo", {**HELLO, "extra": value}))
            assert refusal.value.code == Code.BAD_PAYLOAD
