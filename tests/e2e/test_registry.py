"""What people see of records and cards: `skerry agent list` with its filters, and `skerry record`."""

from __future__ import annotations

import json
import signal

import pytest

from skerry.identity.keytext import read_public_key
from skerry.records.card import card_from_json
from tests.support.nodes import Node, Nodes
from tests.support.polling import poll_until

GREETER = '''
from skerry import Agent, handles


class Greeter(Agent):
    """Says hello in Icelandic."""

    version = "2.1"
    tags = ("demo", "North")
    skills = ("small talk",)

    @handles("custom:greet", description="Greets somebody by name.")
    def greet(self, name: str) -> str:
        return f"Halló, {name}!"
'''
ADDER = GREETER.replace("Greeter", "Adder").replace("greet", "add").replace("Says hello in Icelandic.", "Adds.").replace("demo", "sums")


@pytest.fixture(scope="module")
def agents(world: Nodes) -> list[Node]:
    """alpha with a greeter, beta with an adder."""
    alpha, beta = world.mesh("alpha", "beta")
    alpha.run("agent", "run", f"{world.file('greeter.py', GREETER)}:Greeter", "--tag", "mine", "--skill", "waving").ok()
    beta.run("agent", "run", f"{world.file('adder.py', ADDER)}:Adder", "--description", "Sums up").ok()
    poll_until(lambda: all(len(node.json("agent", "list")["agents"]) == 2 for node in (alpha, beta)), what="both know both agents")
    return [alpha, beta]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {"greeter", "adder"}),
        (("--skill", "small talk"), {"greeter", "adder"}),
        (("--skill", "WAVING"), {"greeter"}),
        (("--skill", "add"), {"adder"}),
        (("--tag", "north"), {"greeter", "adder"}),
        (("--tag", "mine"), {"greeter"}),
        (("--tag", "python"), {"greeter", "adder"}),
        (("--capability", "custom:a*"), {"adder"}),
        (("--search", "icelandic hello"), {"greeter"}),
        (("--search", "sums up"), {"adder"}),
        (("--search", "icelandic", "--tag", "sums"), set()),
    ],
)
def test_agents_are_found_by_what_their_cards_say(agents: list[Node], options: tuple[str, ...], found: set[str]) -> None:
    for node in agents:
        assert {agent["name"] for agent in node.json("agent", "list", *options)["agents"]} == found


def test_a_query_that_is_none_is_refused(agents: list[Node]) -> None:
    agents[0].run("agent", "list", "--capability", "nonsense").refused(2, "nonsense")
    agents[0].run("agent", "list", "--search", "x" * 300, "-o", "json").refused(2, "words")


def test_the_other_node_shows_all_of_a_card(agents: list[Node]) -> None:
    alpha, beta = agents
    shown = beta.json("agent", "show", "greeter")
    assert shown["version"] == "2.1"
    assert shown["description"] == "Says hello in Icelandic."
    assert shown["tags"] == ["python", "demo", "North", "mine"]
    assert shown["skills"] == ["small talk", "waving", "greet"]
    assert shown["endpoint"] == f"skerry://{alpha.id}/greeter"
    text = beta.run("agent", "show", "greeter").ok().out
    assert "Says hello in Icelandic." in text
    assert "small talk, waving, greet" in text


def test_records_are_listed_by_kind_author_and_name(agents: list[Node]) -> None:
    alpha, beta = agents
    records = alpha.json("record", "list")["records"]
    assert {record["kind"] for record in records} == {"node", "grant", "agent"}
    assert all(record["stands"] == "yes" for record in records)
    assert {r["author_name"] for r in alpha.json("record", "list", "--kind", "agent")["records"]} == {"alpha", "beta"}
    assert [r["kind"] for r in alpha.run("record", "list", "--author", "beta", "-o", "jsonl").ok().lines] == ["agent", "node"]
    assert {r["kind"] for r in alpha.json("record", "list", "--author", "root")["records"]} == {"grant"}
    assert [r["name"] for r in alpha.json("record", "list", "--name", f"{beta.id[:12]}*")["records"]] == [beta.id]
    table = alpha.run("record", "list", "--kind", "a*").ok().out
    assert table.splitlines()[0].split() == ["KIND", "NAME", "AUTHOR", "AUDIENCE", "SAID", "STANDS"]


def test_one_record_is_shown_with_its_card(agents: list[Node]) -> None:
    alpha, beta = agents
    [record] = alpha.json("record", "list", "--kind", "agent", "--author", "alpha")["records"]
    shown = beta.json("record", "show", "agent", record["name"])
    assert shown["record"]["hash"] == record["hash"]
    card = card_from_json(shown["card"])
    assert card.name == "greeter"
    assert read_public_key(shown["card"]["public_key"]) == card.public_key
    text = beta.run("record", "show", "agent", record["name"]).ok().out
    assert f"skerry://{alpha.id}/greeter" in text
    assert "did:key:z6Mk" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("list", "--kind", "nonsense"), 2, ("nonsense", "agent")),
        (("list", "--author", "nobody"), 1, ("nobody", "alpha")),
        (("show", "agent", "nobody"), 1, ("nobody", "record list")),
        (("show", "node", "node"), 1, ("alpha", "beta", "--author")),
        (("watch", "--kind", "nonsense"), 2, ("nonsense",)),
    ],
)
def test_what_is_not_there_is_named(agents: list[Node], arguments: tuple[str, ...], code: int, words: tuple[str, ...]) -> None:
    agents[0].run("record", *arguments).refused(code, *words)


def test_watch_follows(agents: list[Node], world: Nodes) -> None:
    alpha, beta = agents
    watching = world.spawn("record", "watch", "--kind", "agent", "-o", "jsonl", name="watch", home=alpha.home)
    try:

        def seen() -> str:
            beta.run("agent", "pause", "adder").ok()
            beta.run("agent", "resume", "adder").ok()
            return watching.out.read_text()

        poll_until(seen, what="the watch shows what changed")
        first = json.loads(watching.out.read_text().splitlines()[0])
        assert (first["kind"], first["author_name"], first["stands"]) == ("agent", "beta", "yes")
    finally:
        watching.process.send_signal(signal.SIGINT)
        watching.process.wait(10)
        world.all.remove(watching)
