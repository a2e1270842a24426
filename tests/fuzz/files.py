"""Every decoder of files in a home, of what a user types, and of HTTP bodies, with valid inputs for it.

Files of a home are its owner's; but a disk may damage them, and a hand may edit them. They are read, or refused with what is wrong.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import os
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
from starlette.requests import Request as HttpRequest

from skerry.agents.capability import check_capability, check_query
from skerry.agents.environments import inline_requirements
from skerry.agents.payloads import check, shape_of
from skerry.agents.runtimes.gguf_header import MAGIC, NoGguf, read_facts
from skerry.agents.runtimes.openai_server import OpenAiServer
from skerry.agents.schema import misfit
from skerry.agents.sdk import Agent
from skerry.agents.shipment import unpacked
from skerry.agents.state import restore
from skerry.agents.verbs import AgentRunRequest
from skerry.channel.address import parse_address, parse_host_port
from skerry.channel.messages import convert, pack_message
from skerry.client.local import _ready
from skerry.client.values import from_json, parse_payload, to_json
from skerry.client.wallet import Wallet
from skerry.errors import SkerryError
from skerry.gateway.answers import Heading, chunks, completion, embeddings
from skerry.gateway.openai import OpenAiDoor
from skerry.identity.codec import pack, unpack
from skerry.identity.grants import Role, Roster
from skerry.identity.keys import parse_id
from skerry.identity.keytext import did_key, read_public_key
from skerry.identity.pieces import unpack_body
from skerry.identity.ticket import Invitation
from skerry.node.backup import read_backup, write_backup
from skerry.node.config import FILE_NAME, SETTINGS, choose, config_of
from skerry.node.home import FileKeyring, Home
from skerry.node.logs import human_line
from skerry.node.settings import check_name
from skerry.records.replica import Replica
from skerry.records.store import SqliteStore
from skerry.records.verbs import PullRequest
from tests.fuzz.decoders import Decoder, text
from tests.fuzz.inputs import BYTES, CANONICAL, CBOR, JSON, TEXT, Shape
from tests.support.formation import FORMATION, MEMBER, OPERATOR, ROOT
from tests.vectors import cases

HEADING = Heading("llama3:8b", "chatcmpl-1", 0)
ANSWER_BYTES = 8192  # of a server's: thousands of events in it take their time, each by itself, and are not what we look for


class _Scratch:
    """A folder of memory for one process: none may read what another one writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, data: bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
        return path


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    """For as long as the process runs that asked first; those that it forks have their folders in it."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="skerry-fuzz-", dir=shared if shared.is_dir() else None)


@functools.cache
def _scratch_of(process: int) -> _Scratch:
    path = Path(_root().name) / str(process)
    path.mkdir()
    return _Scratch(path)


def _scratch() -> _Scratch:
    return _scratch_of(os.getpid())


# --- files ------------------------------------------------------------------------------------------------------------------------


def _config(data: bytes) -> Any:
    _scratch().file(FILE_NAME, data)
    return config_of(choose(_scratch().path, flags={}, environment={}))


def _ready_file(data: bytes) -> Any:
    home = _scratch().path
    _scratch().file("run/ready.json", data)
    Home(home).read_ready()
    return _ready(home)


def _key_file(data: bytes) -> Any:
    _scratch().file("keys/node.key", data)
    return FileKeyring(_scratch().path / "keys").load("node")


def _backup(data: bytes) -> Any:
    return read_backup(_scratch().file("backup", data))


def _wallet(data: bytes) -> Any:
    wallet = Wallet(_scratch().path, cases.TICKET)
    _scratch().file(str(wallet.path.relative_to(_scratch().path)), data)
    return wallet.open()


def _valid_backup() -> bytes:
    home = _scratch().path / "founder"
    home.mkdir(mode=0o700, exist_ok=True)
    FileKeyring(home).save("root", ROOT.seed)
    file = _scratch().path / "valid"
    file.unlink(missing_ok=True)
    write_backup(home, file, nodes={OPERATOR.public.hex(): ["tcp://127.0.0.1:1"]})
    return file.read_bytes()


def _valid_wallet() -> bytes:
    wallet = Wallet(_scratch().path, cases.TICKET)
    wallet.path.unlink(missing_ok=True)
    wallet.open()
    wallet.save(grant=b"grant", records=[b"record"], refreshed_ms=5)
    return wallet.path.read_bytes()


def _script(data: bytes) -> Any:
    return inline_requirements(_scratch().file("agent.py", data))


class _Greeter(Agent):
    state = ("n", "names")


def _state(data: bytes) -> Any:
    agent = _Greeter()
    restore(agent, data)
    return agent


def _shipment(data: bytes) -> Any:
    """What another node sends to be run here: nothing of it may lie outside of its folder."""
    request = convert(unpack(data), AgentRunRequest)
    with unpacked(request) as here:
        return here.target


def _gguf() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    fields = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.context_length") + struct.pack("<II", 4, 4096),
        text("general.tags") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("general.file_type") + struct.pack("<II", 4, 15),
    ]
    return MAGIC + struct.pack("<IQQ", 3, 0, len(fields)) + b"".join(fields)


@functools.cache
def _replica() -> Replica:
    replica = Replica(SqliteStore(_scratch().path / "records.db"), formation=FORMATION, roster=Roster(FORMATION), ours=MEMBER.public)
    for statement in cases.records().values():
        replica.publish(statement)
    return replica


def _cursor(data: bytes) -> Any:
    cursor = convert({"cursor": data.decode("utf-8", "replace")}, PullRequest).cursor
    page, following, _ = _replica().page(cursor, reader=MEMBER.public)
    assert following
    return page


# --- HTTP -------------------------------------------------------------------------------------------------------------------------


class _EmptyDoor(OpenAiDoor):
    """In front of a mesh where nobody offers anything."""

    async def _offered(self, *kinds: str) -> dict[str, Any]:
        return {}


@functools.cache
def _door() -> tuple[asyncio.AbstractEventLoop, OpenAiDoor]:
    ports = SimpleNamespace(random=SimpleNamespace(token=bytes), clock=SimpleNamespace(now_ms=lambda: 0))
    return asyncio.new_event_loop(), _EmptyDoor(cast(Any, SimpleNamespace(ports=ports)), cast(Any, None))


def _http(kind: str, data: bytes) -> Any:
    """A body, as far as the door looks at it before it asks the mesh."""
    loop, door = _door()
    messages = [{"type": "http.request", "body": data[:50], "more_body": True}, {"type": "http.request", "body": data[50:]}]

    async def receive() -> Any:
        return messages.pop(0)

    request = HttpRequest({"type": "http", "method": "POST", "headers": []}, receive)
    return pack(loop.run_until_complete(door._asked(request, kind)).body)


@functools.cache
def _server() -> tuple[OpenAiServer, list[httpx.Response]]:
    """A server that somebody else runs; it answers what is put into the list, once for each time it is asked."""
    server, answers = OpenAiServer("http://127.0.0.1:1/v1"), list[httpx.Response]()
    server._client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answers.pop()))
    return server, answers


def _servers_answer(data: bytes) -> Any:
    """What such a server says, as a whole and as a stream, and as the reason of a refusal."""
    server, answers = _server()
    answers[:] = [httpx.Response(status, headers={"content-type": kind}, content=data[:ANSWER_BYTES]) for status, kind in _ANSWERED]

    async def ask() -> list[Any]:
        heard: list[Any] = []
        for _ in _ANSWERED:
            try:
                heard += [part async for part in server.stream("/chat/completions", {}, timeout_s=5.0)]
            except SkerryError as error:
                str(error).encode()
        return heard

    loop, _ = _door()
    return loop.run_until_complete(ask())


def _events(data: bytes) -> list[Any]:
    return [json.loads(event[6:]) for event in data.split(b"\n\n") if event.startswith(b"data: {")]


def _event_stream(parts: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(part, default=repr).encode() + b"\n\n" for part in parts) + b": so much\n\ndata: [DONE]\n\n"


def _answer(data: bytes) -> Any:
    """What an agent somewhere answered, as the door shows it."""
    value = unpack_body(data)
    for show in (
        lambda: completion(value, HEADING),
        lambda: chunks(value, HEADING, usage=True),
        lambda: embeddings(value, HEADING, encoding="float"),
        lambda: embeddings(value, HEADING, encoding="base64"),
    ):
        try:
            show()
        except SkerryError:
            continue
    return value


def _shown(data: bytes) -> Any:
    """A payload in JSON, as CBOR, and as JSON again."""
    value = parse_payload(data.decode("utf-8", "replace"))
    pack(value)
    assert repr(from_json(to_json(value))) == repr(value)
    return value


def _fits(data: bytes) -> Any:
    """A payload for a schema of our own: others' schemas are shown, not followed."""
    return misfit(_SCHEMA, unpack(data))


def _payload(data: bytes) -> Any:
    match unpack(data):
        case [str(capability), payload]:
            check_capability(capability)
            shape_of(capability)
            return check(capability, payload)
    return None


_ANSWERED = ((200, "text/event-stream"), (200, "application/json"), (500, "application/json"))
_CHAT = {
    "model": "llama3:8b",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}, {"role": "system", "content": "x"}],
    "temperature": 0.5,
    "max_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": ["a"],
    "tools": [],
}
_ANSWER: dict[str, Any] = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "tool_calls": [{"id": "1"}]}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "data": [{"embedding": [0.5, 1.0]}, {"embedding": "AACAPw=="}],
}
_CHUNK: dict[str, Any] = {
    "choices": [{"delta": {"content": "x", "tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, "logprobs": {"content": []}}]
}
_EVENTS = _event_stream([_CHUNK, _ANSWER])
_INVITATION = Invitation(bytes(32), Role.MEMBER, 3, 5, (MEMBER.public,), (7,))
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/b"}]},
        "c": {"type": "array", "items": {"enum": [1]}},
        "d": {"type": "string", "minLength": 1, "maxLength": 3, "const": "x"},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"b": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}}},
}
_TOML = b"""name = "alpha"
listen = "127.0.0.1:0"
http_open = false
[log]
level = "debug"
size_max = "10MiB"
files = 3
[agents]
log_size_max = 65536
"""
_PEP723 = b'# /// script\n# requires-python = ">=3.11"\n# dependencies = ["httpx>=0.27", "rich"]\n# ///\nimport skerry\n'
_LINE = b'{"time": "2026-01-01T00:00:00.000Z", "level": "info", "logger": "skerry.node", "message": "up", "port": 7420}'


def files() -> dict[str, Decoder]:
    """Name -> decoder."""
    assert set(_TOML.decode().split()) & {setting.name for setting in SETTINGS}
    ready = json.dumps({"socket": "/tmp/socket", "node_id": MEMBER.public.hex(), "listen": "127.0.0.1:1", "pid": 7}).encode()
    payload = json.dumps({"name": "Ada", "data": {"$bytes": "AAEC"}, "n": [1, 2.5, None, True]}).encode()
    shipped = AgentRunRequest(
        "code/agent.py:Agent", folder="code", options={"tokenizer": "a/b"}, shipped={"code/agent.py": b"x", "a/b": b""}
    )
    return {
        "config.toml": Decoder(_config, [_TOML], TEXT, slow=True),
        "ready.json": Decoder(_ready_file, [ready], JSON, slow=True),
        "a key": Decoder(_key_file, [b"00" * 32 + b"\n", MEMBER.seed.hex().encode()], TEXT, slow=True),
        "backup": Decoder(_backup, [_valid_backup()], JSON, slow=True),
        "wallet": Decoder(_wallet, [_valid_wallet()], JSON, slow=True),
        "script": Decoder(_script, [_PEP723], TEXT, slow=True),
        "saved state": Decoder(_state, [pack({"n": 1, "names": ["Ada"]})]),
        "invitation": Decoder(Invitation.from_bytes, [_INVITATION.to_bytes()], CANONICAL, write=Invitation.to_bytes),
        "shipment": Decoder(_shipment, [pack_message(shipped)], CBOR, slow=True),
        "gguf": Decoder(lambda data: read_facts(io.BytesIO(data)), [_gguf()], BYTES, refusals=(SkerryError, NoGguf)),
        "cursor": Decoder(_cursor, [_replica().cursor().encode(), b"", b"sim.7"], TEXT),
        "chat": Decoder(functools.partial(_http, "inference"), [json.dumps(_CHAT).encode()], JSON, slow=True),
        "embeddings": Decoder(functools.partial(_http, "embedding"), [b'{"model": "m", "input": ["a", "b"]}'], JSON, slow=True),
        "answer": Decoder(_answer, [pack(_ANSWER), pack([_ANSWER, _CHUNK])]),
        "server's answer": Decoder(_servers_answer, [json.dumps(_ANSWER).encode(), b'{"error": {"message": "no"}}'], JSON, slow=True),
        "server's stream": Decoder(_servers_answer, [_EVENTS], Shape(_events, _event_stream, TEXT.odd), slow=True),
        "payload": Decoder(_shown, [payload], JSON),
        "schema": Decoder(_fits, [pack({"a": {"b": {}}, "c": [1], "d": "x"})]),
        "payload of a kind": Decoder(_payload, [pack(["inference:x", _CHAT]), pack(["embedding:x", {"input": "a"}])]),
        "log line": Decoder(text(human_line), [_LINE], JSON),
        "address": Decoder(text(parse_address), [b"tcp://127.0.0.1:7420", b"uds:///tmp/x", b"tcp://[::1]:1"], TEXT),
        "host and port": Decoder(text(lambda text: parse_host_port(text, default_port=1)), [b"[::1]:7420", b"host"], TEXT),
        "id": Decoder(text(parse_id), [FORMATION.hex().encode()], TEXT),
        "public key": Decoder(text(read_public_key), [did_key(FORMATION).encode(), base64.b64encode(FORMATION)], TEXT),
        "name": Decoder(text(check_name), [b"alpha-1"], TEXT),
        "capability": Decoder(text(check_capability), [b"inference:llama3:8b", b"custom:greet"], TEXT),
        "query": Decoder(text(check_query), [b"inference:*"], TEXT),
    }
