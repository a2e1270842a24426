"""`skerry demo` as people run it: every figure, in a terminal and as JSON, its lines to paste, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skerry
from skerry.cli.demo_models import MINILM, SMOLLM2, find_models
from skerry.errors import EXIT_UNREACHABLE, SkerryError
from skerry.node.verbs import Nothing, StatusReply
from tests.support import poll_until
from tests.support.nodes import SKERRY, Nodes, Ran

pytestmark = pytest.mark.timeout(240)  # ten seconds on a machine that does nothing else

TOTAL_MS = 60_000
RUN_S = 200.0
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def temporary(world: Nodes) -> dict[str, str]:
    """An environment whose temporary files lie in the world's folder, where the test can see them."""
    folder = world.folder / "tmp"
    folder.mkdir(exist_ok=True)
    return {"TMPDIR": str(folder)}


def left_behind(world: Nodes) -> list[str]:
    """Homes of a demo, and processes that hold a file in one of them."""
    homes = sorted(str(path) for path in (world.folder / "tmp").glob("skerry-demo-*") if not path.name.endswith("-delta"))
    return homes + holders(world.folder / "tmp" / "skerry-demo-")


def holders(prefix: Path) -> list[str]:
    """Processes with a file open whose path starts like this. Empty where the system can't tell."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours
            if any(str(link.readlink()).startswith(str(prefix)) for link in (process / "fd").iterdir()):
                found.append(f"{process.name}: {(process / 'cmdline').read_text()}")
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def ran(world: Nodes) -> Ran:
    """One whole run, with JSON."""
    return world.run("demo", "--exit", "-o", "json", env=temporary(world), timeout_s=RUN_S)


@pytest.fixture(scope="module")
def shown(ran: Ran) -> dict[str, Any]:
    figures: dict[str, Any] = ran.json
    assert figures["ok"], json.dumps(figures["error"], indent=2)
    return figures


def test_it_works_and_ends_in_time(ran: Ran, shown: dict[str, Any]) -> None:
    assert ran.code == 0
    assert ran.err == ""
    assert shown["ok"] is True
    assert shown["error"] is None
    assert shown["total_ms"] < TOTAL_MS
    assert len(shown["steps"]) == 10
    assert sum(step["ms"] for step in shown["steps"]) <= shown["total_ms"]


def test_three_nodes_joined(shown: dict[str, Any]) -> None:
    nodes = shown["nodes"]
    assert [node["name"] for node in nodes] == ["alpha", "beta", "gamma"]
    for field in ("node_id", "pid", "listen", "http"):
        assert len({node[field] for node in nodes}) == 3
    assert all(node["listen"].startswith("127.0.0.1:") and 0 < node["ready_ms"] < TOTAL_MS for node in nodes)


def test_two_models_and_an_agent_moved_in(shown: dict[str, Any]) -> None:
    agents = [(agent["node"], agent["runtime"], agent["capabilities"]) for agent in shown["agents"]]
    assert agents == [
        ("alpha", "python", ["custom:closest"]),
        ("beta", "onnx", ["embedding:minilm"]),
        ("gamma", "onnx", ["embedding:minilm"]),
        ("gamma", "gguf", ["inference:smollm2"]),
    ]
    models = find_models()
    assert [agent["bytes"] for agent in shown["agents"][1:]] == [models[m].stat().st_size for m in (MINILM, MINILM, SMOLLM2)]


def test_similar_sentences_are_similar(shown: dict[str, Any]) -> None:
    embedding = shown["embedding"]
    assert embedding["cat_kitten"] > 0.6
    assert embedding["cat_node"] < 0.2
    assert len(embedding["texts"]) == 3
    assert embedding["node"] in ("beta", "gamma")
    assert 0 < embedding["p50_ms"] < 2000


def test_the_answer_came_token_by_token(shown: dict[str, Any]) -> None:
    chat = shown["chat"]
    assert chat["node"] == "gamma"
    assert chat["tokens"] > 5
    assert len(chat["answer"]) > 20
    assert 0 < chat["first_token_ms"] < chat["total_ms"]
    assert chat["tokens_per_s"] > 1


def test_gamma_asked_the_agent_on_alpha(shown: dict[str, Any]) -> None:
    agent = shown["agent"]
    assert (agent["asked_from"], agent["node"]) == ("gamma", "alpha")
    assert agent["answer"]["text"] == "A kitten naps on the couch."
    assert agent["answer"]["similarity"] > 0.5
    assert 0 < agent["p50_ms"] < 2000


def test_openais_api_gave_an_answer(shown: dict[str, Any]) -> None:
    openai = shown["openai"]
    assert openai["status"] == 200
    assert openai["url"] == f"http://{shown['nodes'][0]['http']}/v1/chat/completions"
    assert len(openai["answer"]) > 20
    assert openai["total_ms"] > 0


def test_embeddings_went_on(shown: dict[str, Any]) -> None:
    failover = shown["failover"]
    assert failover["pid"] == shown["nodes"][2]["pid"]
    assert failover["signal"] == signal.SIGKILL
    assert failover["failed"] == 0
    assert set(failover["by_after"]) == {"beta"}
    assert sum(failover["by_before"].values()) + sum(failover["by_after"].values()) == failover["calls"]
    assert failover["slowest_ms"] < 5000


def test_chat_was_refused_soon_and_clearly(shown: dict[str, Any]) -> None:
    refusal = shown["refusal"]
    assert refusal["exit"] == EXIT_UNREACHABLE
    assert refusal["total_ms"] < 5000
    assert "inference:smollm2" in refusal["message"]
    assert refusal["hint"]


def test_gamma_came_back(shown: dict[str, Any]) -> None:
    comeback = shown["comeback"]
    assert comeback["node"] == "gamma"
    assert comeback["pid"] != shown["failover"]["pid"]
    assert comeback["node_ready_ms"] <= comeback["chat_works_ms"]


def test_nothing_is_left(world: Nodes, shown: dict[str, Any]) -> None:
    pids = [node["pid"] for node in shown["nodes"]] + [shown["comeback"]["pid"]]
    assert [pid for pid in pids if alive(pid)] == []
    poll_until(lambda: not left_behind(world), what="homes and processes are gone")


# --- in a terminal ----------------------------------------------------------------------------------------------------------------


class Terminal:
    """A process on a terminal of its own, 80 columns wide."""

    def __init__(self, command: tuple[str, ...], env: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        script = 'exec "$@" <"$0" >"$0" 2>&1'  # the first terminal that a new session opens is its own: Ctrl-C arrives
        self.process = subprocess.Popen(["sh", "-c", script, os.ttyname(slave), *command], env=env, start_new_session=True)
        self._slave = slave  # kept open, so that what was written last can be read when it has ended
        os.set_blocking(self.master, False)
        self.raw = ""

    @property
    def text(self) -> str:
        """All it wrote so far, without colours and moves."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.master, 65536):
                self.raw += piece.decode(errors="replace")
        return ANSI.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        os.close(self._slave)
        os.close(self.master)


@pytest.fixture
def terminal(nodes: Nodes) -> Iterator[Terminal]:
    env = {key: value for key, value in nodes.environment.items() if key != "NO_COLOR"}
    seen = Terminal((*SKERRY, "demo"), env | temporary(nodes) | {"TERM": "xterm-256color", "COLUMNS": "80"})
    try:
        yield seen
    finally:
        seen.close()


def test_in_a_terminal_it_stays_up_and_its_lines_work(nodes: Nodes, terminal: Terminal) -> None:
    def up() -> bool:
        assert terminal.process.poll() is None, terminal.text
        return "Ctrl-C ends them" in terminal.text

    poll_until(up, RUN_S, what="the demo stays up")
    text = terminal.text
    assert "All of it worked" in text
    assert "✗" not in text
    lines = {
        word: next(line for line in text.partition("All of it worked")[2].splitlines() if word in line)
        for word in ("/chat/completions -H", " join ", " call ")
    }

    said = shell(nodes, lines[" call "])
    assert json.loads(said)["text"] == "The cat is on the sofa."
    if shutil.which("curl"):
        answer = json.loads(shell(nodes, lines["/chat/completions -H"]))
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"]
    with subprocess.Popen(f"exec {lines[' join ']} -o json", shell=True, env=nodes.environment, stdout=subprocess.PIPE) as joined:
        assert joined.stdout is not None
        said = joined.stdout.readline().decode()
        joined.terminate()
        assert joined.wait(30) == 0
    assert json.loads(said)["name"] == "delta"

    terminal.type("\x03")
    assert terminal.process.wait(30) == 0
    assert "have ended" in terminal.text
    poll_until(lambda: not left_behind(nodes), what="homes and processes are gone")


def shell(world: Nodes, line: str) -> str:
    done = subprocess.run(line, shell=True, env=world.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- when it does not go well -----------------------------------------------------------------------------------------------------


def test_ctrl_c_on_the_way_cleans_up(nodes: Nodes) -> None:
    with started(nodes, "-o", "json") as demo:
        poll_until(lambda: any((nodes.folder / "tmp").glob("skerry-demo-*/gamma/run/ready.json")), 60, what="three nodes are up")
        demo.send_signal(signal.SIGINT)
        out, _ = demo.communicate(timeout=60)
    figures = json.loads(out)
    assert demo.returncode == 130
    assert figures["ok"] is False
    assert figures["error"]["code"] == "cancelled"
    poll_until(lambda: not left_behind(nodes), what="homes and processes are gone")


def test_a_node_that_dies_is_named_with_its_last_words(nodes: Nodes) -> None:
    homes = nodes.folder / "kept"
    with started(nodes, "-o", "json", "--homes", str(homes)) as demo:
        pid = poll_until(lambda: pid_of(homes / "beta"), 60, what="beta runs") or 0
        assert pid
        os.kill(pid, signal.SIGABRT)
        out, _ = demo.communicate(timeout=120)
    figures = json.loads(out)
    assert demo.returncode == 1
    assert figures["ok"] is False
    assert figures["error"]["message"]
    assert figures["error"]["step"]
    assert set(figures["error"]["stderr"]) <= {"beta"}
    assert homes.is_dir(), "a folder that the user named stays"
    poll_until(lambda: not holders(homes), what="processes are gone")


def pid_of(home: Path) -> int | None:
    """The process of the node that runs on this home; None until there is one."""

    async def ask() -> int:
        async with skerry.connect(home) as mesh:
            return (await mesh.ask("node.status", Nothing(), StatusReply)).pid

    try:
        return asyncio.run(ask())
    except SkerryError:
        return None


def test_a_port_in_use_is_said_without_a_control_character(nodes: Nodes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = nodes.run("demo", "--exit", "--listen", address, env=temporary(nodes))
        as_json = nodes.run("demo", "--exit", "--listen", address, "-o", "json", env=temporary(nodes))
    assert said.code == as_json.code == 1
    assert address in said.out
    assert "in use" in said.out
    assert [c for c in said.out if not c.isprintable() and c != "\n"] == []
    assert as_json.json["ok"] is False
    assert as_json.json["error"]["code"] == "port_in_use"
    assert left_behind(nodes) == []


def test_options_that_make_no_sense_are_refused(nodes: Nodes) -> None:
    nodes.file("full", "something")
    nodes.run("demo", "--homes", str(nodes.folder)).refused(2, "not an empty folder")
    nodes.run("demo", "--homes", str(nodes.folder / "full")).refused(2, "not an empty folder")
    nodes.run("demo", "--listen", "not:an:address").refused(2, "not:an:address")


@contextlib.contextmanager
def started(world: Nodes, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*SKERRY, "demo", "--exit", *args]
    with subprocess.Popen(command, env=world.environment | temporary(world), stdout=subprocess.PIPE) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:  # the test failed: let it end its nodes
                demo.terminate()
