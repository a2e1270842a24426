"""Agents that people can live with: state that is kept, limits, environments, a sandbox, and all of it on another node."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from skerry.agents.sandbox import bubblewrap
from tests.support.nodes import SKERRY, Node, Nodes
from tests.support.polling import poll_until

LIFE = """
import os
import time
from pathlib import Path

from skerry import Agent, handles


class Life(Agent):
    state = ("n",)

    def __init__(self):
        self.n = 0

    @handles("custom:add")
    async def add(self, by: int) -> int:
        self.n += by
        return self.n

    @handles("custom:add-parts")
    async def add_parts(self, by: int):
        self.n += by
        yield self.n

    @handles("custom:sleep")
    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    @handles("custom:block")
    async def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "blocked"

    @handles("custom:eat")
    async def eat(self, mebibytes: int) -> int:
        eaten = bytearray(mebibytes << 20)
        for place in range(0, len(eaten), 4096):
            eaten[place] = 1
        time.sleep(1.0)
        return len(eaten)

    @handles("custom:about")
    async def about(self) -> dict:
        return {"settings": self.settings, "secret": os.environ.get("SECRET"), "home": os.environ.get("HOME"), "here": os.getcwd()}

    @handles("custom:exists")
    async def exists(self, path: str) -> bool:
        return Path(path).exists()

    @handles("custom:write")
    async def write(self, path: str) -> str:
        try:
            Path(path).write_text("here")
        except OSError as error:
            return type(error).__name__
        return "written"
"""


TINY = """
from skerry import Agent, handles

class Tiny(Agent):
    @handles("custom:tiny")
    async def tiny(self) -> str:
        import tinything
        return tinything.WORD
"""


@pytest.fixture(scope="module")
def alpha(world: Nodes) -> Node:
    return world.up("alpha")


@pytest.fixture
def life(world: Nodes, alpha: Node, request: pytest.FixtureRequest) -> Any:
    """A `Life` of this test's own on alpha, under its name; gone afterwards."""
    options = getattr(request, "param", ())
    alpha.run("agent", "run", f"{world.file('life.py', LIFE)}:Life", *options).ok()
    yield alpha
    alpha.run("agent", "remove", "life").ok()


def test_state_survives_a_worker_that_is_killed(life: Node) -> None:
    assert life.call("custom:add", 5) == 5
    assert life.call("custom:add-parts", 2) == [7]
    pid = life.json("agent", "show", "life")["pid"]
    os.kill(pid, signal.SIGKILL)
    poll_until(lambda: life.json("agent", "show", "life")["pid"] not in (0, pid), 15)
    assert life.call("custom:add", 1) == 8


def test_state_survives_a_node_that_is_killed_and_a_restart(nodes: Nodes) -> None:
    node = nodes.up("solo")
    node.run("agent", "run", f"{nodes.file('life.py', LIFE)}:Life").ok()
    assert node.call("custom:add", 3) == 3
    node.kill()
    node = node.again()
    node.wait_offered("custom:add", timeout_s=15)
    assert node.call("custom:add", 1) == 4
    node.run("agent", "restart", "life").ok()
    assert node.call("custom:add", 1) == 5


@pytest.mark.parametrize("capability", ["custom:sleep", "custom:block"])
def test_a_handler_that_hangs_is_cut_and_those_behind_it_go_on(life: Node, capability: str) -> None:
    began = time.monotonic()
    life.run("call", capability, "60", "--timeout", "0.5").refused(1, "deadline")
    assert life.call("custom:add", 1, timeout_s=20) == 1
    assert time.monotonic() - began < 15
    assert "after its deadline" in life.run("agent", "logs", "life").ok().out


@pytest.mark.parametrize("life", [("--memory", "200M")], indirect=True)
def test_an_agent_that_eats_memory_is_ended_with_the_reason(life: Node) -> None:
    assert life.call("custom:eat", 50) == 50 << 20
    life.run("call", "custom:eat", "400").refused(1, "its limit is 200 MiB")
    assert life.call("custom:add", 1, timeout_s=20) == 1


def test_an_agent_is_told_its_settings_and_its_environment(world: Nodes, alpha: Node) -> None:
    secret = world.file("secrets.env", "# comment\nexport SECRET='quoted value'\n\n")
    life = f"{world.file('life.py', LIFE)}:Life"
    alpha.run("agent", "run", life, "--name", "told", "--env-file", str(secret), "--set", "color=blue").ok()
    about = alpha.call("custom:about", agent="told")
    assert about["settings"] == {"color": "blue"}
    assert about["secret"] == "quoted value"
    assert "quoted value" not in alpha.run("agent", "show", "told", "-o", "json").ok().out
    alpha.run("agent", "run", life, "--name", "bad", "--set", "color").refused(2, "KEY=VALUE")
    alpha.run("agent", "run", life, "--name", "bad", "--memory", "lots").refused(2, "memory")
    alpha.run("agent", "remove", "told").ok()


def test_a_paused_agent_takes_no_tasks_and_stays_paused(life: Node) -> None:
    life.run("agent", "pause", "life").ok()
    poll_until(lambda: "custom:add" not in life.status().capabilities, 5)
    life.run("call", "custom:add", "1").refused(1, "custom:add")
    life.run("agent", "restart", "life").ok()
    assert life.json("agent", "show", "life")["status"] == "paused"
    life.run("agent", "resume", "life").ok()
    assert life.call("custom:add", 1) == 1


@pytest.mark.parametrize("life", [("--concurrency", "3")], indirect=True)
def test_concurrency_counts_all_handlers_together(life: Node) -> None:
    began = time.monotonic()
    calls = [subprocess.Popen([*SKERRY, "call", "custom:sleep", "3", "--home", str(life.home)]) for _ in range(3)]
    assert [call.wait(30) for call in calls] == [0, 0, 0]
    assert time.monotonic() - began < 8.5, "three at once take as long as one"


def test_requirements_are_installed_for_one_agent_alone(world: Nodes, alpha: Node) -> None:
    wheel = _wheel(world.folder)
    code = TINY
    file = world.file("tiny.py", code)
    alpha.run("agent", "run", f"{file}:Tiny").ok()
    alpha.run("call", "custom:tiny").refused(1, "tinything")
    alpha.run("agent", "remove", "tiny").ok()
    requirements = world.file("requirements.txt", f"--no-index\n{wheel}\n")
    alpha.run("agent", "run", f"{file}:Tiny", "--requirements", str(requirements), timeout_s=120).ok()
    assert alpha.call("custom:tiny") == "tiny"
    alpha.run("agent", "remove", "tiny").ok()
    assert list((alpha.home / "envs").glob("*")) == []
    inline = world.file(
        "inline.py", f'# /// script\n# requires-python = ">=3.11"\n# dependencies = ["tinything @ file://{wheel}"]\n# ///\n{code}'
    )
    alpha.run("agent", "run", f"{inline}:Tiny", timeout_s=120).ok()
    assert alpha.call("custom:tiny") == "tiny"
    alpha.run("agent", "remove", "tiny").ok()
    old = world.file("old.py", f'# /// script\n# requires-python = "<3.0"\n# dependencies = []\n# ///\n{code}')
    alpha.run("agent", "run", f"{old}:Tiny").refused(2, "requires Python <3.0")
    missing = world.file("missing.txt", "--no-index\nno-such-package-here==1.0\n")
    alpha.run("agent", "run", f"{file}:Tiny", "--requirements", str(missing), timeout_s=120).refused(2, "no-such-package-here")


@pytest.mark.skipif(bubblewrap() is None, reason="bubblewrap is not installed here, or may not be used")
def test_the_sandbox_hides_the_node_and_the_user(life: Node) -> None:
    assert life.json("agent", "show", "life")["sandbox"] is True
    assert life.call("custom:exists", str(life.home / "node.key")) is False
    assert life.call("custom:exists", str(life.ready["socket"])) is False
    assert life.call("custom:write", "/etc/skerry-was-here") == "OSError"
    about = life.call("custom:about")
    assert about["here"] == about["home"] == str(life.home / "work" / life.json("agent", "show", "life")["id"])
    assert life.call("custom:write", f"{about['here']}/note") == "written"


def test_an_operator_runs_agents_on_another_node(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    file = nodes.file("life.py", LIFE)
    alpha.run("agent", "run", f"{file}:Life", "--node", "beta").ok()
    alpha.wait_offered("custom:add")
    assert alpha.call("custom:add", 2) == 2
    assert beta.json("agent", "show", "life")["local"] is True
    alpha.run("agent", "stop", "life", "--node", "beta").ok()
    alpha.run("agent", "start", "life", "--node", "beta").ok()
    assert "exec" not in alpha.run("agent", "logs", "life", "--node", "beta").ok().err
    assert alpha.call("custom:add", 1) == 3
    beta.run("agent", "run", f"{file}:Life", "--node", "alpha").refused(1, "operate")
    alpha.run("agent", "remove", "life", "--node", "beta").ok()
    alpha.run("agent", "run", f"{file}:Life", "--node", "nobody").refused(1, "nobody")


def test_foreground_shows_the_log_reloads_and_removes(nodes: Nodes) -> None:
    node = nodes.up("solo")
    file = nodes.file("word.py", _word("one"))
    command = [*SKERRY, "agent", "run", f"{file}:Word", "--foreground", "--reload", "--home", str(node.home)]
    out = nodes.folder / "foreground.out"
    with out.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        poll_until(lambda: "Ctrl-C ends it" in out.read_text(), 20)
        assert node.call("custom:word") == "one"
        poll_until(lambda: "said one" in out.read_text(), 10)
        file.write_text(_word("two"))
        poll_until(lambda: "runs anew" in out.read_text(), 20)
        assert node.call("custom:word") == "two"
        file.write_text("def broken(:\n")
        poll_until(lambda: "error:" in out.read_text(), 20)
        poll_until(lambda: node.json("agent", "show", "word")["status"] == "available", 20)
        assert node.call("custom:word") == "two", "what ran before goes on"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    poll_until(lambda: node.json("agent", "list")["agents"] == [], 10)


def _word(word: str) -> str:
    return f"""
from skerry import Agent, handles

class Word(Agent):
    @handles("custom:word")
    async def word(self) -> str:
        self.log.info("said {word}")
        return "{word}"
"""


def _wheel(folder: Path) -> Path:
    """A package that is nowhere but here."""
    path = folder / "tinything-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinything.py", 'WORD = "tiny"\n')
        wheel.writestr("tinything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        wheel.writestr("tinything-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinything-1.0.dist-info/RECORD", "")
    return path
