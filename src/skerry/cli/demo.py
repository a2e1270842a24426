"""`skerry demo`: three nodes, two real models and an agent at work, then either the end or three lines to paste.

`demo_steps` says what is done, `demo_nodes` has the processes, `demo_view` shows it, `demo_models` finds the models.

The rule: however it ends (done, failed, Ctrl-C, a closed terminal), every process that it started is ended and its temporary homes are
gone.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.channel.address import MESH_PORT, Address, parse_host_port
from skerry.cli.demo_models import find_models
from skerry.cli.demo_nodes import DemoNode, end_all
from skerry.cli.demo_steps import CHAT, CLOSEST, EMBEDDING, Steps
from skerry.cli.demo_view import ConsoleView, Row, View, span
from skerry.cli.options import Output
from skerry.cli.output import print_json
from skerry.client.mesh import connect
from skerry.errors import EXIT_DONE, EXIT_REFUSED, Code, SkerryError, StorageError, UsageError
from skerry.node.verbs import InviteReply, InviteRequest

EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
STEP_S = 90.0  # a step that takes so long hangs; each call in it has a shorter limit of its own
GUESTS = 10  # how many nodes may join with the ticket that is shown
GUEST_TTL_S = 24 * 3600.0
DYING_S = 0.3  # what the system may take to end a process that was aborted: it may write its memory down
LOOK_S = 0.5  # how often we look whether the nodes still run, while the demo stays up
REMOVE_S = 3.0  # how long we try to remove the temporary homes
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Course:
    """How far it got."""

    title: str = ""
    shown: bool = False
    error: SkerryError | None = None


def run(*, exit_after: bool, listen: str | None, homes: Path | None, output: Output) -> int:
    """Show it all; returns the exit status. Raises UsageError where an option makes no sense."""
    place = parse_host_port(listen, default_port=MESH_PORT) if listen is not None else Address("tcp", "127.0.0.1", 0)
    if homes is not None:
        homes = homes.expanduser().absolute()
        if homes.exists() and not (homes.is_dir() and not any(homes.iterdir())):
            raise UsageError(f"{homes} is not an empty folder", hint="name a new one: the demo makes new nodes every time")
    view = View() if output is not Output.TABLE else ConsoleView()
    demo = Demo(view, place=place, homes=homes, exit_after=exit_after, public=listen is not None, as_json=output is not Output.TABLE)
    return asyncio.run(demo.run())


class Demo:
    """One run of it."""

    def __init__(self, view: View, *, place: Address, homes: Path | None, exit_after: bool, public: bool, as_json: bool) -> None:
        self._view = view
        self._place = place
        self._homes = homes
        self._exit_after = exit_after
        self._public = public
        self._as_json = as_json
        self._course = Course()
        self._folder: Path | None = None
        self._steps: Steps | None = None
        self._figures: dict[str, Any] = {"ok": False, "total_ms": 0.0, "steps": []}

    async def run(self) -> int:
        """Signals cancel the work, never the cleaning up."""
        work = asyncio.ensure_future(self._work())
        loop = asyncio.get_running_loop()
        for number in ENDINGS:
            loop.add_signal_handler(number, work.cancel)
        interrupted = False
        try:
            await work
        except asyncio.CancelledError:
            interrupted = True
        finally:
            await self._clean_up()
        if self._course.shown and not self._exit_after:
            self._view.tell("\nThe three nodes have ended" + (", and their homes are gone." if self._homes is None else "."))
            return EXIT_DONE
        if interrupted:
            self._failed(SkerryError("the demo was interrupted", code=Code.CANCELLED))
        self._print_figures()
        if interrupted:
            return EXIT_INTERRUPTED
        return EXIT_DONE if self._figures["ok"] else EXIT_REFUSED

    async def _work(self) -> None:
        started = time.perf_counter()
        try:
            models = find_models()
            self._folder = self._make_folder()
            self._steps = Steps(self._folder, models, self._view, place=self._place)
            for title, step in self._steps.all():
                await self._one(title, step())
            if self._exit_after:
                await self._one("The nodes end in order", self._end())
        except SkerryError as error:
            self._figures["total_ms"] = _ms(started)
            self._failed(error)
            return
        except OSError as error:
            self._figures["total_ms"] = _ms(started)
            self._failed(StorageError(str(error)))
            return
        self._figures["total_ms"] = _ms(started)
        self._figures["ok"] = self._course.shown = True
        self._view.summary(rows(self._steps.figures), self._figures["total_ms"])
        if not self._exit_after:
            await self._stay()

    async def _one(self, title: str, step: Any) -> None:
        """One step, shown and timed."""
        self._course.title = title
        self._view.begin(title)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(STEP_S):
                await step
        except TimeoutError:
            raise SkerryError(f"this was not done within {STEP_S:g} s", code=Code.DEADLINE_EXCEEDED) from None
        took_ms = _ms(started)
        self._figures["steps"].append({"title": title, "ms": took_ms})
        self._view.end(took_ms)

    async def _end(self) -> None:
        assert self._steps is not None
        stuck = await end_all(self._steps.nodes)
        if stuck:
            raise SkerryError(f"{' and '.join(stuck)} did not end in order and had to be killed", code=Code.INTERNAL)

    async def _stay(self) -> None:
        """Until Ctrl-C, or until somebody has ended all three nodes."""
        assert self._steps is not None
        lines = await self._lines()
        self._figures["paste"] = {name: command for name, _, command in lines}
        self._view.paste([(title, command) for _, title, command in lines], "The three nodes stay up. Ctrl-C ends them.")
        self._print_figures()
        alive = list(self._steps.nodes)
        while alive:
            await asyncio.sleep(LOOK_S)
            for node in [node for node in alive if not node.running]:
                alive.remove(node)
                self._view.tell(f"{node.name} has ended")

    async def _lines(self) -> list[tuple[str, str, str]]:
        """Name, title and command of what to try next."""
        assert self._steps is not None
        assert self._folder is not None
        alpha = self._steps.alpha
        async with connect(alpha.home) as mesh:
            ticket = (await mesh.ask("node.invite", InviteRequest(uses=GUESTS, ttl_s=GUEST_TTL_S), InviteReply)).ticket
        skerry = _this_program()
        if not (self._as_json or sys.stdout.isatty()):  # a ticket is a secret: it is not written to a file unasked
            ticket = f'"$({skerry} node invite --home {shlex.quote(str(alpha.home))})"'
        body = '{"model": "smollm2", "messages": [{"role": "user", "content": "What is an island?"}]}'
        search = '{"question": "Where is my pet?", "texts": ["The cat is on the sofa.", "The train is late."]}'
        token = shlex.quote(str(alpha.home / "token"))
        guest = shlex.quote(f"{self._folder}-delta")
        lines = [
            (
                "curl",
                "Chat over HTTP:",
                f"curl -s http://{alpha.ready['http']}/v1/chat/completions -H \"Authorization: Bearer $(cat {token})\" -d '{body}'",
            ),
            (
                "join",
                "A fourth node, in a second terminal (whoever has the ticket may join):",
                f"{skerry} join {ticket} --home {guest} --name delta --listen 127.0.0.1:0 --http 127.0.0.1:0",
            ),
            (
                "call",
                "Call the Python agent:",
                f"{skerry} call --home {shlex.quote(str(alpha.home))} {CLOSEST} '{search}'",
            ),
        ]
        if self._public:
            lines.insert(2, ("join_from_elsewhere", "A node on another machine:", f"skerry join {ticket} --name epsilon"))
        return lines

    # --- ends -----------------------------------------------------------------------------------------------------------------

    def _make_folder(self) -> Path:
        if self._homes is not None:
            self._homes.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._homes
        return Path(tempfile.mkdtemp(prefix="skerry-demo-"))

    def _failed(self, error: SkerryError) -> None:
        if self._course.error is not None:
            return
        self._course.error = error
        self._figures["ok"] = False
        nodes = self._suspects() if error.code != Code.CANCELLED else ()
        words = {node.name: text for node in nodes if (text := node.last_words())}
        self._figures["error"] = {
            "step": self._course.title or None,
            "code": str(error.code),
            "message": error.message,
            "hint": error.hint,
            "stderr": words,
        }
        self._view.fail(error, words)

    def _suspects(self) -> Sequence[DemoNode]:
        """Whose last words may explain a failure: the nodes that ended, or all where none did."""
        nodes = self._steps.nodes if self._steps is not None else ()
        dead = [node for node in nodes if node.started and not node.running]
        if not dead:  # its connection is gone before the system has ended a process that died just now
            dead = [node for node in nodes if node.started and node.ends_within(DYING_S)]
        return dead or nodes

    async def _clean_up(self) -> None:
        """Processes first: what follows may fail where the terminal is gone."""
        if self._steps is not None:
            await end_all(self._steps.nodes)
        if self._folder is not None and self._homes is None:
            await _remove(self._folder)
        self._view.close()

    def _print_figures(self) -> None:
        if self._as_json:
            done = self._steps.figures if self._steps is not None else {}
            print_json({**self._figures, **done, "error": self._figures.get("error")})


def rows(figures: dict[str, Any]) -> list[Row]:
    """The summary of a run that went well."""
    embedding, chat, agent = figures["embedding"], figures["chat"], figures["agent"]
    openai, failover, refusal, comeback = figures["openai"], figures["failover"], figures["refusal"], figures["comeback"]
    rate = f"{chat['tokens_per_s']:.0f} tokens/s"
    return [
        Row(
            EMBEDDING,
            embedding["node"],
            span(embedding["first_ms"]),
            span(embedding["p50_ms"]),
            f"cat/kitten {embedding['cat_kitten']:.2f}",
        ),
        Row(f"{CHAT}, streamed", chat["node"], span(chat["first_token_ms"]), "", rate),
        Row(f"{CLOSEST}, from gamma", agent["node"], span(agent["first_ms"]), span(agent["p50_ms"]), ""),
        Row("the same chat by OpenAI's API", "gamma", span(openai["total_ms"]), "", f"HTTP {openai['status']}"),
        Row(f"{EMBEDDING}, gamma killed", "beta", span(failover["first_ms"]), span(failover["p50_ms"]), f"{failover['failed']} failed"),
        Row(f"{CHAT}, gamma killed", "nobody", span(refusal["total_ms"]), "", f"exit status {refusal['exit']}"),
        Row(f"{CHAT}, gamma back", comeback["node"], span(comeback["chat_works_ms"]), "", ""),
    ]


async def _remove(folder: Path) -> None:
    """Agents whose node was killed end within a second, and may write to their logs until then."""
    end = time.monotonic() + REMOVE_S
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > end:
            return
        await asyncio.sleep(LOOK_S)


def _this_program() -> str:
    """How to type this very program in another terminal."""
    script = Path(sys.argv[0])
    if script.name != "skerry":
        return f"{shlex.quote(sys.executable)} -m skerry.cli.main"
    found = shutil.which("skerry")
    return "skerry" if found is not None and Path(found).samefile(script) else shlex.quote(str(script.absolute()))


def _ms(started_s: float) -> float:
    return round((time.perf_counter() - started_s) * 1000, 3)
