"""What whoever runs a node relies on: readiness, settings, logs without secrets, metrics, a view that can be left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import poll_until
from tests.support.nodes import SKERRY, Node, Nodes, on_loopback

AGENTS = Path(__file__).with_name("agents.py")
CURIOUS = """
import os
from skerry import Agent, handles

class Curious(Agent):
    @handles("custom:environment")
    def environment(self) -> list[str]:
        return sorted(os.environ)
"""
PAYLOAD = "a-payload-nobody-may-log"
TOOL_KEY = "sk-test-0123456789abcdef"
LOOK_S = 15.0


@contextlib.contextmanager
def _service_manager(nodes: Nodes, address: str) -> Iterator[socket.socket]:
    """A NOTIFY_SOCKET of the test's own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listening.settimeout(LOOK_S)
        nodes.environment["NOTIFY_SOCKET"] = address
        yield listening


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_service_manager_hears_when_the_node_is_ready_and_when_it_ends(nodes: Nodes, kind: str) -> None:
    if kind == "abstract" and not Path("/proc/net/unix").exists():
        pytest.skip("abstract sockets are Linux's")
    address = str(nodes.folder / "notify") if kind == "path" else f"@skerry-test-{os.getpid()}"
    with _service_manager(nodes, address) as manager:
        node = nodes.spawn("up", *on_loopback("served", ("-o", "table")), name="served")
        said = manager.recv(4096).decode().splitlines()
        assert said[0] == "READY=1"
        assert said[1].startswith("STATUS=served serves at 127.0.0.1:")
        ready = json.loads((node.home / "run" / "ready.json").read_text())
        assert httpx.get(f"http://{ready['http']}/readyz", trust_env=False).status_code == 200  # ready means that every door serves
        node.run("agent", "run", f"{nodes.file('curious.py', CURIOUS)}:Curious").ok()
        assert "NOTIFY_SOCKET" not in node.call("custom:environment")  # agents have nothing to say to the manager
        assert node.end() == 0
        assert manager.recv(4096) == b"STOPPING=1"


def test_a_service_prints_neither_ticket_nor_token(nodes: Nodes) -> None:
    """As a service manager starts it: stdout is no terminal, and there is no `-o json`."""
    node = nodes.spawn("up", *on_loopback("served", ("-o", "table")), name="served")
    poll_until(lambda: "Ctrl-C" in node.out.read_text(), LOOK_S)
    printed = node.out.read_text() + node.err.read_text()
    assert (node.home / "token").read_text().strip() not in printed
    assert "skerry1" not in printed
    assert "skerry node invite" in printed


def test_a_manager_that_is_gone_does_not_keep_the_node_down(nodes: Nodes) -> None:
    nodes.environment["NOTIFY_SOCKET"] = str(nodes.folder / "nobody")
    assert nodes.up("alone").status().name == "alone"


# --- settings ---------------------------------------------------------------------------------------------------------------------


def test_flag_over_environment_over_file(nodes: Nodes) -> None:
    home = nodes.home("alpha")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('name = "filed"\nlisten = "127.0.0.1:0"\nhttp = "127.0.0.1:0"\n[log]\nlevel = "debug"\n')
    nodes.environment["SKERRY_NAME"] = "from-the-environment"
    node = nodes.spawn("up", "-o", "json", name="alpha").wait_ready()
    assert node.ready["name"] == "from-the-environment"
    assert node.end() == 0
    node = nodes.spawn("up", "-o", "json", "--name", "flagged", name="alpha").wait_ready()
    assert node.ready["name"] == "flagged"
    shown = {item["name"]: item for item in node.run("config", "show", "--origin", "-o", "json").ok().json["settings"]}
    assert (shown["name"]["value"], shown["name"]["origin"], shown["name"]["place"]) == (
        "from-the-environment",
        "environment",
        "SKERRY_NAME",
    )
    assert shown["log.level"]["place"] == f"{home / 'config.toml'}, line 5"
    assert shown["log.files"] == shown["log.files"] | {"value": 3, "origin": "default"}
    table = node.run("config", "show", "--origin").ok().out
    assert re.search(r'^listen +"127\.0\.0\.1:0" +\S+config\.toml, line 2$', table, re.MULTILINE)


def test_a_wrong_setting_keeps_the_node_from_starting(nodes: Nodes) -> None:
    home = nodes.home("alpha")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[log]\nlevel = "loud"\n')
    nodes.spawn("up", name="alpha").wait_refused(2, "config.toml, line 2", "log.level", "debug, info, warning, error")


# --- logs -------------------------------------------------------------------------------------------------------------------------


def test_after_a_full_session_no_log_holds_a_secret(nodes: Nodes) -> None:
    """Found, invite, join, host, call (well and badly), ask over HTTP (well and badly), revoke; then read all that was written."""
    nodes.environment["SKERRY_LOG_LEVEL"] = "debug"
    alpha = nodes.up("alpha")
    ticket = alpha.invite()
    beta = nodes.join("beta", ticket)
    key = nodes.file("key.txt", TOOL_KEY)
    key.chmod(0o600)
    alpha.run("agent", "run", f"{AGENTS}:Greeter").ok()
    alpha.run("agent", "run", f"{AGENTS}:Troubled").ok()
    alpha.run("agent", "run", "openai+http://127.0.0.1:9/v1", "--api-key-file", str(key))  # nobody is there: it may only fail
    beta.wait_offered("custom:greet", "custom:raise")
    beta.run("call", "custom:greet", json.dumps(PAYLOAD)).ok()
    assert beta.run("call", "custom:greet", json.dumps({"wrong": PAYLOAD})).code == 1
    assert beta.run("call", "custom:raise", '"fails"').code == 1
    token = str(alpha.ready["token"])
    for bearer in (token, "wrong-token-0123456789"):
        httpx.get(f"http://{alpha.ready['http']}/v1/models", headers={"authorization": f"Bearer {bearer}"}, trust_env=False)
    alpha.run("node", "revoke", "beta", "--yes").ok()
    used = nodes.run("join", ticket, "--home", str(nodes.home("gamma")), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    assert used.code == 1
    written = _written(alpha) + _written(beta)
    secrets = [ticket, str(alpha.ready["ticket"]), token, str(beta.ready["token"]), "wrong-token-0123456789", TOOL_KEY, PAYLOAD]
    for home in (alpha.home, beta.home):
        secrets += [file.read_text().strip() for file in home.glob("*.key")]
    assert len(secrets) > 10
    assert "linked with" in written  # there is something to read
    assert [secret for secret in secrets if secret in written] == []
    assert "skerry1" not in written


def _written(node: Node) -> str:
    """What the node logged, and wrote to stderr; stdout is the ready line, which a program asked for."""
    return "".join(file.read_text(errors="replace") for file in [node.err, *(node.home / "logs").glob("node.log*")])


def test_logs_shows_the_end_and_follows_across_files(nodes: Nodes) -> None:
    home = nodes.home("alpha")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[log]\nsize_max = 65536\nfiles = 2\nlevel = 'debug'\n")
    nodes.run("logs", "--home", str(home)).refused(1, "there is no log", "skerry up")
    node = nodes.up("alpha")
    assert "ready: alpha" in node.run("logs", "-n", "50").ok().out
    one = node.run("logs", "-n", "1", "-o", "jsonl").ok().lines
    assert len(one) == 1
    assert set(one[0]) >= {"time", "level", "logger", "message"}
    command = [*SKERRY, "logs", "-f", "-n", "1", "-o", "jsonl", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=nodes.environment, cwd=nodes.folder) as following:
        try:
            assert following.stdout is not None
            os.set_blocking(following.stdout.fileno(), False)
            seen = b""

            def line_that_says(text: bytes) -> bool:
                nonlocal seen
                assert following.stdout is not None
                seen += following.stdout.read() or b""
                return text in seen

            poll_until(lambda: line_that_says(b"ready: alpha"), LOOK_S, what="it shows the end, and follows from there")
            node.run("agent", "run", f"{AGENTS}:Greeter", "--name", "first").ok()
            poll_until(lambda: line_that_says(b"the agent first is available"), LOOK_S)
            log = home / "logs" / "node.log"
            log.rename(log.with_name("node.log.1"))  # as when it is full; the node writes on, into the file that it holds
            log.write_text('{"message": "in the next file"}\n')
            poll_until(lambda: line_that_says(b"in the next file"), LOOK_S)
        finally:
            following.kill()
    assert node.end() == 0
    assert "in the next file" in node.run("logs").ok().out  # without a node, too


def test_what_an_agent_prints_stays_small(nodes: Nodes) -> None:
    home = nodes.home("alpha")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[agents]\nlog_size_max = 65536\n")
    node = nodes.up("alpha")
    node.run("agent", "run", f"{AGENTS}:Troubled", "--name", "chatty").ok()
    for number in range(3):
        node.call("custom:print", f"part {number} " + "x" * 60_000)
    node.call("custom:print", "the last word")
    poll_until(lambda: "the last word" in (home / "logs" / "chatty.log").read_text(), LOOK_S)
    files = sorted((home / "logs").glob("chatty.log*"))
    assert [file.name for file in files] == ["chatty.log", "chatty.log.1"]
    assert all(file.stat().st_size <= 65536 for file in files)
    node.run("call", "custom:crash")
    node.wait_offered("custom:print")
    assert "the last word" in node.run("agent", "logs", "chatty", "-n", "50").ok().out


# --- metrics ----------------------------------------------------------------------------------------------------------------------


def test_metrics_count_what_was_done(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    beta.run("agent", "run", f"{AGENTS}:Greeter").ok()
    alpha.wait_offered("custom:greet")
    for _ in range(3):
        alpha.call("custom:greet", "Ada")
    alpha.run("call", "custom:nobody")
    assert httpx.get(f"http://{alpha.ready['http']}/metrics", trust_env=False).status_code == 401
    found = _metrics(alpha)
    assert found['skerry_task_seconds_count{outcome="ok"}'] == 3
    assert 0 < found['skerry_task_seconds_sum{outcome="ok"}'] < 30
    assert found['skerry_calls_total{verb="task.call",outcome="ok"}'] == 3
    assert found['skerry_calls_total{verb="task.call",outcome="unknown_capability"}'] == 1
    assert found['skerry_links{to="node"}'] == 1
    assert found['skerry_nodes{link="up"}'] == 2
    assert found['skerry_records{kind="agent"}'] == 1
    assert found["skerry_store_errors_total"] == 0
    there = _metrics(beta)
    assert there['skerry_calls_total{verb="task.run",outcome="ok"}'] == 3
    assert there['skerry_agents{status="available"}'] == 1


def _metrics(node: Node) -> dict[str, float]:
    bearer = {"authorization": f"Bearer {node.ready['token']}"}
    answer = httpx.get(f"http://{node.ready['http']}/metrics", headers=bearer, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    pairs = (line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


# --- the view ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended_by", ["q", "Ctrl-C"])
def test_the_view_is_drawn_again_until_it_is_left(nodes: Nodes, ended_by: str) -> None:
    node = nodes.up("alpha")
    with _terminal(nodes, "status", "--watch", "--home", str(node.home)) as (process, terminal):
        seen = bytearray()

        def drawn(word: bytes) -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                seen.extend(os.read(terminal, 65536))
            return word in seen

        poll_until(lambda: drawn(b"alpha"), LOOK_S)
        node.run("agent", "run", f"{AGENTS}:Greeter", "--name", "newcomer").ok()
        poll_until(lambda: drawn(b"newcomer"), LOOK_S)
        if ended_by == "q":
            os.write(terminal, b"q")
        else:
            process.send_signal(signal.SIGINT)  # what a terminal makes of Ctrl-C
        poll_until(lambda: drawn(b"\x1b[?1049l") and process.poll() is not None, LOOK_S, what="the view ends, and leaves its own screen")
        assert process.returncode == 0


def test_the_view_says_that_the_node_is_gone_and_finds_it_again(nodes: Nodes) -> None:
    node = nodes.up("alpha")
    with _terminal(nodes, "status", "--watch", "--home", str(node.home)) as (process, terminal):
        seen = bytearray()

        def drawn(word: bytes) -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                seen.extend(os.read(terminal, 65536))
            return word in seen

        poll_until(lambda: drawn(b"alpha"), LOOK_S)
        assert node.end() == 0
        poll_until(lambda: drawn(b"looking again"), LOOK_S)
        node.again()
        seen.clear()
        poll_until(lambda: drawn(b"connections"), LOOK_S)
        assert process.poll() is None


def test_the_view_needs_a_terminal(nodes: Nodes) -> None:
    nodes.up("alpha").run("status", "--watch").refused(2, "terminal", "-o jsonl")


@contextlib.contextmanager
def _terminal(nodes: Nodes, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command on a terminal of 80 columns; the other end of it does not block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {key: value for key, value in nodes.environment.items() if key != "COLUMNS"} | {"TERM": "xterm"}
    process = subprocess.Popen([*SKERRY, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)
