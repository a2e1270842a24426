"""Real nodes as real processes: started on port 0 in homes of their own, driven by the command line, ended with the test.

`Nodes` makes them and the commands; the fixtures `nodes` (fresh for each test), `world` and `mesh` (shared by a module) stand in
`tests/e2e/conftest.py`. A failed test shows what every node wrote to stderr and what its agents logged; a node that wrote a traceback
fails its test.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import skerry
from skerry.client.mesh import Mesh
from skerry.node.verbs import NodeInfo, NodeList, Nothing, StatusReply
from tests.support.forked import Forked
from tests.support.polling import poll_until

T = TypeVar("T")
SKERRY = (sys.executable, "-m", "skerry.cli.main")
READY_S = 20.0  # a node needs one; the rest is for a machine that does other things too
COMMAND_S = 40.0
END_S = 15.0
SHOWN_CHARACTERS = 8000  # of each log, where a test failed
LOOPBACK = "127.0.0.1:0"
LOG_LINE = '{"time": '  # how a line of a node's log begins, which goes to stderr too where that is no terminal


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its standard output, which must be one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def ok(self) -> Ran:
        assert self.code == 0, self._said()
        return self

    def refused(self, code: int, *words: str) -> Ran:
        """It ended with that code and said so as the house wants it: in at most three lines, or as one JSON object where JSON was asked
        for; with no traceback, and with all of `words`.
        """
        assert self.code == code, self._said()
        assert "Traceback" not in self.err + self.out, self._said()
        if {"json", "jsonl"} & set(self.args):
            error = self.json["error"]
            assert self.err == "", self._said()
            text = f"{error['code']} {error['message']} {error['hint']}"
        else:
            assert 1 <= len(self.err.splitlines()) <= 3, self._said()
            assert self.out == "", self._said()
            text = self.err
        for word in words:
            assert word in text, f"{word!r} is missing: {self._said()}"
        return self

    def _said(self) -> str:
        return f"skerry {' '.join(self.args)} ended with {self.code}:\n{self.err}{self.out[-4000:]}"


@dataclass(slots=True)
class Node:
    """One node: its process, its home, and the line that it said when it was ready."""

    name: str
    home: Path
    world: Nodes = field(repr=False)
    args: tuple[str, ...]
    process: subprocess.Popen[bytes] | Forked
    out: Path
    err: Path
    may_fail: bool = False  # a traceback in its stderr is no surprise
    ready: dict[str, Any] = field(default_factory=dict)

    # --- life -----------------------------------------------------------------------------------------------------------------

    def wait_ready(self, *, timeout_s: float = READY_S) -> Node:
        def said() -> str:
            text = self.out.read_text()
            if self.process.poll() is not None and "\n" not in text:
                raise AssertionError(f"the node {self.name} ended with {self.process.returncode}: {self.err.read_text()}")
            return text if "\n" in text else ""

        self.ready = json.loads(poll_until(said, timeout_s, what=f"{self.name} is ready").splitlines()[0])
        return self

    def wait_refused(self, code: int, *words: str) -> Ran:
        """It does not start: wait for that."""
        code_seen = self.process.wait(READY_S)
        said = [line for line in self.err.read_text().splitlines(keepends=True) if not line.startswith(LOG_LINE)]
        return Ran(self.args, code_seen, self.out.read_text(), "".join(said)).refused(code, *words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM, as a service manager would; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)

    def again(self, *more: str) -> Node:
        """The same home and the same addresses once more, after the process has ended."""
        assert self.process.poll() is not None
        return self.world.up(self.name, "--listen", self.listen, "--http", str(self.ready["http"]), *more, home=self.home)

    @property
    def id(self) -> str:
        return str(self.ready["node_id"])

    @property
    def listen(self) -> str:
        return str(self.ready["listen"])

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    # --- asking it ------------------------------------------------------------------------------------------------------------

    def run(self, *args: str, stdin: str | bytes | None = None, timeout_s: float = COMMAND_S) -> Ran:
        """A command with this node's home."""
        return self.world.run(*args, "--home", str(self.home), stdin=stdin, timeout_s=timeout_s)

    def json(self, *args: str) -> Any:
        return self.run(*args, "-o", "json").ok().json

    def connect(self) -> Mesh:
        return skerry.connect(home=self.home)

    def ask(self, verb: str, request: Any, reply: type[T], *, timeout_s: float = 30.0) -> T:
        async def go() -> T:
            async with self.connect() as mesh:
                return await mesh.ask(verb, request, reply, timeout=timeout_s)

        return asyncio.run(go())

    def call(self, capability: str, payload: Any = None, *, timeout_s: float = 30.0, agent: str | None = None) -> Any:
        async def go() -> Any:
            async with self.connect() as mesh:
                return await mesh.call(capability, payload, timeout=timeout_s, agent=agent)

        return asyncio.run(go())

    def status(self) -> StatusReply:
        return self.ask("node.status", Nothing(), StatusReply)

    def sees(self) -> dict[str, NodeInfo]:
        """The nodes that it knows, by id."""
        return {info.id: info for info in self.ask("node.list", Nothing(), NodeList).nodes}

    def invite(self, *options: str) -> str:
        return str(self.json("node", "invite", *options)["ticket"])

    def wait_offered(self, *capabilities: str, timeout_s: float = 10.0) -> None:
        poll_until(lambda: set(capabilities) <= set(self.status().capabilities), timeout_s, what=f"{self.name} sees {capabilities}")

    def wait_linked(self, *others: Node, timeout_s: float = 10.0) -> None:
        wanted = {other.id for other in others}
        poll_until(lambda: {i for i, info in self.sees().items() if info.link == "up"} >= wanted, timeout_s, what=f"{self.name} is linked")

    def log_text(self) -> str:
        """What it and its agents wrote, for the report of a failed test."""
        parts = [f"--- {self.name}: exit status {self.process.poll()}, stderr ---\n{_tail(self.err)}"]
        logs = self.home / "logs"
        if logs.is_dir():
            parts += [f"--- {self.name}: {log.name} ---\n{_tail(log)}" for log in sorted(logs.iterdir())]
        return "\n".join(parts)


class Nodes:
    """The nodes of one test, or of one module, in one temporary folder. Nothing of it touches the user's own home."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-e2e-"))  # short: a socket's path has 100 bytes
        self.all: list[Node] = []
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("SKERRY_")}
        self.environment |= {
            "HOME": str(self.folder / "user"),
            "PYTHONPATH": str(Path(skerry.__file__).parents[1]),
            "COLUMNS": "140",
            "TERM": "dumb",
            "NO_COLOR": "1",
        }

    def home(self, name: str) -> Path:
        return self.folder / name

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, *args: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None, timeout_s: float = COMMAND_S) -> Ran:
        """A command, to its end, in a process of its own."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".run-") as scratch:
            given, out, err = (Path(scratch) / name for name in ("in", "out", "err"))
            given.write_bytes(stdin.encode() if isinstance(stdin, str) else (stdin or b""))
            process = Forked(args, stdin=given, stdout=out, stderr=err, env=self.environment | (env or {}), cwd=self.folder)
            try:
                code = process.wait(timeout_s)
            finally:
                process.kill()
                process.wait()
            return Ran(args, code, out.read_bytes().decode(errors="surrogateescape"), err.read_bytes().decode(errors="replace"))

    def run_afresh(self, *args: str) -> Ran:
        """A command as a user's shell starts it, with nothing imported."""
        done = subprocess.run(
            [*SKERRY, *args], capture_output=True, env=self.environment, cwd=self.folder, timeout=COMMAND_S, check=False, text=True
        )
        return Ran(args, done.returncode, done.stdout, done.stderr)

    def spawn(self, *args: str, name: str = "node", home: Path | None = None, prefix: Sequence[str] = ()) -> Node:
        """A node's process, which is not waited for. `prefix`: a program that runs it."""
        count = len(self.all)
        out, err = self.folder / f"{count}-{name}.out", self.folder / f"{count}-{name}.err"
        place = home or self.home(name)
        command = (*args, "--home", str(place))
        out.touch()
        err.touch()
        process: subprocess.Popen[bytes] | Forked
        if prefix:
            with out.open("wb") as out_file, err.open("wb") as err_file:
                process = subprocess.Popen(
                    [*prefix, *SKERRY, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out_file,
                    stderr=err_file,
                    env=self.environment,
                    cwd=self.folder,
                )
        else:
            process = Forked(command, stdin=None, stdout=out, stderr=err, env=self.environment, cwd=self.folder)
        node = Node(name, place, self, command, process, out, err)
        self.all.append(node)
        return node

    def up(self, name: str, *args: str, home: Path | None = None) -> Node:
        """`skerry up`, on loopback, ready. Options given in `args` take the place of those here."""
        return self.spawn("up", *on_loopback(name, args), name=name, home=home).wait_ready()

    def join(self, name: str, ticket: str, *args: str, home: Path | None = None) -> Node:
        """`skerry join TICKET`, on loopback, ready."""
        return self.spawn("join", ticket, *on_loopback(name, args), name=name, home=home).wait_ready()

    def mesh(self, first: str, *others: str) -> list[Node]:
        """A founder and members, all linked."""
        founder = self.up(first)
        if not others:
            return [founder]
        ticket = founder.invite("--uses", str(len(others)))
        spawned = [self.spawn("join", ticket, *on_loopback(name, ()), name=name) for name in others]
        nodes = [founder, *(node.wait_ready() for node in spawned)]
        for node in nodes:
            node.wait_linked(*(other for other in nodes if other is not node))
        return nodes

    def close(self) -> None:
        """End every node in order. Raises AssertionError where one does not end, or wrote a traceback."""
        living = [node for node in self.all if node.process.poll() is None]
        for node in living:
            node.process.send_signal(signal.SIGTERM)
        stuck = []
        for node in living:
            try:
                node.process.wait(END_S)
            except subprocess.TimeoutExpired:
                node.kill()
                stuck.append(node.name)
        failed = [node.log_text() for node in self.all if not node.may_fail and "Traceback" in node.err.read_text(errors="replace")]
        statuses = {node.name: node.process.returncode for node in living if node.process.returncode != 0}
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not stuck, f"these nodes did not end within {END_S:g} s of SIGTERM: {stuck}"
        assert not failed, "a node wrote a traceback:\n" + "\n".join(failed)
        assert not statuses, f"nodes that were asked to end ended badly: {statuses}"

    def log_text(self) -> str:
        return "\n".join(node.log_text() for node in self.all)


def on_loopback(name: str, given: Sequence[str]) -> list[str]:
    """The options of `up` and `join` that keep a node on this machine and make it speak JSON, unless they are given."""
    options = {"--listen": LOOPBACK, "--http": LOOPBACK, "--name": name, "-o": "json"}
    return [*given, *(word for option, value in options.items() if option not in given for word in (option, value))]


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-SHOWN_CHARACTERS:] if path.exists() else ""
