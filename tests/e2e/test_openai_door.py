"""The OpenAI door of a real node: the official client in front of it, agents in processes of their own behind it."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support import agents_for_tests, poll_until
from tests.support.node_here import RunningNode, running_node

CLASSES = ("Echo", "Toy", "Faulty", "Endless")
HELLO: list[Any] = [{"role": "user", "content": "hello my mesh"}]
STOP_S = 5.0  # for an agent to hear that nobody waits for it any more
STANDS_S = 0.5  # so long without another part, and it is held back
PARTS_ON_THE_WAY_MAX = 1000  # of 16 KiB: the kernel's buffers on loopback, and the windows of every hop
BODY_BYTES_MAX = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "home", "--name", "alpha") as running:
        running.run_agents(*(f"{Path(agents_for_tests.__file__).resolve()}:{name}" for name in CLASSES))
        yield running


def _openai(node: RunningNode, *, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{node.url}/v1",
        api_key=node.ready["token"] if key is None else key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


@pytest.fixture
def client(node: RunningNode) -> Iterator[openai.OpenAI]:
    with _openai(node) as client:
        yield client


@pytest.fixture
def http(node: RunningNode) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {node.ready['token']}"}
    with httpx.Client(base_url=node.url, headers=headers, trust_env=False, timeout=20) as http:
        yield http


def _chat(model: str, text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


# --- the official client ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_by_their_bare_names(client: openai.OpenAI) -> None:
    models = {model.id: model.owned_by for model in client.models.list()}
    assert {"echo", "org/model:8b", "toy"} <= set(models)
    assert set(models.values()) == {"alpha"}


@pytest.mark.parametrize("model", ["echo", "org/model:8b", "toy"])
def test_a_model_is_shown(client: openai.OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=HELLO)
    assert answer.choices[0].message.content == "hello my mesh "
    assert (answer.model, answer.object, answer.choices[0].finish_reason) == ("echo", "chat.completion", "stop")


def test_a_chat_with_an_agent_that_does_not_stream(client: openai.OpenAI) -> None:
    """Its own idea of its name is not shown, and fields that we don't know reach it."""
    answer = client.chat.completions.create(model="org/model:8b", messages=HELLO, temperature=0.5, extra_body={"mirostat": 2})
    assert answer.choices[0].message.content == "{'mirostat': 2, 'temperature': 0.5}"
    assert answer.model == "org/model:8b"


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="echo", messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hello ", "my ", "mesh ", ""]
    assert {(chunk.model, chunk.object) for chunk in chunks} == {("echo", "chat.completion.chunk")}
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("model", ["echo", "org/model:8b"])
def test_a_streamed_chat_tells_its_usage_when_asked(client: openai.OpenAI, model: str) -> None:
    *_, last = client.chat.completions.create(model=model, messages=HELLO, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 3


def test_a_stream_from_an_agent_that_does_not_stream(client: openai.OpenAI) -> None:
    (chunk,) = client.chat.completions.create(model="org/model:8b", messages=HELLO, stream=True)
    assert chunk.choices[0].delta.tool_calls is not None
    assert chunk.choices[0].delta.tool_calls[0].index == 0
    assert chunk.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("given", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_embeddings(client: openai.OpenAI, given: Any) -> None:
    """Left out, the client asks for base64 by itself, and decodes it."""
    answer = client.embeddings.create(model="toy", input=["a cat", "sleeps"], **given)
    vectors: list[Any] = [item.embedding for item in answer.data]
    if given.get("encoding_format") == "base64":
        assert vectors == ["AACgQAAAAEA=", "AADAQAAAgD8="]
    else:
        assert vectors == [[5.0, 2.0], [6.0, 1.0]]
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.model == "toy"


def test_embeddings_of_one_text_with_dimensions(client: openai.OpenAI) -> None:
    (item,) = client.embeddings.create(model="toy", input="a cat", dimensions=3).data
    assert item.embedding == [5.0, 2.0, 0.5]


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="ecko", messages=HELLO, stream=stream)
    assert refusal.value.code == "model_not_found"
    assert "did you mean echo?" in refusal.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/none")


def test_a_model_of_another_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="embedding:toy"):
        client.chat.completions.create(model="toy", messages=HELLO)


def test_a_wrong_token(node: RunningNode) -> None:
    with _openai(node, key="wrong") as client, pytest.raises(openai.AuthenticationError) as refusal:
        client.models.list()
    assert refusal.value.code == "bad_token"


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_that_fails(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError, match="the GPU is on fire") as refusal:
        client.chat.completions.create(model="broken", messages=HELLO, stream=stream)
    assert (refusal.value.status_code, refusal.value.code) == (502, "task_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_that_answers_something_else(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError, match="a chat completion with a list `choices`, but with a string"):
        client.chat.completions.create(model="chatty", messages=HELLO, stream=stream)


def test_an_agent_that_fails_in_mid_stream(client: openai.OpenAI) -> None:
    got = []
    with pytest.raises(openai.APIError, match="the GPU is on fire") as refusal:
        got += [chunk.choices[0].delta.content for chunk in client.chat.completions.create(model="torn", messages=HELLO, stream=True)]
    assert refusal.value.code == "stream_interrupted"


# --- plain HTTP -------------------------------------------------------------------------------------------------------------------


def test_events_end_with_done(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json=_chat("echo", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(json.loads(item.removeprefix("data: "))["model"] == "echo" for item in events)


def test_a_stream_that_fails_ends_with_its_error(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json=_chat("torn", stream=True))
    assert answer.status_code == 200
    first, last, _ = answer.text.split("\n\n")
    assert "so far" in first
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stream_interrupted"


def test_a_foreign_host_is_refused(node: RunningNode) -> None:
    """Also with the right token: a page whose name was pointed at this machine may have got hold of it."""
    host, port = node.ready["http"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        ask = f"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {node.ready['token']}\r\nconnection: close\r\n\r\n"
        connection.sendall(ask.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 403 ")
    assert '"code":"foreign_host"' in answer


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00\x01\xfc\x03", b"GET\r\n\r\n", b"\x00" * 70_000, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"]
)
def test_garbage_ends_its_own_connection_only(node: RunningNode, http: httpx.Client, raw: bytes) -> None:
    host, port = node.ready["http"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
        except ConnectionError:
            pass  # it may hang up before it has heard all
    assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(http: httpx.Client, declared: bool) -> None:
    """The refusal arrives although the client is still sending, and the node serves on."""
    piece = b" " * 1024 * 1024

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // len(piece) + 1):
            yield piece

    headers = {"content-length": str(BODY_BYTES_MAX + len(piece))} if declared else {}
    answer = http.post("/v1/chat/completions", content=pieces(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert http.post("/v1/chat/completions", json=_chat("echo")).status_code == 200


def test_a_large_body_goes_through(http: httpx.Client) -> None:
    text = "x" * (8 * 1024 * 1024)
    answer = http.post("/v1/chat/completions", json=_chat("echo", text))
    assert answer.json()["choices"][0]["message"]["content"] == f"{text} "


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"[1]", b'{"model": "echo", "messages": [NaN]}'])
def test_bad_json_is_said(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    assert "JSON" in answer.json()["error"]["message"]


def test_a_value_that_is_too_deep_is_refused(http: httpx.Client) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    answer = http.post("/v1/chat/completions", json=_chat("echo", deep=deep))
    assert answer.status_code == 400
    assert http.post("/v1/chat/completions", json=_chat("echo")).status_code == 200


# --- clients that leave -----------------------------------------------------------------------------------------------------------


@contextmanager
def _streaming(http: httpx.Client, text: str) -> Iterator[Iterator[str]]:
    with http.stream("POST", "/v1/chat/completions", json=_chat("endless", text, stream=True)) as answer:
        assert answer.status_code == 200
        yield answer.iter_lines()


def _made(node: RunningNode, word: str) -> int:
    """Parts that the agent made for the task with that word; -1 before it began."""
    return max((int(made) for made in re.findall(rf"{word} made (\d+)", node.log_of("endless"))), default=-1)


def _ended(node: RunningNode, word: str) -> bool:
    return f"{word} ended" in node.log_of("endless")


def test_leaving_in_mid_stream_ends_the_agents_work(node: RunningNode, http: httpx.Client) -> None:
    with _streaming(http, "mid") as lines:
        assert "more" in next(lines)
        assert not _ended(node, "mid")
    poll_until(lambda: _ended(node, "mid"), STOP_S)


def test_leaving_before_the_answer_ends_the_agents_work(node: RunningNode) -> None:
    body = json.dumps(_chat("silent", "early"))
    host, port = node.ready["http"].rsplit(":", 1)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {node.ready['token']}\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        poll_until(lambda: _made(node, "early") == 0)
        assert not _ended(node, "early")
    poll_until(lambda: _ended(node, "early"), STOP_S)


def test_a_client_that_does_not_read_holds_the_agent_back(node: RunningNode, http: httpx.Client) -> None:
    """What waits for it on the way is bounded; the agent makes no more until it reads."""
    with _streaming(http, "held flood") as lines:
        next(lines)
        made, since = -1, time.monotonic()

        def stands() -> bool:
            nonlocal made, since
            before, made = made, _made(node, "held")
            since = since if made == before else time.monotonic()
            return time.monotonic() - since > STANDS_S

        poll_until(stands, 20)
        assert 0 < made < PARTS_ON_THE_WAY_MAX
        assert not _ended(node, "held")
        for _ in range(4 * PARTS_ON_THE_WAY_MAX):  # an event is a line and an empty one
            next(lines)
        assert _made(node, "held") > made
    poll_until(lambda: _ended(node, "held"), STOP_S)


def test_the_node_ends_with_a_stream_open(tmp_path: Path) -> None:
    """The client hears why, and the process is gone."""
    with running_node(tmp_path / "home") as node:
        node.run_agents(f"{Path(agents_for_tests.__file__).resolve()}:Endless")
        headers = {"authorization": f"Bearer {node.ready['token']}"}
        with (
            httpx.Client(base_url=node.url, headers=headers, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=_chat("endless", "open", stream=True)) as answer,
        ):
            lines = answer.iter_lines()
            assert "more" in next(lines)
            node.process.terminate()
            *_, last = (line for line in lines if line)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert node.process.wait(10) == 0
