"""Hosting agents on real nodes: every runtime, names and defaults, bad files, and how agents live, crash and come back."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import models, poll_until
from tests.support.nodes import Node, Nodes
from tests.support.openai_server import openai_server, seen

AGENTS = Path(__file__).with_name("agents.py")
WORKER_ENDS_S = 1.0  # after its node, as the channel promises
SEEN_LATE_S = 1.0  # what looking at processes may cost on a busy machine


@pytest.fixture(scope="module")
def alpha(mesh: list[Node]) -> Node:
    return mesh[0]


@pytest.fixture(scope="module")
def beta(mesh: list[Node]) -> Node:
    return mesh[1]


# --- python -----------------------------------------------------------------------------------------------------------------------


def test_python_agents_of_every_form_answer_from_another_node(alpha: Node, beta: Node) -> None:
    said = alpha.json("agent", "run", f"{AGENTS}:Greeter")
    assert said["name"] == "greeter", "the class in lower case"
    assert said["runtime"] == "python"
    assert said["status"] == "available"
    assert said["node"] == alpha.id
    beta.wait_offered(*said["capabilities"])
    assert beta.call("custom:greet", "Ada") == "Hello, Ada!"
    assert beta.call("custom:greet-async", {"name": "Ada", "age": 36}) == {"said": "Hello, Ada!", "age": 36}
    assert beta.call("custom:count", 3) == [0, 1, 2]
    assert beta.call("custom:count-sync", 3) == [0, 1, 2]
    for value in (None, True, 1.5, "text", b"\x00\xff", [1, [2]], {"a": {"b": None}}):
        assert beta.call("custom:echo", value) == value
    beta.run("call", "custom:greet-async", '{"name": 3}').refused(1, "custom:greet-async", "payload.name", "capability show")


def test_a_name_that_is_taken_on_the_node_is_refused(alpha: Node, beta: Node) -> None:
    alpha.run("agent", "run", f"{AGENTS}:Who").ok()
    alpha.run("agent", "run", f"{AGENTS}:Who").refused(1, "'who'", "taken", "--name")
    alpha.run("agent", "run", f"{AGENTS}:Who", "--name", "other").ok()
    beta.run("agent", "run", f"{AGENTS}:Who").ok()  # another node, another name space
    alpha.wait_linked(beta)
    poll_until(lambda: len(alpha.json("capability", "list", "custom:who")["capabilities"]) == 3, what="alpha sees all three")
    alpha.run("agent", "show", "beta/who").ok()
    assert {alpha.call("custom:who", agent=name) for name in ("other", "who")} == {"other", "who"}
    for node, name in ((alpha, "other"), (alpha, "who"), (beta, "who")):
        node.run("agent", "remove", name).ok()
    poll_until(lambda: "custom:who" not in alpha.status().capabilities, what="all are gone")


def test_an_agent_stops_starts_and_goes(alpha: Node, beta: Node) -> None:
    alpha.run("agent", "run", f"{AGENTS}:Who").ok()
    beta.wait_offered("custom:who")
    assert alpha.json("agent", "stop", "who")["status"] == "stopped"
    poll_until(lambda: "custom:who" not in beta.status().capabilities, what="beta sees that it is withdrawn")
    beta.run("call", "custom:who").refused(1, "custom:who")
    assert alpha.json("agent", "start", "who")["status"] == "available"
    beta.wait_offered("custom:who")
    assert beta.call("custom:who") == "who"
    identity = alpha.json("agent", "remove", "who")["id"]
    alpha.run("agent", "show", "who").refused(1, "who")
    assert not list(alpha.home.glob(f"*{identity}*")), "its key is gone"
    for command in ("stop", "start", "remove", "logs"):
        alpha.run("agent", command, "who").refused(1, "'who'", "agent list")


# --- what is no agent -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (f"{AGENTS}:Nobody", ["no class 'Nobody'", "agents.py:Greeter"]),
        (f"{AGENTS}:NOT_AN_AGENT", ["NOT_AN_AGENT", "no Agent"]),
        (f"{AGENTS}:Idle", ["Idle", "handles nothing", "@handles"]),
        (f"{AGENTS}:Broken", ["Broken.on_start", "the coffee is out", "line ", "/logs/broken.log"]),
        (str(AGENTS), ["which class", f"{AGENTS}:"]),
        ("not/there.py:Who", ["not/there.py", "does not exist"]),
        ("not/there.onnx", ["not/there.onnx", "does not exist"]),
        ("somewhere", ["somewhere'", "FILE.py:Class"]),
        ("openai+ftp://127.0.0.1", ["openai+ftp://127.0.0.1", "http://HOST:PORT"]),
    ],
)
def test_what_is_no_agent_is_refused_by_its_name(alpha: Node, target: str, words: list[str]) -> None:
    ran = alpha.run("agent", "run", target)
    ran.refused(ran.code, *words)
    assert ran.code in (1, 2)
    if "broken.log" in ran.err:
        assert "Traceback" in (alpha.home / "logs" / "broken.log").read_text()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("bad.onnx", b"no model at all", ["bad.onnx is no model", "whole .onnx file"]),
        ("bad.gguf", b"no model at all", ["bad.gguf is no GGUF model", "whole .gguf file"]),
        ("cut.gguf", b"GGUF\x03\x00\x00\x00", ["GGUF"]),
        ("empty.onnx", b"", ["empty.onnx"]),
        ("wrong.py:Agent", b"def (", ["wrong.py", "line 1"]),
        ("fails.py:Agent", b"\n\n1/0", ["fails.py", "line 3", "ZeroDivisionError"]),
    ],
)
def test_a_file_that_is_no_model_or_no_code_is_refused_and_leaves_nothing(
    world: Nodes, alpha: Node, file: str, content: bytes, words: list[str]
) -> None:
    before = [agent["name"] for agent in alpha.json("agent", "list")["agents"]]
    blobs = set((alpha.home / "blobs").iterdir())
    path = world.file(file.partition(":")[0], content)
    entry = file.partition(":")[2]
    ran = alpha.run("agent", "run", f"{path}:{entry}" if entry else str(path))
    ran.refused(ran.code, *words)
    assert [agent["name"] for agent in alpha.json("agent", "list")["agents"]] == before
    assert set((alpha.home / "blobs").iterdir()) == blobs


def test_options_that_do_not_fit_are_refused(world: Nodes, alpha: Node) -> None:
    alpha.run("agent", "run", f"{AGENTS}:Who", "--capability", "custom:x").refused(2, "@handles", "--capability")
    alpha.run("agent", "run", f"{AGENTS}:Who", "--name", "a b").refused(2, "'a b'", "--name")
    alpha.run("agent", "run", str(models.minilm()), "--tokenizer", "/not/there").refused(2, "/not/there", "--tokenizer")
    alpha.run("agent", "run", str(models.minilm()), "--capability", "nonsense").refused(2, "nonsense", "custom:nonsense")
    bad = world.file("tokenizer.json", "{}")
    ran = alpha.run("agent", "run", str(models.minilm()), "--name", "m", "--capability", "embedding:m", "--tokenizer", str(bad))
    ran.refused(ran.code, "tokenizer")


# --- models -----------------------------------------------------------------------------------------------------------------------


def test_an_embedding_model_takes_text_where_a_tokenizer_is_named(alpha: Node, beta: Node) -> None:
    said = alpha.json(
        "agent",
        "run",
        str(models.minilm()),
        "--capability",
        "embedding:minilm",
        "--tokenizer",
        str(models.minilm_tokenizer()),
        "--name",
        "minilm",
    )
    assert said["capabilities"] == ["embedding:minilm"]
    beta.wait_offered("embedding:minilm")
    shown = beta.json("capability", "show", "embedding:minilm")
    assert beta.json("call", "embedding:minilm", json.dumps(shown["example"]))["success"] is True
    answer = beta.call("embedding:minilm", {"input": ["a cat sits", "a kitten sits", "a node of a network"]})
    cat, kitten, node = [item["embedding"] for item in answer["data"]]
    assert _cosine(cat, kitten) > 0.6 > 0.3 > _cosine(cat, node)
    beta.run("call", "embedding:minilm", '{"inputs": "x"}').refused(1, "embedding:minilm", "input")
    alpha.run("agent", "remove", "minilm").ok()


def test_a_model_without_a_tokenizer_takes_tensors_and_is_named_after_its_file(alpha: Node, beta: Node, world: Nodes) -> None:
    bare = world.folder / "Bare.onnx"
    bare.symlink_to(models.minilm())
    said = alpha.json("agent", "run", str(bare))
    assert said["capabilities"] == [f"custom:{Path(models.minilm()).stem}"] or said["capabilities"] == ["custom:Bare"]
    capability = said["capabilities"][0]
    beta.wait_offered(capability)
    shown = beta.json("capability", "show", capability)
    answered = beta.json("call", capability, json.dumps(shown["example"]))
    assert answered["success"] is True, answered
    beta.run("call", capability, '{"nothing": 1}').refused(1, capability)
    alpha.run("agent", "remove", said["name"]).ok()


def test_a_tokenizer_beside_the_model_is_found(alpha: Node, beta: Node, world: Nodes) -> None:
    folder = world.folder / "beside"
    folder.mkdir()
    (folder / "mini.onnx").write_bytes(models.minilm().read_bytes())
    (folder / "tokenizer.json").write_bytes(models.minilm_tokenizer().read_bytes())
    said = alpha.json("agent", "run", str(folder / "mini.onnx"), "--capability", "embedding:mini")
    assert said["name"] == "mini"
    beta.wait_offered("embedding:mini")
    assert len(beta.call("embedding:mini", {"input": "text"})["data"][0]["embedding"]) == 384
    alpha.run("agent", "remove", "mini").ok()


def test_a_chat_model_answers_whole_and_part_by_part(alpha: Node, beta: Node) -> None:
    stem = models.smollm().stem
    said = alpha.json("agent", "run", str(models.smollm()))
    assert said["capabilities"] == [f"inference:{stem}"]
    assert said["name"] == stem.lower()
    capability = said["capabilities"][0]
    beta.wait_offered(capability)
    ask = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12, "temperature": 0}
    whole = beta.call(capability, ask)
    assert whole["object"] == "chat.completion"
    text = whole["choices"][0]["message"]["content"]
    assert text
    *parts, last = beta.run("call", capability, json.dumps(ask), "--stream", "-o", "jsonl").ok().lines
    assert last["success"] is True
    assert len(parts) > 3
    assert {part["part"]["object"] for part in parts} == {"chat.completion.chunk"}
    assert "".join(part["part"]["choices"][0]["delta"].get("content") or "" for part in parts if part["part"]["choices"]) == text
    assert beta.run("call", capability, json.dumps(ask), "--stream").ok().out.strip() == text.strip()
    assert beta.run("chat", stem, "Say hello.", "--max-tokens", "8").ok().out.strip()
    assert beta.run("chat", "Say hello.", "--max-tokens", "8").ok().out.strip(), "the only model there is"
    talk = beta.run("chat", "--max-tokens", "8", stdin="Say hello.\nAnd again.\n").ok()
    assert len(talk.out.strip().splitlines()) >= 2
    beta.run("chat", "nobody", "hello").refused(1, "inference:nobody")
    alpha.run("agent", "remove", said["name"]).ok()
    poll_until(lambda: capability not in beta.status().capabilities, what="it is gone")
    beta.run("chat", "hello").refused(1, "no chat model", "agent run")


def test_a_server_that_people_have_is_brought_in(alpha: Node, beta: Node, world: Nodes) -> None:
    key = world.file("key", "secret-key\n")
    key.chmod(0o600)
    with openai_server(key="secret-key", models=["echo", "slow"]) as url:
        alpha.run("agent", "run", f"openai+{url}").refused(2, url, "API key", "--api-key-file")
        said = alpha.json("agent", "run", f"openai+{url}", "--api-key-file", str(key), "--name", "box")
        assert sorted(said["capabilities"]) == ["inference:echo", "inference:slow"]
        beta.wait_offered("inference:echo")
        answer = beta.call("inference:echo", {"messages": [{"role": "user", "content": "hi there"}]})
        assert answer["choices"][0]["message"]["content"] == "you said: hi there"
        assert beta.run("chat", "echo", "hi there").ok().out.strip() == "you said: hi there"
        assert seen(url)["bodies"][-1]["model"] == "echo"
        chosen = alpha.json(
            "agent",
            "run",
            f"openai+{url}",
            "--api-key-file",
            str(key),
            "--name",
            "vec",
            "--model",
            "vectors",
            "--capability",
            "embedding:vec",
        )
        assert chosen["capabilities"] == ["embedding:vec"]
        assert alpha.call("embedding:vec", {"input": "four"})["data"][0]["embedding"] == [4.0, 1.0]
        logs = (alpha.home / "logs").glob("*")
        assert not any("secret-key" in log.read_text() for log in logs)
    key.chmod(0o644)
    alpha.run("agent", "run", f"openai+{url}", "--api-key-file", str(key), "--name", "again").refused(1, str(key), "others can read")
    failed = beta.run("call", "inference:echo", '{"messages": [{"role": "user", "content": "x"}]}', "--timeout", "10")
    failed.refused(failed.code, url)
    for name in ("box", "vec"):
        alpha.run("agent", "remove", name).ok()


def test_a_server_that_is_not_there_is_unreachable(alpha: Node) -> None:
    alpha.run("agent", "run", "openai+http://127.0.0.1:1/v1").refused(3, "http://127.0.0.1:1/v1", "is it running?")


# --- trouble ----------------------------------------------------------------------------------------------------------------------


def test_an_exception_in_a_handler_reaches_the_caller_without_its_traceback(alpha: Node, beta: Node) -> None:
    alpha.run("agent", "run", f"{AGENTS}:Troubled").ok()
    beta.wait_offered("custom:raise")
    beta.run("call", "custom:raise", '"no such star"').refused(1, "LookupError", "no such star", "agent logs")
    failed = beta.run("call", "custom:raise", '"no such star"', "-o", "json")
    assert failed.json["error"]["code"] == "task_failed"
    log = alpha.run("agent", "logs", "troubled").ok().out
    assert "Traceback" in log
    assert 'agents.py", line' in log
    *parts, last = beta.run("call", "custom:raise-late", "2", "--stream", "-o", "jsonl").lines
    assert parts == [{"part": 0}, {"part": 1}]
    assert last["success"] is False
    assert "after its parts" in last["error"]["message"]
    cut_off = beta.run("call", "custom:cut-off", "--timeout", "10", "-o", "json")
    assert (cut_off.json["error"]["message"], cut_off.json["error"]["outcome_unknown"]) == ("whom it asked is gone", True)
    beta.run("call", "custom:odd").refused(1, "a lock", "plain value")
    beta.run("call", "custom:print", '"seen in the log"').ok()
    assert "seen in the log" in alpha.run("agent", "logs", "troubled").ok().out
    assert alpha.json("agent", "show", "troubled")["restarts"] == 0


def test_an_agent_that_crashes_comes_back_and_the_node_stays(alpha: Node, beta: Node) -> None:
    crashed = beta.run("call", "custom:crash", "-o", "json")
    assert crashed.code == 1
    assert crashed.json["error"]["code"] == "agent_failed"
    assert crashed.json["error"]["outcome_unknown"] is True
    poll_until(lambda: alpha.json("agent", "show", "troubled")["status"] == "available", what="it is back")
    assert alpha.json("agent", "show", "troubled")["restarts"] == 1
    beta.wait_offered("custom:print")
    beta.run("call", "custom:print", '"back"').ok()


# --- after a kill -----------------------------------------------------------------------------------------------------------------


def test_agents_come_back_with_a_node_that_was_killed(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    for name in ("Greeter", "Holder", "Who"):
        alpha.run("agent", "run", f"{AGENTS}:{name}").ok()
    alpha.run("agent", "stop", "who").ok()
    identity = alpha.json("agent", "show", "greeter")["id"]
    beta.wait_offered("custom:greet")
    alpha.kill()
    again = alpha.again()
    again.wait_offered("custom:greet", "custom:hold")
    wanted = {"greeter": "available", "holder": "available", "who": "stopped"}
    poll_until(
        lambda: {agent["name"]: agent["status"] for agent in again.json("agent", "list")["agents"]} == wanted, what="all are as before"
    )
    assert again.json("agent", "show", "greeter")["id"] == identity
    assert again.call("custom:greet", "Ada") == "Hello, Ada!"
    beta.wait_linked(again)
    assert beta.call("custom:greet", "Ada") == "Hello, Ada!"


def test_an_agent_comes_back_after_its_worker_was_killed(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    alpha.run("agent", "run", f"{AGENTS}:Greeter").ok()
    (worker,) = _workers(alpha)
    os.kill(worker, 9)
    poll_until(lambda: _workers(alpha) not in ([], [worker]), what="there is another worker")
    alpha.wait_offered("custom:greet")
    assert poll_until(lambda: _try(alpha, "custom:greet", "Ada"), what="it answers") == "Hello, Ada!"
    assert alpha.json("agent", "show", "greeter")["restarts"] == 1


@pytest.mark.parametrize("agent", ["Greeter", "Blocker"])
def test_a_worker_ends_within_a_second_of_its_node(nodes: Nodes, agent: str) -> None:
    alpha = nodes.up("alpha")
    alpha.run("agent", "run", f"{AGENTS}:{agent}").ok()
    if agent == "Blocker":
        alpha.run("call", "custom:block", "--timeout", "0.3").refused(1, "deadline", "--timeout")
    processes = _tree(alpha.process.pid)
    assert processes
    alpha.kill()
    poll_until(lambda: not any(_lives(pid) for pid in processes), WORKER_ENDS_S + SEEN_LATE_S, what="every process of its is gone")


# --- looking at processes ---------------------------------------------------------------------------------------------------------


def _tree(pid: int) -> list[int]:
    """The processes below one, all of them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *_tree(int(child))]
    return found


def _workers(node: Node) -> list[int]:
    """The processes of a node's workers themselves."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("processes are looked at under /proc")
    return [pid for pid in _tree(node.process.pid) if re.search(r"skerry\.agents\.worker\0\d+\0\d+", _command_line(pid)) and not _tree(pid)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _try(node: Node, capability: str, payload: Any) -> Any:
    ran = node.run("call", capability, json.dumps(payload), "-o", "json")
    return ran.json.get("payload") if ran.code == 0 else None


def _cosine(left: list[float], right: list[float]) -> float:
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / (math.hypot(*left) * math.hypot(*right))
