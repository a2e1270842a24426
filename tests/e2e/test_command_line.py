"""The command line as programs and people use it: every command, its options, the shapes of its JSON, its exit codes, its errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skerry
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")
READY_KEYS = ["event", "node_id", "name", "listen", "http", "socket", "token", "ticket"]
CALL_KEYS = {"task_id", "success", "payload", "completed_by", "node", "execution_time_ms", "total_ms"}
FAILED_KEYS = CALL_KEYS - {"payload"} | {"error"}
HEX_64 = re.compile(r"[0-9a-f]{64}")

# Every command that the README and the issue name, and the options that each must have.
COMMANDS: dict[str, set[str]] = {
    "up": {"--home", "--name", "--listen", "--http", "--join", "-o"},
    "join": {"--home", "--name", "--listen", "--http", "--leave", "-o"},
    "down": {"--home", "-o"},
    "status": {"--home", "-o"},
    "call": {"--home", "--bytes", "--output", "--stream", "--timeout", "--agent", "-o"},
    "chat": {"--home", "-o"},
    "doctor": {"--home", "-o"},
    "demo": {"--exit", "--listen", "-o"},
    "node invite": {"--role", "--uses", "--ttl", "--home", "-o"},
    "node list": {"--home", "-o"},
    "node show": {"--home", "-o"},
    "node revoke": {"--home", "-o"},
    "formation show": {"--home", "-o"},
    "formation backup": {"--home", "-o"},
    "formation restore": {"--home", "-o"},
    "agent run": {"--capability", "--name", "--tokenizer", "--model", "--api-key-file", "--home", "-o"},
    "agent list": {"--home", "-o"},
    "agent show": {"--home", "-o"},
    "agent stop": {"--home", "-o"},
    "agent start": {"--home", "-o"},
    "agent remove": {"--home", "-o"},
    "agent logs": {"--home", "-o"},
    "capability list": {"--home", "-o"},
    "capability show": {"--home", "-o"},
}


@pytest.fixture(scope="module")
def alpha(mesh: list[Node]) -> Node:
    """Hosts `greeter`; beta and gamma see it."""
    mesh[0].run("agent", "run", f"{AGENTS}:Greeter").ok()
    mesh[1].wait_offered("custom:greet")
    return mesh[0]


@pytest.fixture(scope="module")
def beta(alpha: Node, mesh: list[Node]) -> Node:
    return mesh[1]


# --- help -------------------------------------------------------------------------------------------------------------------------


def test_every_command_has_its_options_and_says_what_it_does(world: Nodes) -> None:
    for command, options in COMMANDS.items():
        text = world.run(*command.split(), "--help").ok().out
        missing = {option for option in options if not re.search(rf"(^|[\s,]){re.escape(option)}[\s,]", text)}
        assert not missing, f"skerry {command} lacks {missing}:\n{text}"
        assert text.startswith(f"Usage: skerry {command} "), text


def test_without_a_command_it_lists_them(world: Nodes) -> None:
    shown = world.run_afresh("-h").ok().out
    assert shown.startswith("Usage: skerry ")
    assert {command.split()[0] for command in COMMANDS} <= set(shown.split())
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", world.run_afresh("--version").ok().out)
    world.run_afresh("nothing").refused(2, "nothing")
    world.run_afresh("status", "--home", str(world.home("none"))).refused(3, "skerry up")


# --- usage errors: exit 2, at most three lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nothing", ["nothing", "skerry -h"]),
        ("stats", ["status"]),
        ("node lst", ["list"]),
        ("call", ["capability", "skerry call -h"]),
        ("call custom:greet 1 --timeout 0", ["--timeout"]),
        ("call custom:greet 1 --timeout soon", ["--timeout"]),
        ("call custom:greet 1 2", ["2"]),
        ("call custom:greet 1 --strem", ["--strem", "--stream"]),
        ("status -o xml", ["xml", "json"]),
        ("node invite --uses many", ["--uses", "skerry node invite -h"]),
        ("node invite --ttl x", ["'x'", "30m"]),
        ("up --listen 127.0.0.1:x", ["127.0.0.1:x", "HOST:PORT"]),
        ("up --listen 127.0.0.1:99999", ["99999", "65535"]),
        ("up --http 127.0.0.1:http", ["127.0.0.1:http", "HOST:PORT"]),
        ("call custom:greet @/not/there.json", ["/not/there.json"]),
        ("call custom:greet --bytes /not/there", ["/not/there"]),
        ("call custom:greet 1 --bytes /not/there", ["--bytes"]),
        ("call custom:greet {", ["JSON", "column 2"]),
        ("call custom:greet Ada", ["JSON", "'Ada'"]),
        ('call custom:greet {"$bytes":"*"}', ["base64"]),
    ],
)
def test_wrong_usage_is_refused_with_the_next_step(world: Nodes, command: str, words: list[str]) -> None:
    world.run(*command.split(), env={"SKERRY_HOME": str(world.home("usage"))}).refused(2, *words)


def test_wrong_usage_is_json_where_json_was_asked_for(world: Nodes) -> None:
    for command in ("node invite --uses many -o json", "call custom:greet { -o json", "nothing -o json"):
        ran = world.run(*command.split())
        assert ran.code == 2
        assert ran.json["error"]["code"] == "bad_input"
        assert ran.err == ""


def test_a_payload_nested_without_end_is_refused(world: Nodes) -> None:
    world.run("call", "custom:greet", "-", stdin="[" * 100_000).refused(2, "nested")


# --- which home -------------------------------------------------------------------------------------------------------------------


def test_the_home_is_named_before_or_after_the_command_or_by_the_environment(world: Nodes, alpha: Node, beta: Node) -> None:
    home = str(alpha.home)
    elsewhere = {"SKERRY_HOME": str(beta.home)}
    assert world.run("--home", home, "status", "-o", "json").ok().json["id"] == alpha.id
    assert world.run("status", "--home", home, "-o", "json").ok().json["id"] == alpha.id
    assert world.run("status", "-o", "json", env={"SKERRY_HOME": home}).ok().json["id"] == alpha.id
    assert world.run("--home", home, "status", "-o", "json", env=elsewhere).ok().json["id"] == alpha.id
    assert world.run("status", "--home", home, "-o", "json", env=elsewhere).ok().json["id"] == alpha.id


def test_a_relative_home_is_taken_from_the_working_folder(world: Nodes, alpha: Node) -> None:
    assert world.run("--home", os.path.relpath(alpha.home, world.folder), "status", "-o", "json").ok().json["id"] == alpha.id


def test_a_home_without_a_node_is_unreachable_and_named(world: Nodes) -> None:
    place = str(world.home("empty"))
    for command in (["status"], ["call", "custom:greet", "1"], ["agent", "list"], ["node", "invite"], ["down"], ["chat"]):
        world.run(*command, "--home", place).refused(3, place, "skerry up")
    assert not Path(place).exists()
    failed = world.run("call", "custom:greet", "1", "--home", place, "-o", "json")
    assert failed.code == 3
    assert failed.json["error"]["code"] == "unreachable"
    world.run("status").refused(3, str(Path(world.environment["HOME"]) / ".skerry"))


# --- the shapes -------------------------------------------------------------------------------------------------------------------


def test_the_ready_line_has_its_keys(alpha: Node, beta: Node) -> None:
    assert len(alpha.out.read_text().splitlines()) == 1
    ready = alpha.ready
    assert list(ready) == READY_KEYS
    assert ready["event"] == "ready"
    assert ready["name"] == "alpha"
    assert HEX_64.fullmatch(ready["node_id"])
    assert ready["listen"].startswith("127.0.0.1:")
    assert ready["http"].startswith("127.0.0.1:")
    assert alpha.port > 0
    assert Path(ready["socket"]).is_socket()
    assert ready["token"] == (alpha.home / "token").read_text().strip()
    assert ready["ticket"].startswith("skerry1")
    assert list(beta.ready) == READY_KEYS
    assert beta.ready["ticket"] is None, "a member may not invite"


def test_no_secret_is_printed_where_nobody_looks(nodes: Nodes) -> None:
    node = nodes.spawn("up", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--name", "quiet", name="quiet")
    try:
        while "Ctrl-C" not in node.out.read_text():
            assert node.process.poll() is None, node.err.read_text()
    finally:
        assert node.end() == 0
    said = node.out.read_text() + node.err.read_text()
    assert "quiet is up" in said
    assert "skerry1" not in said
    assert (node.home / "token").read_text().strip() not in said


def test_an_invitation_has_its_keys(alpha: Node) -> None:
    said = alpha.json("node", "invite", "--role", "operator", "--uses", "3", "--ttl", "30m")
    assert list(said) == ["ticket", "role", "uses", "expires_at"]
    assert (said["role"], said["uses"]) == ("operator", 3)
    left_s = said["expires_at"] / 1000 - alpha.status().started_at / 1000
    assert 1700 < left_s < 1800 + 300
    plain = alpha.run("node", "invite").ok()
    assert plain.out.startswith("skerry1"), "the ticket alone, so that $(skerry node invite) works"
    assert len(plain.out.split()) == 1
    assert "secret" in plain.err


def test_a_call_has_its_keys(alpha: Node, beta: Node) -> None:
    said = beta.json("call", "custom:greet", '"Ada"')
    assert set(said) == CALL_KEYS
    assert said["success"] is True
    assert said["payload"] == "Hello, Ada!"
    assert said["node"] == alpha.id
    assert HEX_64.fullmatch(said["task_id"])
    assert said["completed_by"] == alpha.json("agent", "show", "greeter")["id"]
    assert 0 < said["execution_time_ms"] < said["total_ms"]
    assert beta.run("call", "custom:greet", '"Ada"').ok().out == "Hello, Ada!\n"


def test_a_failed_call_has_its_keys(beta: Node) -> None:
    failed = beta.run("call", "custom:greet", "3", "-o", "json")
    assert failed.code == 1
    assert failed.err == ""
    assert set(failed.json) == FAILED_KEYS
    assert failed.json["success"] is False
    assert failed.json["error"]["code"] == "bad_payload"
    assert "custom:greet" in failed.json["error"]["message"]
    unknown = beta.run("call", "custom:gret", "3", "-o", "json")
    assert unknown.code == 1
    assert set(unknown.json) == FAILED_KEYS
    assert unknown.json["error"]["code"] == "unknown_capability"
    assert "custom:greet" in unknown.json["error"]["hint"]


def test_a_stream_prints_a_line_per_part_and_then_the_outcome(beta: Node) -> None:
    *parts, last = beta.run("call", "custom:count", "3", "--stream", "-o", "jsonl").ok().lines
    assert parts == [{"part": 0}, {"part": 1}, {"part": 2}]
    assert set(last) == CALL_KEYS
    assert last["success"] is True
    failed = beta.run("call", "custom:count", '"x"', "--stream", "-o", "jsonl")
    assert failed.code == 1
    assert set(failed.lines[-1]) == FAILED_KEYS
    assert beta.run("call", "custom:count", "3", "--stream").ok().out == "0\n1\n2\n"
    assert beta.json("call", "custom:count", "3", "--stream")["payload"] == [0, 1, 2]
    kept = beta.world.folder / "parts.json"
    beta.run("call", "custom:count", "3", "--stream", "--output", str(kept)).ok()
    assert json.loads(kept.read_text()) == [0, 1, 2]
    assert beta.json("call", "custom:count", "3")["payload"] == [0, 1, 2]
    assert beta.json("call", "custom:count-sync", "2")["payload"] == [0, 1]


def test_payloads_come_from_the_line_from_files_and_from_standard_input(beta: Node, world: Nodes) -> None:
    person = json.dumps({"name": "Grace", "age": 85})
    wanted = {"said": "Hello, Grace!", "age": 85}
    file = world.file("person.json", person)
    assert beta.json("call", "custom:greet-async", person)["payload"] == wanted
    assert beta.json("call", "custom:greet-async", f"@{file}")["payload"] == wanted
    assert beta.run("call", "custom:greet-async", "-", "-o", "json", stdin=person).ok().json["payload"] == wanted
    assert json.loads(beta.run("call", "custom:greet-async", person).ok().out) == wanted
    assert beta.json("call", "custom:echo")["payload"] is None


def test_bytes_go_and_come_as_they_are(beta: Node, world: Nodes) -> None:
    data = bytes(range(256)) * 10
    sent, got = world.file("data.bin", data), world.folder / "got.bin"
    said = beta.run("call", "custom:echo", "--bytes", str(sent), "--output", str(got), "-o", "json").ok().json
    assert said["success"] is True
    assert got.read_bytes() == data
    in_json = beta.json("call", "custom:echo", '{"b": {"$bytes": "AAEC"}}')["payload"]
    assert in_json == {"b": {"$bytes": "AAEC"}}
    raw = beta.run("call", "custom:echo", '{"$bytes": "aGVsbG8="}').ok()
    assert raw.out == "hello"
    text = world.folder / "got.json"
    beta.run("call", "custom:echo", '{"a": 1}', "--output", str(text)).ok()
    assert json.loads(text.read_text()) == {"a": 1}
    beta.run("call", "custom:echo", "1", "--output", str(world.folder / "no" / "such")).refused(1, "can't be written")


def test_a_call_may_name_its_agent_or_a_query(beta: Node) -> None:
    assert beta.json("call", "custom:greet", '"x"', "--agent", "greeter")["success"] is True
    beta.run("call", "custom:greet", '"x"', "--agent", "nobody").refused(1, "custom:greet", "nobody")


def test_what_is_no_capability_is_refused(beta: Node) -> None:
    beta.run("call", "greet", "1").refused(2, "custom:greet")
    beta.run("call", "cus*om", "1").refused(2, "'*'")
    beta.run("capability", "show", "custom:gret").refused(1, "custom:gret", "did you mean", "custom:greet")


# --- looking ----------------------------------------------------------------------------------------------------------------------


def test_lists_and_pages_hold_what_there_is(alpha: Node, beta: Node, mesh: list[Node]) -> None:
    nodes = beta.json("node", "list")["nodes"]
    assert {node["id"]: node["name"] for node in nodes} == {node.id: node.name for node in mesh}
    assert [node["id"] for node in beta.run("node", "list", "-o", "jsonl").ok().lines] == [node["id"] for node in nodes]
    table = beta.run("node", "list").ok().out
    assert all(node.name in table for node in mesh)
    shown = beta.json("node", "show", "alpha")
    assert shown["role"] == "operator"
    assert shown["state"] == "valid"
    assert shown["link"] == "up"
    assert shown["addresses"] == [f"tcp://{alpha.listen}"]
    assert beta.json("node", "show", alpha.id[:10])["id"] == alpha.id
    assert alpha.id in beta.run("node", "show", "alpha").ok().out
    beta.run("node", "show", "nobody").refused(1, "nobody", "alpha")

    agents = beta.json("agent", "list")["agents"]
    assert [(agent["name"], agent["node_name"], agent["runtime"], agent["status"]) for agent in agents] == [
        ("greeter", "alpha", "python", "available")
    ]
    assert "greeter" in beta.run("agent", "list").ok().out
    assert beta.json("agent", "show", "alpha/greeter")["id"] == agents[0]["id"]
    assert "custom:greet" in beta.run("agent", "show", agents[0]["id"]).ok().out
    beta.run("agent", "show", "nobody").refused(1, "nobody", "greeter")


def test_status_and_formation_say_where_one_stands(alpha: Node, beta: Node) -> None:
    said = beta.json("status")
    assert said["id"] == beta.id
    assert said["role"] == "member"
    assert said["agents_known"] == 1
    assert said["pid"] == beta.process.pid
    assert said["warnings"] == []
    table = beta.run("status").ok().out
    assert "beta" in table
    assert "custom:greet" in table
    formation = alpha.json("formation", "show")
    assert formation["operators"] == [alpha.id]
    assert formation["founder_home"] is True
    assert formation["nodes"] == 3
    assert beta.json("formation", "show")["founder_home"] is False
    assert "member" in beta.run("formation", "show").ok().out


def test_a_capability_is_shown_with_an_example_that_works(beta: Node) -> None:
    listed = beta.json("capability", "list")["capabilities"]
    assert {"custom:greet", "custom:count"} <= {info["capability"] for info in listed}
    assert [info["capability"] for info in beta.run("capability", "list", "custom:greet*", "-o", "jsonl").ok().lines] == [
        "custom:greet",
        "custom:greet-async",
    ]
    assert "greeter" in beta.run("capability", "list").ok().out
    for capability in ("custom:greet", "custom:greet-async", "custom:count"):
        shown: dict[str, Any] = beta.json("capability", "show", capability)
        assert shown["payload"]["type" if "type" in shown["payload"] else "$ref"]
        answered = beta.json("call", capability, json.dumps(shown["example"]))
        assert answered["success"] is True, answered
    page = beta.run("capability", "show", "custom:greet").ok().out
    example = next(line for line in page.splitlines() if line.startswith("example"))
    assert "skerry call custom:greet '" in example


def test_the_doctor_looks_at_this_node_and_at_others(alpha: Node, beta: Node, world: Nodes) -> None:
    said = beta.json("doctor")
    assert said["ok"] is True
    assert {check["what"] for check in said["checks"]} >= {"identity", "address", "grant", "disk"}
    way = beta.json("doctor", "alpha")
    assert way["ok"] is True
    assert {"name", "grant", "link", "tls", "identity", "clock"} <= {check["what"] for check in way["checks"]}
    assert "all is well" in beta.run("doctor", alpha.listen).ok().out
    bad = beta.run("doctor", "127.0.0.1:1", "-o", "json")
    assert bad.code == 1
    assert bad.json["ok"] is False
    plain = beta.run("doctor", "127.0.0.1:1")
    assert plain.code == 1
    assert "127.0.0.1:1" in plain.out
    assert "-> " in plain.out.splitlines()[-1]
    beta.run("doctor", "nobody").refused(1, "nobody")


def test_an_agents_log_is_shown(alpha: Node, beta: Node) -> None:
    assert "ready to greet" in alpha.run("agent", "logs", "greeter").ok().out
    assert "ready to greet" in alpha.json("agent", "logs", "greeter")["text"]
    lines = alpha.run("agent", "logs", "greeter", "-n", "1", "-o", "jsonl").ok().lines
    assert len(lines) == 1
    assert set(lines[0]) == {"line"}
    beta.run("agent", "logs", "greeter").refused(1, "greeter", "on this node")


def test_down_ends_the_node_in_order(nodes: Nodes) -> None:
    node = nodes.up("alpha")
    assert node.json("down") == {"event": "down"}
    assert node.process.wait(10) == 0
    assert not Path(node.ready["socket"]).exists()
    node.run("status").refused(3, str(node.home))
    again = node.again()
    assert again.id == node.id
    assert again.run("down").ok().out
    assert again.process.wait(10) == 0


def test_python_m_skerry_is_the_command_too() -> None:
    said = subprocess.run([sys.executable, "-m", "skerry", "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert skerry.__version__ in said.stdout
