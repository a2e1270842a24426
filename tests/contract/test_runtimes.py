"""One suite for every runtime: what the worker may rely on, whatever it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skerry.agents import runtimes
from skerry.agents.runtimes.contract import Call, Runtime, Source
from skerry.agents.schema import misfit
from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.codec import pack, unpack
from tests.support import models
from tests.support.meshes import context
from tests.support.openai_server import openai_server

PROMPTLY_S = 10.0  # a cancelled task has to be gone by then; without cancellation each of them would take far longer

AGENT = """
import asyncio
from collections.abc import AsyncIterator
from skerry.agents.sdk import Agent, handles

class Echo(Agent):
    @handles("custom:echo", idempotent=True)
    async def echo(self, text: str) -> str:
        return text

    @handles("custom:letters")
    async def letters(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter
            if text == "for ever":
                await asyncio.Event().wait()

    @handles("custom:wait")
    async def wait(self, payload):
        await asyncio.Event().wait()
"""

Payload = tuple[str, Any]  # a capability and what to give it


@dataclass(frozen=True)
class Case:
    """How one runtime is put through the suite. `bad`: with the field that the refusal has to name."""

    source: Source
    quick: Payload
    long: Payload
    long_stream: Payload
    bad: dict[str, Payload]
    bad_sources: list[tuple[Source, str]] = field(default_factory=list)  # with their codes


def _python(folder: Path) -> Case:
    file = folder / "echo.py"
    file.write_text(AGENT)
    broken = folder / "broken.py"
    broken.write_text("class Echo(:\n")
    return Case(
        source=Source("python", "echo", file, "echo.py:Echo"),
        quick=("custom:echo", "hello"),
        long=("custom:wait", None),
        long_stream=("custom:letters", "for ever"),
        bad={"payload: expected str": ("custom:echo", 7)},
        bad_sources=[
            (Source("python", "echo", broken, "broken.py:Echo"), Code.BAD_INPUT),
            (Source("python", "echo", file, "echo.py:Nobody"), Code.NOT_FOUND),
            (Source("python", "echo", folder / "absent.py", "absent.py:Echo"), Code.NOT_FOUND),
        ],
    )


def _onnx(folder: Path) -> Case:
    options = {"capabilities": ["embedding:minilm", "custom:minilm"], "tokenizer": str(models.minilm_tokenizer())}
    many = ("embedding:minilm", {"input": ["a long text " * 150] * 400})
    ids = [[101, 4937, 102]]
    return Case(
        source=Source("onnx", "minilm", models.minilm(), options=options),
        quick=("embedding:minilm", {"input": "cat"}),
        long=many,
        long_stream=many,
        bad={
            "payload.input is missing": ("embedding:minilm", {}),
            "payload.input[1]: expected a string": ("embedding:minilm", {"input": ["cat", 7]}),
            "payload.input_ids: expected int64": ("custom:minilm", {"input_ids": [["cat"]], "attention_mask": ids, "token_type_ids": ids}),
            "payload.token_type_ids is missing": ("custom:minilm", {"input_ids": ids, "attention_mask": ids}),
        },
        bad_sources=[
            (Source("onnx", "x", _garbage(folder, "garbage.onnx"), options={}), Code.BAD_MODEL),
            (Source("onnx", "x", _cut(models.minilm(), folder), options={}), Code.BAD_MODEL),
            (Source("onnx", "x", folder / "absent.onnx", options={}), Code.NOT_FOUND),
            (Source("onnx", "x", models.minilm(), options={"capabilities": ["embedding:x"]}), Code.BAD_INPUT),
        ],
    )


def _gguf(folder: Path) -> Case:
    def ask(**options: Any) -> Payload:
        return "inference:smollm", {"messages": [{"role": "user", "content": "Tell me a long story."}], "temperature": 0, **options}

    return Case(
        source=Source("gguf", "smollm", models.smollm(), options={"capabilities": ["inference:smollm"]}),
        quick=ask(max_tokens=8),
        long=ask(),
        long_stream=ask(),
        bad={
            "payload.messages is missing": ("inference:smollm", {}),
            "payload.messages[0].role": ("inference:smollm", {"messages": [{"role": "wizard", "content": "x"}]}),
            "payload.max_tokens": ask(max_tokens="many"),
            "exceeds the available context size": ("inference:smollm", {"messages": [{"role": "user", "content": "word " * 6000}]}),
        },
        bad_sources=[
            (Source("gguf", "x", _garbage(folder, "garbage.gguf")), Code.BAD_MODEL),
            (Source("gguf", "x", _cut(models.smollm(), folder)), Code.BAD_MODEL),
            (Source("gguf", "x", folder / "absent.gguf"), Code.NOT_FOUND),
            (Source("gguf", "x", models.smollm(), options={"capabilities": ["embedding:x"]}), Code.BAD_INPUT),
        ],
    )


def _remote(url: str) -> Case:
    def ask(model: str) -> Payload:
        return f"inference:{model}", {"messages": [{"role": "user", "content": "hello"}]}

    return Case(
        source=Source("remote", "server", None, url),
        quick=ask("echo"),
        long=ask("slow"),
        long_stream=ask("slow"),
        bad={"payload.messages is missing": ("inference:echo", {"prompt": "hello"})},
        bad_sources=[
            (Source("remote", "server", None, "ftp://127.0.0.1/v1"), Code.BAD_INPUT),
            (Source("remote", "server", None, f"{url}/nothing/here"), Code.BAD_INPUT),
            (Source("remote", "server", None, "http://127.0.0.1:1/v1"), Code.UNREACHABLE),
        ],
    )


def _garbage(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"this is no model " * 1000)
    return path


def _cut(model: Path, folder: Path) -> Path:
    """The first half of a model."""
    path = folder / f"half{model.suffix}"
    path.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with openai_server(models=["echo", "slow"]) as url:
        yield url


@pytest.fixture(params=["python", "onnx", "gguf", "remote"])
def case(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> Case:
    match request.param:
        case "python":
            return _python(tmp_path)
        case "onnx":
            return _onnx(tmp_path)
        case "gguf":
            return _gguf(tmp_path)
        case _:
            return _remote(server)


@asynccontextmanager
async def active(source: Source) -> AsyncIterator[Runtime]:
    runtime = runtimes.load(source.runtime)()
    try:
        assert runtime.can_handle(source)
        assert await runtime.activate(source, context())
        yield runtime
    finally:
        await runtime.stop()


async def test_what_is_offered_really_works(case: Case) -> None:
    async with active(case.source) as runtime:
        offers = runtime.offers()
        assert {case.quick[0], case.long[0]} <= {offer.capability for offer in offers}
        assert pack([offer.attributes for offer in offers])
        for offer in offers:
            if offer.example is None or offer.capability == "inference:slow":
                continue
            assert offer.payload is not None
            assert misfit(offer.payload, offer.example) is None
            result = await runtime.call(Call(offer.capability, unpack(pack(offer.example))))
            assert offer.result is not None
            assert misfit(offer.result, unpack(pack(result)), at="result") is None


async def test_it_is_healthy_while_it_runs_and_not_after(case: Case) -> None:
    runtime = runtimes.load(case.source.runtime)()
    await runtime.activate(case.source, context())
    assert (await runtime.health()).ok
    await runtime.stop()
    health = await runtime.health()
    assert not health.ok
    assert health.detail


async def test_a_stream_says_what_a_call_says(case: Case) -> None:
    async with active(case.source) as runtime:
        streams = {offer.capability: offer.streams for offer in runtime.offers()}
        for capability, payload in (case.quick, ("custom:letters", "abc")):
            if capability not in streams:
                continue
            whole = await runtime.call(Call(capability, payload))
            parts = [part async for part in runtime.stream(Call(capability, payload))]
            assert len(parts) > 1 or not streams[capability]
            assert _words(parts) == _words(whole if isinstance(whole, list) else [whole])


def _words(values: list[Any]) -> str:
    """What chat completions or their chunks say; other values as they are."""
    if not all(isinstance(value, dict) and "choices" in value for value in values):
        return str(values)
    said = [choice.get("message") or choice["delta"] for value in values for choice in value["choices"]]
    return "".join(one.get("content") or "" for one in said).strip()


async def test_a_call_that_is_given_up_ends(case: Case) -> None:
    async with active(case.source) as runtime, asyncio.timeout(2 * PROMPTLY_S):
        task = asyncio.create_task(runtime.call(Call(*case.long)))
        done, _ = await asyncio.wait([task], timeout=0.3)
        assert not done, "this should have taken long"
        async with asyncio.timeout(PROMPTLY_S):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await runtime.call(Call(*case.quick))


async def test_a_stream_that_is_closed_ends(case: Case) -> None:
    async with active(case.source) as runtime, asyncio.timeout(3 * PROMPTLY_S):
        parts: Any = runtime.stream(Call(*case.long_stream))
        if any(offer.streams for offer in runtime.offers()):
            await anext(parts)
        async with asyncio.timeout(PROMPTLY_S):
            await parts.aclose()
            assert await runtime.call(Call(*case.quick))


async def test_calls_that_come_together_all_get_their_answer(case: Case) -> None:
    async with active(case.source) as runtime:
        first = _words([await runtime.call(Call(*case.quick))])
        together = await asyncio.gather(*(runtime.call(Call(*case.quick)) for _ in range(3)))
        if case.source.runtime != "gguf":  # its cache changes the rounding, and so the words
            assert [_words([one]) for one in together] == [first] * 3
        assert all(together)


async def test_a_payload_that_does_not_fit_is_refused_by_field(case: Case) -> None:
    async with active(case.source) as runtime:
        for names, (capability, payload) in case.bad.items():
            with pytest.raises(UsageError) as refusal:
                await runtime.call(Call(capability, payload))
            assert refusal.value.code == Code.BAD_PAYLOAD
            assert names in str(refusal.value)
            assert capability in str(refusal.value)
            assert refusal.value.hint
            with pytest.raises(UsageError, match=r"does not fit"):
                [part async for part in runtime.stream(Call(capability, payload))]
        assert await runtime.call(Call(*case.quick)), "it serves on"


async def test_a_capability_that_it_does_not_have_is_refused(case: Case) -> None:
    async with active(case.source) as runtime:
        with pytest.raises(Refused, match="custom:nobody") as refusal:
            await runtime.call(Call("custom:nobody", None))
        assert refusal.value.code == Code.UNKNOWN_CAPABILITY


async def test_a_source_that_is_none_is_refused_by_name(case: Case) -> None:
    for source, code in case.bad_sources:
        runtime = runtimes.load(source.runtime)()
        with pytest.raises(SkerryError) as refusal:
            await runtime.activate(source, context())
        assert refusal.value.code == code
        name = source.path.name if source.path else source.entry
        assert name in f"{refusal.value} {refusal.value.hint}"
        assert refusal.value.hint
        await runtime.stop()


async def test_stopping_is_safe_at_any_time(case: Case) -> None:
    runtime = runtimes.load(case.source.runtime)()
    await runtime.stop()
    await runtime.activate(case.source, context())
    await runtime.stop()
    await runtime.stop()
    assert runtime.offers() == []
    with pytest.raises(Refused):
        await runtime.call(Call(*case.quick))


async def test_nothing_is_printed_where_others_read(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    """Native libraries like to talk. stderr is the agent's log; stdout is not theirs."""
    async with active(case.source) as runtime:
        await runtime.call(Call(*case.quick))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("name", "library"), [("onnx", "onnxruntime"), ("gguf", "xllamacpp")])
async def test_a_missing_extra_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    runtime = runtimes.load(name)()
    with pytest.raises(UsageError, match=library) as refusal:
        await runtime.activate(Source(name, "x", models.minilm() if name == "onnx" else models.smollm()), context())
    assert f"pip install 'skerry[{name}]'" in refusal.value.hint
    await runtime.stop()


def test_each_knows_its_own(case: Case) -> None:
    handled = [name for name in runtimes.RUNTIMES if runtimes.load(name)().can_handle(case.source)]
    assert handled == [case.source.runtime]


@pytest.mark.parametrize(
    ("target", "runtime"),
    [
        ("greeter.py:Greeter", "python"),
        ("/a/b c/greeter.py:Greeter", "python"),
        ("model.onnx", "onnx"),
        ("/m/MODEL.GGUF", "gguf"),
        ("openai+http://127.0.0.1:11434/v1", "remote"),
        ("openai+https://llm.example/v1", "remote"),
    ],
)
def test_targets_are_recognised_by_their_form(target: str, runtime: str) -> None:
    assert runtimes.recognise(target) == runtime


@pytest.mark.parametrize(
    "target", ["", "greeter.py", "greeter.py:", "greeter.py:a b", "model.bin", "http://127.0.0.1/v1", "openai+ftp://x"]
)
def test_other_targets_are_refused_with_what_can_be_run(target: str) -> None:
    with pytest.raises(UsageError) as refusal:
        runtimes.recognise(target)
    assert refusal.value.code == Code.BAD_INPUT
    assert refusal.value.hint


def test_a_runtime_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="fortran"):
        runtimes.load("fortran")
