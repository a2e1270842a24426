"""Starting and joining: every option, and every reason not to start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import poll_until
from tests.support.nodes import LOOPBACK, Nodes, on_loopback

AGENTS = Path(__file__).with_name("agents.py")


# --- options ----------------------------------------------------------------------------------------------------------------------


def test_join_takes_every_option_of_up(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    home = nodes.home("elsewhere") / "deep"
    spare = _free_port()
    ticket = alpha.ready["ticket"]
    beta = nodes.spawn(
        "join", ticket, "--name", "Beta-1", "--listen", f"127.0.0.1:{spare}", "--http", LOOPBACK, "-o", "json", name="beta", home=home
    ).wait_ready()
    assert beta.ready["name"] == "Beta-1"
    assert beta.port == spare
    assert beta.ready["ticket"] is None
    assert Path(beta.ready["socket"]) == home / "run" / "node.sock"
    assert httpx.get(f"http://{beta.ready['http']}/healthz", trust_env=False).status_code == 200
    assert beta.status().formation == alpha.status().formation
    poll_until(lambda: "Beta-1" in [info.name for info in alpha.sees().values()], what="alpha hears the name")


def test_up_joins_too_and_comes_back_without_the_ticket(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    beta = nodes.up("beta", "--join", alpha.ready["ticket"])
    beta.wait_linked(alpha)
    assert beta.end() == 0
    again = nodes.spawn("up", "--listen", LOOPBACK, "--http", LOOPBACK, "-o", "json", name="beta", home=beta.home).wait_ready()
    assert again.ready["name"] == "beta", "the name is kept"
    assert again.id == beta.id
    again.wait_linked(alpha)
    alpha.wait_linked(again)


def test_a_node_that_is_ready_after_joining_can_be_asked_at_once(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    alpha.run("agent", "run", f"{AGENTS}:Greeter").ok()
    beta = nodes.join("beta", alpha.ready["ticket"])
    assert beta.call("custom:greet", "Ada") == "Hello, Ada!"


def test_nodes_listen_where_they_are_told(nodes: Nodes) -> None:
    six = nodes.up("six", "--listen", "[::1]:0", "--http", "[::1]:0")
    assert six.listen.startswith("[::1]:")
    assert six.ready["http"].startswith("[::1]:")
    four = nodes.join("four", six.ready["ticket"])
    four.wait_linked(six)
    assert httpx.get(f"http://{six.ready['http']}/healthz", trust_env=False).status_code == 200


def test_the_http_door_stays_on_loopback(nodes: Nodes) -> None:
    nodes.spawn("up", *on_loopback("n", ("--http", "0.0.0.0:0")), name="n").wait_refused(2, "0.0.0.0", "loopback")


@pytest.mark.parametrize("name", ["a b", "x" * 65, "a/b", "a\nb"])
def test_a_name_that_can_not_be_is_refused(nodes: Nodes, name: str) -> None:
    nodes.run("up", "--home", str(nodes.home("n")), "--listen", LOOPBACK, "--http", LOOPBACK, "--name", name).refused(2, "name")


def test_of_two_nodes_of_one_name_the_younger_shows_its_id(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    other = nodes.join("alpha", alpha.ready["ticket"], home=nodes.home("other"))
    poll_until(
        lambda: [info.name for info in alpha.sees().values()] == ["alpha", f"alpha~{other.id[:4]}"], what="the younger is told apart"
    )
    assert alpha.json("node", "show", f"alpha~{other.id[:4]}")["id"] == other.id
    assert other.json("node", "show", "alpha")["id"] == alpha.id


# --- the home ---------------------------------------------------------------------------------------------------------------------


def test_a_home_keeps_its_secrets_to_itself(nodes: Nodes) -> None:
    node = nodes.up("alpha")
    node.run("agent", "run", f"{AGENTS}:Greeter").ok()
    modes = {path.relative_to(node.home): stat.S_IMODE(path.stat().st_mode) for path in node.home.rglob("*")}
    for path, mode in modes.items():
        if path.suffix == ".key" or path.name in ("token", "ready.json", "lock", "node.sock"):
            assert mode & 0o077 == 0, f"{path} is {mode:04o}"
    assert stat.S_IMODE(node.home.stat().st_mode) == 0o700
    assert modes[Path("run")] == 0o700
    left = (node.home / "run" / "ready.json").read_text()
    assert node.ready["token"] not in left
    assert "skerry1" not in left


def test_a_second_node_on_the_same_home_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    nodes.spawn("up", *on_loopback("x", ()), name="x", home=alpha.home).wait_refused(1, str(alpha.home), "skerry down")
    nodes.spawn("join", nodes.up("other").ready["ticket"], *on_loopback("x", ()), name="x", home=alpha.home).wait_refused(
        1, str(alpha.home)
    )
    assert alpha.status().id == alpha.id


def test_a_home_of_a_killed_node_is_free_again(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    alpha.kill()
    alpha.run("status").refused(3, "no node runs")
    assert alpha.again().id == alpha.id


def test_a_secret_that_others_can_read_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    agent = alpha.json("agent", "run", f"{AGENTS}:Greeter")["id"]
    assert alpha.end() == 0
    for file in ("node.key", "root.key", f"agent-{agent}.key", "token"):
        secret = alpha.home / file
        secret.chmod(0o644)
        nodes.spawn("up", *on_loopback("alpha", ()), name="alpha", home=alpha.home).wait_refused(1, str(secret), "0644", "chmod 600")
        secret.chmod(0o600)
    assert alpha.again().id == alpha.id


def test_a_damaged_key_is_refused_and_never_made_anew(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    assert alpha.end() == 0
    key = alpha.home / "node.key"
    whole = key.read_text()
    key.write_text(whole[:20])
    nodes.spawn("up", *on_loopback("alpha", ()), name="alpha", home=alpha.home).wait_refused(1, str(key), "backup")
    assert key.read_text() == whole[:20]
    key.write_text(whole)
    assert alpha.again().id == alpha.id


def test_a_home_that_can_not_be_made_is_refused(nodes: Nodes) -> None:
    file = nodes.file("file", "I am no folder")
    nodes.spawn("up", *on_loopback("n", ()), name="n", home=file).wait_refused(1, str(file))
    nodes.spawn("up", *on_loopback("n", ()), name="n", home=file / "below").wait_refused(1, str(file / "below"))


def test_a_damaged_database_is_refused_and_left_alone(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    assert alpha.end() == 0
    database = alpha.home / "skerry.db"
    for left in alpha.home.glob("skerry.db-*"):
        left.unlink()
    damaged = b"no database at all, but long enough to be read as one" * 100
    database.write_bytes(damaged)
    nodes.spawn("up", *on_loopback("alpha", ()), name="alpha", home=alpha.home).wait_refused(1, str(database))
    assert database.read_bytes() == damaged


def test_a_home_with_a_long_path_works(nodes: Nodes) -> None:
    home = nodes.home("long" * 20) / ("deep" * 20)
    node = nodes.up("alpha", home=home)
    path = Path(node.ready["socket"])
    assert not path.is_relative_to(home), "too long for a socket"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert node.status().id == node.id
    assert node.end() == 0
    assert not path.exists()


# --- ports ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["--listen", "--http"])
def test_a_port_in_use_is_refused_by_its_number(nodes: Nodes, door: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        nodes.spawn("up", *on_loopback("n", (door, address)), name="n").wait_refused(1, address, "in use", "port 0")
    node = nodes.up("n", door, address)
    assert address in (node.listen, node.ready["http"])


# --- signals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_in_order(nodes: Nodes, number: signal.Signals) -> None:
    node = nodes.up("alpha")
    node.run("agent", "run", f"{AGENTS}:Greeter").ok()
    node.process.send_signal(number)
    assert node.process.wait(10) == 0
    assert not Path(node.ready["socket"]).exists()
    assert "stops with 0 greeted" in (node.home / "logs" / "greeter.log").read_text()
    assert "Traceback" not in node.err.read_text()


def test_a_node_is_ready_at_any_moment_it_is_killed(nodes: Nodes) -> None:
    """Killed somewhere in its first start, it starts as the same node of the same formation."""
    home = nodes.home("alpha")
    first = nodes.spawn("up", *on_loopback("alpha", ()), name="alpha", home=home)
    poll_until((home / "node.key").exists, what="its key is there")
    first.kill()
    key = (home / "node.key").read_bytes()
    node = nodes.up("alpha", home=home)
    assert (home / "node.key").read_bytes() == key
    assert node.status().role == "operator"


# --- a full disk ------------------------------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """A disk of that size, where this machine lets us mount one."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("a small disk can be mounted by root only")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size_kib}k", "none", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """Take all that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_on_a_full_disk_the_node_refuses_serves_on_and_loses_nothing(nodes: Nodes) -> None:
    with _small_disk(nodes.home("disk"), 4096) as disk:
        node = nodes.up("alpha", home=disk / "home")
        node.run("agent", "run", f"{AGENTS}:Greeter").ok()
        node.run("agent", "run", f"{AGENTS}:Who").ok()
        ballast = _fill(disk)
        node.run("agent", "run", f"{AGENTS}:Large").refused(1, "disk is full", "space")
        node.run("node", "invite").refused(1, "disk is full")
        assert node.call("custom:who") == "who", "it serves on"
        node.run("call", "custom:greet", '"Ada"').refused(1, "disk is full")  # its state could not be kept
        assert [agent["name"] for agent in node.json("agent", "list")["agents"]] == ["greeter", "who"]
        node.kill()
        ballast.unlink()
        again = node.again()
        assert again.id == node.id
        again.wait_offered("custom:greet")
        assert again.call("custom:greet", "Ada") == "Hello, Ada!"
        again.run("agent", "run", f"{AGENTS}:Large").ok()
        assert again.invite()
        assert again.end() == 0


def test_a_node_does_not_start_on_a_full_disk_and_says_so(nodes: Nodes) -> None:
    with _small_disk(nodes.home("disk"), 512) as disk:
        _fill(disk)
        nodes.spawn("up", *on_loopback("n", ()), name="n", home=disk / "home").wait_refused(1, "disk", str(disk))


def test_a_file_that_grows_too_large_is_refused(nodes: Nodes) -> None:
    """Where nobody may mount: a process that may not write files over 1 MiB."""
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed")
    large = nodes.file("large.onnx", bytes(2 * 1024 * 1024))
    spawned = nodes.spawn("up", *on_loopback("alpha", ()), name="alpha", prefix=(prlimit, "--fsize=1048576"))
    node = spawned.wait_ready()
    refused = node.run("agent", "run", str(large))
    assert refused.code == 1, refused
    refused.refused(1, "large")
    assert node.status().id == node.id


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_a_node_says_while_it_starts_is_one_line_of_json(nodes: Nodes) -> None:
    node = nodes.up("alpha")
    assert json.loads(node.out.read_text()) == node.ready
    assert all(json.loads(line)["level"] == "info" for line in node.err.read_text().splitlines())


def test_the_token_is_kept(nodes: Nodes) -> None:
    node = nodes.up("alpha")
    url = f"http://{node.ready['http']}/v1/models"
    assert httpx.get(url, headers={"authorization": f"Bearer {node.ready['token']}"}, trust_env=False).status_code == 200
    for header in ({}, {"authorization": "Bearer wrong"}):
        refused = httpx.get(url, headers=header, trust_env=False)
        assert refused.status_code == 401
        assert "token" in refused.json()["error"]["message"]
    assert node.end() == 0
    assert node.again().ready["token"] == node.ready["token"]
