"""Federation over HTTP between real nodes: the public listener, seeds, and what stays closed."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.records.pulling import PATH, FederationManager
from skerry.records.registry import AgentRegistry
from tests.support.nodes import Node, Nodes
from tests.support.polling import poll_until

AGENTS = Path(__file__).with_name("agents.py")
LIGHT = """
import sys
import skerry.cli.serve
print(sorted({"fastapi", "starlette", "uvicorn", "h11", "httpx", "httpcore"} & set(sys.modules)))
"""


def get(url: str, **options: Any) -> httpx.Response:
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    return httpx.get(url, trust_env=False, verify=unchecked, **options)


@pytest.mark.parametrize(("public", "scheme"), [("127.0.0.1:0", "http"), ("https://127.0.0.1:0", "https"), ("http://localhost:0", "http")])
def test_the_ready_line_says_where_strangers_may_ask(nodes: Nodes, public: str, scheme: str) -> None:
    alpha = nodes.up("alpha", "--public", public)
    url = str(alpha.ready["public"])
    assert url.startswith(f"{scheme}://127.0.0.1:")
    answer = get(url + PATH)
    assert answer.status_code == 200
    assert answer.json()["records"] == []
    for path in ("/v1/models", "/metrics", "/healthz", "/readyz", "/"):
        assert get(url + path, headers={"authorization": f"Bearer {alpha.ready['token']}"}).status_code == 404
    assert "public" not in nodes.up("beta").ready


async def test_its_certificate_is_the_nodes_own(nodes: Nodes) -> None:
    alpha = nodes.up("alpha", "--public", "https://127.0.0.1:0")
    place = str(alpha.ready["public"]).removeprefix("https://")
    right, wrong = f"{alpha.id}@{place}", f"{'ab' * 32}@{place}"
    report = await FederationManager(AgentRegistry(), seeds=[right, wrong]).sync_from_seeds()
    assert report.pulled == [right]
    assert "another key" in report.failed[wrong]


def test_a_seed_that_is_down_is_a_warning_and_the_node_serves(nodes: Nodes) -> None:
    alpha = nodes.up("alpha", "--public", "127.0.0.1:0")
    nodes.environment["SKERRY_SEEDS"] = f"{alpha.id}@{alpha.ready['public'].removeprefix('http://')}, {'ab' * 32}@127.0.0.1:1"
    beta = nodes.up("beta")
    poll_until(lambda: "no records from" in log_of(beta), what="the dead seed is named in the log")
    assert alpha.id not in log_of(beta), "the one that is up is no warning"
    assert beta.json("status")["name"] == "beta"


def test_two_formations_share_one_agent_over_http_and_a_stranger_gets_nothing(nodes: Nodes) -> None:
    """alpha gives one of its agents to xi's formation and one to all; xi knows alpha by its public listener alone."""
    alpha, xi = nodes.up("alpha", "--public", "https://127.0.0.1:0"), nodes.up("xi")
    url = f"https://{alpha.id}@{str(alpha.ready['public']).removeprefix('https://')}"
    ours, theirs = (node.json("formation", "show")["id"] for node in (xi, alpha))
    alpha.run("contact", "add", "xis", "--formation", ours, "--allow", "federate", "--allow", "call:*").ok()
    alpha.run("agent", "run", f"{AGENTS}:Greeter", "--share", "xis").ok()
    alpha.run("agent", "run", f"{AGENTS}:Who", "--name", "private").ok()
    xi.run("contact", "add", "alphas", url, "--formation", theirs).ok()

    def known(node: Node, *options: str) -> list[tuple[str, str]]:
        return [(a["contact"], a["name"]) for a in node.json("agent", "list", *options)["agents"]]

    poll_until(lambda: known(xi) == [("alphas", "greeter")], 15.0, what="xi sees what alpha shares with it")
    assert "https" in xi.json("contact", "show", "alphas")["link"]
    assert "dial us" in alpha.json("contact", "show", "xis")["link"]
    assert get(str(alpha.ready["public"]) + PATH).json()["agents"] == [], "a plain client is a stranger"
    nodes.environment["SKERRY_SEEDS"] = url
    psi = nodes.up("psi")
    alpha.run("agent", "run", f"{AGENTS}:Quick", "--name", "open", "--share", "public").ok()
    assert [a["name"] for a in get(str(alpha.ready["public"]) + PATH).json()["agents"]] == ["open"]
    assert psi.end() == 0
    psi = psi.again()
    poll_until(lambda: known(psi, "--public") == [("", "open")], 15.0, what="psi sees what is public, and nothing else")
    assert known(psi) == []
    assert theirs[:10] in psi.run("agent", "list", "--public").ok().out
    assert psi.json("agent", "show", f"{theirs[:10]}/open")["formation"] == theirs
    [record] = psi.json("record", "list", "--outside", "--kind", "agent")["records"]
    assert (record["audience"], record["formation"], record["author"], record["stands"]) == ("public", theirs, alpha.id, "yes")
    shown = psi.json("record", "show", "agent", record["name"], "--outside", "--author", alpha.id[:8])
    assert (shown["record"], shown["card"]["name"]) == (record, "open")
    psi.run("record", "show", "agent", record["name"]).refused(1, "--outside")
    psi.run("record", "show", "agent", record["name"], "--outside", "--author", "root").refused(1, "record list --outside")
    assert {r["kind"] for r in xi.json("record", "list", "--outside")["records"]} == {"agent", "grant"}
    assert psi.json("record", "list", "--outside", "--author", "root")["records"][0]["kind"] == "grant"
    xi.run("call", "custom:greet", '"Ada"', "--reach", "contacts").refused(3, "alphas", "contact add", "tcp://")
    assert xi.json("contact", "add", "alphas", url, f"tcp://{alpha.listen}")["id"] == theirs, "what is not given stays as it is"
    assert xi.run("call", "custom:greet", '"Ada"', "--reach", "contacts").ok().out == "Hello, Ada!\n"


def log_of(node: Node) -> str:
    return (node.home / "logs" / "node.log").read_text()


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (("--public", "http://0.0.0.0:0"), {}, ("--public", "in clear")),
        (("--public", "ftp://127.0.0.1:0"), {}, ("--public", "scheme")),
        (("--public", "127.0.0.1:x"), {}, ("--public", "port")),
        (("--public", "https://a..b:0"), {}, ("--public", "a..b")),
        ((), {"SKERRY_SEEDS": "https://a..b"}, ("SKERRY_SEEDS", "its host")),
        ((), {"SKERRY_SEEDS": "nonsense"}, ("SKERRY_SEEDS", "nonsense", "no scheme and no id")),
        ((), {"SKERRY_SEEDS": "http://seed.example"}, ("SKERRY_SEEDS", "in clear")),
        ((), {"SKERRY_SEEDS": "me@host:1"}, ("SKERRY_SEEDS", "its id")),
        ((), {"SKERRY_FEDERATION_ALSO_DIAL": "home"}, ("SKERRY_FEDERATION_ALSO_DIAL", "home", "network")),
        ((), {"SKERRY_PUBLIC_URL": "http://mesh.example"}, ("SKERRY_PUBLIC_URL", "in clear")),
    ],
)
def test_what_is_no_place_keeps_the_node_from_starting(
    nodes: Nodes, options: tuple[str, ...], environment: dict[str, str], words: tuple[str, ...]
) -> None:
    nodes.environment.update(environment)
    nodes.run("up", "--home", str(nodes.home("x")), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *options).refused(2, *words)


def test_what_was_chosen_is_shown(nodes: Nodes) -> None:
    home = nodes.home("x")
    home.mkdir()
    (home / "config.toml").write_text('seeds = ["https://seed.example"]\n[federation]\nalso_dial = ["127.0.0.0/8"]\n')
    settings = {one["name"]: one["value"] for one in nodes.run("config", "show", "--home", str(home), "-o", "json").ok().json["settings"]}
    assert (settings["seeds"], settings["federation.also_dial"]) == (["https://seed.example"], ["127.0.0.0/8"])
    assert '["https://seed.example"]' in nodes.run("config", "show", "--home", str(home)).ok().out


def test_a_port_in_use_is_named(nodes: Nodes) -> None:
    alpha = nodes.up("alpha", "--public", "127.0.0.1:0")
    place = str(alpha.ready["public"]).removeprefix("http://")
    beta = nodes.spawn("up", "--public", place, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", name="beta")
    beta.wait_refused(1, place, "in use")


def test_a_node_without_it_loads_nothing_that_http_needs() -> None:
    answer = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=50, check=False)
    assert answer.stdout.strip() == "[]", answer.stderr
