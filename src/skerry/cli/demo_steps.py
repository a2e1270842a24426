"""The steps of `skerry demo`: what is asked of the three nodes, and what must come of it.

Everything goes through the doors that anybody uses: the commands `up` and `join`, the Python client, HTTP. Each step leaves its figures
under a name of its own.

The rule: a step that does not get what it must get raises; nothing is shown as done that was not seen.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from skerry.channel.address import Address
from skerry.cli import demo_agent
from skerry.cli.demo_models import MINILM, MINILM_TOKENIZER, SMOLLM2, ModelPackage
from skerry.cli.demo_nodes import DemoNode
from skerry.cli.demo_view import View, span
from skerry.cli.task import delta_text
from skerry.client.mesh import Mesh, Outcome, connect, outcome_of
from skerry.errors import EXIT_UNREACHABLE, Code, SkerryError, meaning
from skerry.node.verbs import InviteReply, InviteRequest
from skerry.routing.task import TaskResult

EMBEDDING, CHAT, CLOSEST = "embedding:minilm", "inference:smollm2", "custom:closest"
TEXTS = ("A cat sleeps on the sofa.", "A kitten naps on the couch.", "A node joins the mesh with a ticket.")
NEAR, FAR = 0.6, 0.2  # cat and kitten lie nearer than the first, cat and node further apart than the second
QUESTION = "What is a lighthouse for? Answer in two sentences."
ANSWER_TOKENS = 64
SEARCH = {"question": "Where is the kitten?", "texts": list(TEXTS)}
REFUSAL_S = 5.0  # how soon a call that nobody can do must end
SAMPLES = 20  # calls behind a median
CALLS = 60  # embeddings around the kill
IN_FLIGHT = 4  # embeddings that are asked for at once while gamma is killed
TIMEOUT_S = 20.0  # for any one call: on this hardware they take a second at most
BACK_S = 30.0  # for a node that was started again to be found, with its models loaded
AGAIN_S = 0.05
POLL_S = 0.01


@dataclass(slots=True)
class Answers:
    """What came of many calls: how long each took, how many each node did, and the errors."""

    took_ms: list[float] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    errors: list[SkerryError] = field(default_factory=list)


class Steps:
    """The three nodes and what is done with them. `figures` grows with every step."""

    def __init__(self, folder: Path, models: dict[ModelPackage, Path], view: View, *, place: Address) -> None:
        self.alpha, self.beta, self.gamma = self.nodes = tuple(DemoNode(name, folder) for name in ("alpha", "beta", "gamma"))
        self.figures: dict[str, Any] = {}
        self._models = models
        self._view = view
        self._place = place

    def all(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Title and step, in order."""
        return [
            ("Three nodes start, joined by ticket", self.start),
            ("Two models and a Python agent move in", self.place),
            ("Embed three sentences", self.embed),
            ("Stream a chat answer, token by token", self.chat),
            ("Call the Python agent of alpha, from gamma", self.agent),
            ("Ask the same chat over HTTP, by OpenAI's API", self.openai),
            ("kill -9 gamma: embeddings go on through beta", self.failover),
            ("Chat, which gamma alone had, is refused clearly", self.refusal),
            ("gamma starts again, and its models with it", self.comeback),
        ]

    # --- nodes and agents -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """alpha founds a formation; beta and gamma join it with a ticket for two."""
        self._view.now("alpha founds a formation")
        self.alpha.start("up", listen=self._place.host_port)
        await self.alpha.until_ready()
        async with connect(self.alpha.home) as mesh:
            invite = await mesh.ask("node.invite", InviteRequest(uses=2), InviteReply)
        self._view.now("beta and gamma join with its ticket")
        for node in (self.beta, self.gamma):
            node.start("join", invite.ticket, listen=self._free_port)
        for node in (self.beta, self.gamma):
            await node.until_ready()
        self.figures["nodes"] = [
            {
                "name": n.name,
                "node_id": n.id,
                "pid": n.pid,
                "listen": n.ready["listen"],
                "http": n.ready["http"],
                "ready_ms": _ms(n.ready_ms),
            }
            for n in self.nodes
        ]
        for node in self.nodes:
            self._view.note(f"{node.name:<6} node {node.id[:10]} at {node.ready['listen']}, ready in {span(node.ready_ms)}")

    async def place(self) -> None:
        """The models go to beta and gamma, the agent to alpha; then alpha must know of them all."""
        total = sum(self._models[model].stat().st_size for model in (MINILM, MINILM, SMOLLM2))
        self._view.now(f"{_bytes(total)} to copy and load")
        tokenizer = {"tokenizer": str(self._models[MINILM_TOKENIZER])}
        agents = await asyncio.gather(
            self._host(self.alpha, f"{Path(demo_agent.__file__).resolve()}:{demo_agent.Finder.__name__}"),
            self._host(self.beta, str(self._models[MINILM]), EMBEDDING, tokenizer),
            self._host_both(tokenizer),
        )
        self.figures["agents"] = [agents[0], agents[1], *agents[2]]
        await self._known({(CLOSEST, "alpha"), (EMBEDDING, "beta"), (EMBEDDING, "gamma"), (CHAT, "gamma")})

    async def _host_both(self, tokenizer: dict[str, str]) -> list[dict[str, Any]]:
        """gamma's two, one after the other: two models that load at once on two cores are no faster."""
        embedding = await self._host(self.gamma, str(self._models[MINILM]), EMBEDDING, tokenizer)
        return [embedding, await self._host(self.gamma, str(self._models[SMOLLM2]), CHAT, {})]

    async def _host(self, node: DemoNode, target: str, capability: str = "", options: dict[str, str] | None = None) -> dict[str, Any]:
        started = time.perf_counter()
        info = await node.host(target, capability, options or {})
        took_ms = _since(started)
        size = Path(target.removesuffix(f":{demo_agent.Finder.__name__}")).stat().st_size
        self._view.note(f"{node.name:<6} {', '.join(info.capabilities):<18} {info.runtime:<7} {_bytes(size):>8}   after {span(took_ms)}")
        return {
            "name": info.name,
            "node": node.name,
            "runtime": info.runtime,
            "capabilities": info.capabilities,
            "bytes": size,
            "ready_ms": took_ms,
        }

    async def _known(self, wanted: set[tuple[str, str]]) -> None:
        """Wait until both that are asked for work know of these (capability, node)."""
        for node in (self.alpha, self.gamma):
            await node.until_known(wanted)

    # --- work -----------------------------------------------------------------------------------------------------------------

    async def embed(self) -> None:
        """Three sentences at once, then one at a time for the median."""
        async with connect(self.alpha.home) as mesh:
            started = time.perf_counter()
            outcome = await mesh.outcome(EMBEDDING, {"input": list(TEXTS)}, timeout=TIMEOUT_S)
            first_ms = _since(started)
            times = [await _timed(mesh.call(EMBEDDING, {"input": TEXTS[0]}, timeout=TIMEOUT_S)) for _ in range(SAMPLES)]
        cat, kitten, node = (one["embedding"] for one in outcome.payload["data"])
        near, far = _similarity(cat, kitten), _similarity(cat, node)
        self.figures["embedding"] = {
            "texts": list(TEXTS),
            "cat_kitten": round(near, 4),
            "cat_node": round(far, 4),
            "node": self._name(outcome),
            "first_ms": first_ms,
            "p50_ms": _median(times),
        }
        self._view.note(f"{near:5.2f}  {TEXTS[0]} / {TEXTS[1]}\n{far:5.2f}  {TEXTS[0]} / {TEXTS[2]}")
        if near <= NEAR or far >= FAR:
            raise _wrong(f"the similarities are {near:.2f} and {far:.2f}, not above {NEAR} and below {FAR}")

    async def chat(self) -> None:
        """From a client of alpha to the model on gamma; each part is shown when it comes."""
        self._view.note(f"> {QUESTION}")
        said: list[str] = []
        first_ms = 0.0
        result: TaskResult | None = None
        started = time.perf_counter()
        async with connect(self.alpha.home) as mesh:
            async for item in mesh.parts(CHAT, _chat(), timeout=TIMEOUT_S):
                if isinstance(item, TaskResult):
                    result = item
                elif text := delta_text(item):
                    first_ms = first_ms or _since(started)
                    said.append(text)
                    self._view.say(text)
        total_ms = _since(started)
        if result is None or len(said) < 2:
            raise _wrong(f"the answer came in {len(said)} parts")
        rate = (len(said) - 1) / max((total_ms - first_ms) / 1000, 1e-6)
        self.figures["chat"] = {
            "question": QUESTION,
            "answer": "".join(said),
            "node": self._name(outcome_of(result)),
            "tokens": len(said),
            "first_token_ms": first_ms,
            "total_ms": total_ms,
            "tokens_per_s": round(rate, 1),
        }

    async def agent(self) -> None:
        """gamma asks alpha's agent, which asks the mesh for the vectors."""
        async with connect(self.gamma.home) as mesh:
            started = time.perf_counter()
            outcome = await mesh.outcome(CLOSEST, SEARCH, timeout=TIMEOUT_S)
            first_ms = _since(started)
            times = [await _timed(mesh.call(CLOSEST, SEARCH, timeout=TIMEOUT_S)) for _ in range(SAMPLES)]
        found = outcome.payload
        self.figures["agent"] = {
            "capability": CLOSEST,
            "asked_from": "gamma",
            "payload": SEARCH,
            "answer": found,
            "node": self._name(outcome),
            "first_ms": first_ms,
            "p50_ms": _median(times),
        }
        self._view.note(f"> {SEARCH['question']}\n{found['text']}  ({found['similarity']:.2f})")
        if found["text"] != TEXTS[1] or self._name(outcome) != "alpha":
            raise _wrong(f"the agent answered {found['text']!r}")

    async def openai(self) -> None:
        """alpha's HTTP door, with its token; the model is on gamma all the same."""
        url = f"http://{self.alpha.ready['http']}/v1/chat/completions"
        body = {"model": CHAT.partition(":")[2], **_chat()}
        started = time.perf_counter()
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
                answer = await client.post(url, json=body, headers={"authorization": f"Bearer {self.alpha.ready['token']}"})
        except httpx.HTTPError as error:
            raise SkerryError(f"POST {url}: {str(error) or type(error).__name__}", code=Code.UNREACHABLE) from error
        total_ms = _since(started)
        if answer.status_code != httpx.codes.OK:
            raise _wrong(f"POST {url} answered {answer.status_code}: {answer.text[:300]}")
        said = answer.json()["choices"][0]["message"]["content"]
        same = said.strip() == self.figures["chat"]["answer"].strip()
        self.figures["openai"] = {"url": url, "status": answer.status_code, "answer": said, "same_answer": same, "total_ms": total_ms}
        self._view.note(f"POST {url}: {answer.status_code}, {'the same answer' if same else said}")
        if not said.strip():
            raise _wrong("the answer over HTTP is empty")

    # --- a node dies ----------------------------------------------------------------------------------------------------------

    async def failover(self) -> None:
        """Embeddings are asked for without a pause; gamma is killed in between; every one must be answered."""
        before, after = Answers(), Answers()
        pid = self.gamma.pid
        async with connect(self.alpha.home) as mesh:
            asking = asyncio.ensure_future(self._embed_many(mesh, before, after))
            try:
                while len(before.took_ms) + len(before.errors) < SAMPLES and not asking.done():
                    await asyncio.wait({asking}, timeout=POLL_S)
                self.gamma.kill()
                await asking
            finally:
                asking.cancel()
        errors = before.errors + after.errors
        self.figures["failover"] = {
            "killed": "gamma",
            "pid": pid,
            "signal": 9,
            "calls": CALLS,
            "failed": len(errors),
            "by_before": dict(before.by),
            "by_after": dict(after.by),
            "first_ms": after.took_ms[0] if after.took_ms else None,
            "p50_ms": _median(after.took_ms),
            "slowest_ms": max(before.took_ms + after.took_ms, default=None),
        }
        self._view.note(
            f"{CALLS} embeddings, {IN_FLIGHT} at a time; process {pid} is killed meanwhile: {len(errors)} failed\n"
            f"asked for before that: {_counts(before.by)}; after it: {_counts(after.by)}"
        )
        if errors:
            raise _wrong(f"{len(errors)} embeddings failed when gamma was killed, the first: {errors[0].message}")
        if set(after.by) != {"beta"}:
            raise _wrong(f"beta should have done all that was asked for after the kill, but: {_counts(after.by)}")

    async def _embed_many(self, mesh: Mesh, before: Answers, after: Answers) -> None:
        """Note each answer by whether gamma still ran when it was asked for."""

        async def some(share: int) -> None:
            for _ in range(share):
                noted = before if self.gamma.running else after
                started = time.perf_counter()
                try:
                    outcome = await mesh.outcome(EMBEDDING, {"input": TEXTS[0]}, timeout=TIMEOUT_S)
                except SkerryError as error:
                    noted.errors.append(error)
                else:
                    noted.by[self._name(outcome)] += 1
                    noted.took_ms.append(_since(started))

        await asyncio.gather(*(some(CALLS // IN_FLIGHT) for _ in range(IN_FLIGHT)))

    async def refusal(self) -> None:
        """Nobody has the model now: the call must end soon, and say why."""
        started = time.perf_counter()
        async with connect(self.alpha.home) as mesh:
            try:
                await mesh.call(CHAT, _chat())
            except SkerryError as error:
                refused = error
            else:
                raise _wrong("the chat was answered, though the only node with the model is dead")
        took_ms = _since(started)
        code = meaning(refused.code).exit
        self.figures["refusal"] = {
            "code": str(refused.code),
            "message": refused.message,
            "hint": refused.hint,
            "exit": code,
            "total_ms": took_ms,
        }
        self._view.note(f"error: {refused.message}\n  -> {refused.hint}\nexit status {code}, after {span(took_ms)}")
        if code != EXIT_UNREACHABLE or took_ms > REFUSAL_S * 1000:
            raise _wrong(f"the refusal took {span(took_ms)} and has exit status {code}, not {EXIT_UNREACHABLE} within {REFUSAL_S:g} s")

    async def comeback(self) -> None:
        """The same home on another port: its agents start by themselves, and alpha finds them."""
        started = time.perf_counter()
        self.gamma.start("up", listen=self._free_port)
        await self.gamma.until_ready()
        self._view.now("its models load")
        async with connect(self.alpha.home) as mesh:
            outcome = await _as_soon_as_possible(lambda: mesh.outcome(CHAT, {**_chat(), "max_tokens": 1}, timeout=TIMEOUT_S))
        works_ms = _since(started)
        await self._known({(EMBEDDING, "gamma"), (CHAT, "gamma")})
        self.figures["comeback"] = {
            "pid": self.gamma.pid,
            "node_ready_ms": _ms(self.gamma.ready_ms),
            "chat_works_ms": works_ms,
            "node": self._name(outcome),
        }
        self._view.note(f"ready in {span(self.gamma.ready_ms)}, chat works again after {span(works_ms)}")

    # --- what the steps share -------------------------------------------------------------------------------------------------

    @property
    def _free_port(self) -> str:
        return Address("tcp", self._place.host, 0).host_port

    def _name(self, outcome: Outcome) -> str:
        names = {node.id: node.name for node in self.nodes if node.ready}
        return names.get(outcome.node, outcome.node[:10])


def _chat() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": ANSWER_TOKENS, "temperature": 0}


async def _as_soon_as_possible(call: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """What a patient user does: ask again until it works. Raises the last error."""
    end = time.monotonic() + BACK_S
    while True:
        try:
            return await call()
        except SkerryError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(AGAIN_S)


async def _timed(call: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await call
    return _since(started)


def _since(started_s: float) -> float:
    return _ms((time.perf_counter() - started_s) * 1000)


def _ms(value: float) -> float:
    return round(value, 3)


def _median(times: list[float]) -> float:
    return _ms(statistics.median(times)) if times else 0.0


def _similarity(one: list[float], other: list[float]) -> float:
    """The cosine: these vectors have length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def _counts(by: Counter[str]) -> str:
    return ", ".join(f"{name} did {count}" for name, count in sorted(by.items())) or "nobody did any"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _wrong(message: str) -> SkerryError:
    return SkerryError(message, code=Code.TASK_FAILED)
