"""`skerry call`, `skerry chat` and `skerry send`: have something done, or tell an agent something."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from skerry.cli.options import (
    REACH,
    HedgeOption,
    HomeOption,
    MaxLatencyOption,
    Output,
    OutputOption,
    PriorityOption,
    ReachOption,
    ReceiptOption,
    RestartOption,
    StrategyOption,
    TicketOption,
    TimeoutOption,
    WhereOption,
)
from skerry.cli.wishes import wishes_of
from skerry.errors import Code, Refused, SkerryError, StorageError, Unreachable, UsageError, meaning

if TYPE_CHECKING:
    from skerry.client.mesh import Mesh
    from skerry.routing.task import TaskResult, Wishes

CHAT_TIMEOUT_S = 300.0


def add_to(app: typer.Typer) -> None:
    app.command()(call)
    app.command()(chat)
    app.command()(send)
    app.command()(receipt)


def call(
    capability: Annotated[str, typer.Argument(help="kind:name, or a query that ends in '*'.")],
    payload: Annotated[str | None, typer.Argument(help="JSON, - for standard input, or @FILE.json.", show_default="null")] = None,
    bytes_file: Annotated[Path | None, typer.Option("--bytes", help="Send this file's bytes as the payload.")] = None,
    save: Annotated[Path | None, typer.Option("--output", help="Write what comes back to this file.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the parts as they come.")] = False,
    timeout: TimeoutOption = 60.0,
    agent: Annotated[str | None, typer.Option("--agent", help="Only this agent (name or id; of a contact CONTACT/NAME).")] = None,
    reach: ReachOption = REACH,
    strategy: StrategyOption = None,
    hedge: HedgeOption = False,
    priority: PriorityOption = 5,
    restart: RestartOption = False,
    max_latency: MaxLatencyOption = 0,
    where: WhereOption = None,
    receipt: ReceiptOption = None,
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have a task done by whichever agent of the mesh can."""
    from skerry.cli.ask import with_mesh

    value = _payload(payload, bytes_file)
    wishes = wishes_of(strategy, hedge, priority, restart, max_latency, where, reach)
    if receipt is not None:
        wishes["receipt"] = True
    parts: list[Any] | None = [] if output is Output.JSON or save is not None else None
    started = time.perf_counter()

    async def go(mesh: Mesh) -> TaskResult:
        if not stream:
            return await mesh.result(capability, value, timeout=timeout, agent=agent, **wishes)
        return await _shown(mesh.parts(capability, value, timeout=timeout, agent=agent, **wishes), output, parts)

    try:
        result = with_mesh(home, go, ticket=ticket)
    except SkerryError as error:
        if output is Output.TABLE:
            raise
        _print_failure(error, None, started)
        sys.exit(meaning(error.code).exit)
    if receipt is not None and result.receipt is not None:
        _write(receipt, result.receipt)
    _print_result(result, output, save, started, parts=parts if stream else None, shown=stream and parts is None)


def send(
    agent: Annotated[str, typer.Argument(help="[CONTACT/][NODE/]AGENT.", metavar="AGENT")],
    message: Annotated[str, typer.Argument(help="JSON where it parses, else text; - for standard input.", metavar="MESSAGE")],
    interrupt: Annotated[bool, typer.Option("--interrupt", help="Ahead of all that waits there.")] = False,
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send an agent a letter. It is in the node's outbox when this returns, and the agent gets it as soon as there is a way."""
    from skerry.cli.ask import with_mesh
    from skerry.cli.output import print_json
    from skerry.client.values import read_value

    content = read_value(sys.stdin.read().removesuffix("\n") if message == "-" else message)  # what `echo` adds is not the letter's
    reply = with_mesh(home, lambda mesh: mesh.send(agent, content, interrupt=interrupt), ticket=ticket)
    print(f"sent to {agent}: it is in the outbox") if output is Output.TABLE else print_json(reply)


def _payload(text: str | None, bytes_file: Path | None) -> Any:
    from skerry.client.values import parse_payload

    if bytes_file is not None:
        if text is not None:
            raise UsageError("a payload and --bytes together make no sense", hint="give one of them")
        return _read(bytes_file)
    if text is None:
        return None
    if text == "-":
        return parse_payload(sys.stdin.read(), where="standard input")
    if text.startswith("@"):
        return parse_payload(_read(Path(text[1:])).decode(errors="replace"), where=text[1:])
    return parse_payload(text)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="check the path") from None


async def _shown(parts: AsyncIterator[Any], output: Output, kept: list[Any] | None) -> TaskResult:
    """Show the parts as they come, or put them into `kept` where the whole is wanted at the end."""
    from skerry.client.mesh import Restarted
    from skerry.routing.task import TaskResult

    last: TaskResult | None = None
    line = _Line()
    try:
        async for item in parts:
            if isinstance(item, TaskResult):
                last = item
            elif isinstance(item, Restarted):
                line.restart(output)
                if kept is not None:
                    kept.clear()
            elif kept is not None:
                kept.append(item)
            else:
                line.show(item, output)
    finally:
        line.end()
    assert last is not None
    return last


class _Line:
    """What is on the screen of a stream for people: texts run on, other values take a line each."""

    def __init__(self) -> None:
        self._open = False

    def show(self, part: Any, output: Output) -> None:
        from skerry.cli.output import plain, print_json

        if output is Output.JSONL:
            print_json({"part": part})
            return
        text = delta_text(part)
        shown = text if text is not None else json.dumps(plain(part), ensure_ascii=False) + "\n"
        self._open = not shown.endswith("\n") if shown else self._open
        sys.stdout.write(shown)
        sys.stdout.flush()

    def restart(self, output: Output) -> None:
        """What is shown so far is void."""
        from skerry.cli.output import print_json

        self.end()
        if output is Output.JSONL:
            print_json({"event": "restarted"})
        else:
            print("the agent was lost: another one begins anew", file=sys.stderr)

    def end(self) -> None:
        if self._open:
            print(flush=True)
        self._open = False


def delta_text(part: Any) -> str | None:
    """The text in a chat completion chunk; None where the part is something else."""
    if not (isinstance(part, dict) and part.get("object") == "chat.completion.chunk"):
        return part if isinstance(part, str) else None
    choices = part.get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or ""


def _print_result(
    result: TaskResult, output: Output, save: Path | None, started: float, *, parts: list[Any] | None = None, shown: bool = False
) -> None:
    """`parts`: what a stream brought, where it was kept; `shown`: it is on the screen already."""
    from skerry.cli.output import print_json
    from skerry.identity.pieces import unpack_body
    from skerry.routing.task import error_from

    if not result.success:
        error = error_from(result.error)
        if output is Output.TABLE:
            raise error
        _print_failure(error, result, started)
        sys.exit(meaning(error.code).exit)
    value: Any = parts
    if parts is None:
        value = unpack_body(result.payload) if result.payload is not None else None
    if save is not None:
        _save(save, value)
    if output is not Output.TABLE:
        body = {"task_id": result.task_id, "success": True, "payload": value if save is None else None}
        print_json({**_plain_ids(body), **_about(result, started)})
    elif save is not None:
        print(f"written to {save}", file=sys.stderr)
    elif not shown:
        _print_value(value)


def _print_failure(error: SkerryError, result: TaskResult | None, started: float) -> None:
    from skerry.cli.output import print_json

    said: dict[str, Any] = {"code": str(error.code), "message": error.message, "hint": error.hint}
    said["outcome_unknown"] = isinstance(error, Unreachable) and error.outcome_unknown
    print_json({"task_id": result.task_id.hex() or None if result else None, "success": False, "error": said, **_about(result, started)})


def _about(result: TaskResult | None, started: float) -> dict[str, Any]:
    total_ms = round((time.perf_counter() - started) * 1000, 3)
    if result is None:
        return {"completed_by": None, "node": None, "execution_time_ms": None, "total_ms": total_ms}
    return {
        "completed_by": result.completed_by,
        "node": result.node.hex(),
        "execution_time_ms": result.execution_time_ms,
        "total_ms": total_ms,
    }


def _plain_ids(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "task_id": body["task_id"].hex()}


def _print_value(value: Any) -> None:
    from skerry.cli.output import plain

    if isinstance(value, str):
        print(value)
    elif isinstance(value, bytes):
        sys.stdout.buffer.write(value)
    else:
        print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def _save(path: Path, value: Any) -> None:
    from skerry.cli.output import plain

    if isinstance(value, list) and value and all(isinstance(part, bytes) for part in value):
        value = b"".join(value)  # the pieces of one file
    data = value if isinstance(value, bytes) else (json.dumps(plain(value), ensure_ascii=False) + "\n").encode()
    _write(path, data)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror}", hint="choose another file") from None


def receipt(
    file: Annotated[Path, typer.Argument(help="What `skerry call --receipt FILE` wrote.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a receipt, and show who did which task, for whom, and when. It needs no node."""
    from skerry.cli.output import clock_time, print_one
    from skerry.routing.receipt import read_receipt

    found = read_receipt(_read(file))
    rows = (
        ("signed by", f"agent {found.agent}"),
        ("on node", found.node.hex()),
        ("for node", found.requester.hex()),
        ("capability", found.capability),
        ("completed", clock_time(found.completed_at)),
        ("took", f"{found.took_ms} ms"),
        ("task", found.task.hex()),
        ("payload", f"BLAKE3 {found.payload.hex()}"),
        ("result", f"BLAKE3 {found.result.hex()}"),
    )
    names = ("task", "requester", "capability", "agent", "key", "node", "payload", "result", "completed_at", "took_ms")
    shown = {name: value.hex() if isinstance(value := getattr(found, name), bytes) else value for name in names}
    print_one(shown, output, rows=rows)


def chat(
    model: Annotated[str | None, typer.Argument(help="A model's name; left out: the only one there is.")] = None,
    prompt: Annotated[str | None, typer.Argument(help="One question; left out: a conversation.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="What the model should be told first.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="The longest answer.", min=1)] = 512,
    timeout: TimeoutOption = CHAT_TIMEOUT_S,
    reach: ReachOption = REACH,
    strategy: StrategyOption = None,
    priority: PriorityOption = 5,
    restart: RestartOption = False,
    max_latency: MaxLatencyOption = 0,
    where: WhereOption = None,
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Talk to a chat model of the mesh. With one argument that is no model's name, that is the question."""
    from skerry.cli.ask import with_mesh

    wishes = wishes_of(strategy, False, priority, restart, max_latency, where, reach)
    with_mesh(home, lambda mesh: _chat(mesh, model, prompt, system, Manner(max_tokens, timeout, output, wishes)), ticket=ticket)


class Manner(NamedTuple):
    """How a conversation is held."""

    max_tokens: int
    timeout: float
    output: Output
    wishes: Wishes


async def _chat(mesh: Mesh, model: str | None, prompt: str | None, system: str | None, manner: Manner) -> None:
    import asyncio  # 30 ms that `skerry --help` need not pay

    capability, prompt = await _choose(mesh, model, prompt)
    messages = [{"role": "system", "content": system}] if system else []
    if prompt is not None:
        await _turn(mesh, capability, [*messages, {"role": "user", "content": prompt}], manner)
        return
    if manner.output is Output.TABLE:
        print(f"{capability}; an empty line or Ctrl-D ends", file=sys.stderr)
    while True:
        try:
            said = (await asyncio.to_thread(input, "> " if sys.stdin.isatty() else "")).strip()
        except EOFError:
            return
        if not said:
            return
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": await _turn(mesh, capability, messages, manner)})


async def _choose(mesh: Mesh, model: str | None, prompt: str | None) -> tuple[str, str | None]:
    from skerry.routing.verbs import CapabilityList, CapabilityQuery

    found = await mesh.ask("capability.list", CapabilityQuery("inference:*"), CapabilityList)
    known = list(dict.fromkeys(info.capability for info in found.capabilities))
    wanted = model if model is None or model.startswith("inference:") else f"inference:{model}"
    if wanted is not None and (wanted in known or prompt is not None):
        return wanted, prompt
    if not known:
        raise Refused(
            "no chat model is offered in this formation", code=Code.UNKNOWN_CAPABILITY, hint="bring one: skerry agent run MODEL.gguf"
        )
    if len(known) > 1:
        raise UsageError(f"there are several chat models: {', '.join(known)}", hint="name one: skerry chat MODEL")
    return known[0], model


async def _turn(mesh: Mesh, capability: str, messages: list[dict[str, str]], manner: Manner) -> str:
    from skerry.cli.output import print_json
    from skerry.client.mesh import Restarted

    said, output = "", manner.output
    asked = {"messages": messages, "max_tokens": manner.max_tokens}
    async for part in mesh.stream(capability, asked, timeout=manner.timeout, **manner.wishes):
        if isinstance(part, Restarted):
            said = ""
            _Line().restart(output)
            continue
        text = delta_text(part) or ""
        said += text
        if output is Output.TABLE:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif output is Output.JSONL:
            print_json({"part": part})
    if output is Output.TABLE:
        print()
    elif output is Output.JSON:
        print_json({"capability": capability, "content": said})
    return said
