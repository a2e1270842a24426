"""Letters between real processes: order, once in the state, killed workers and killed nodes on either side."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.support import poll_until
from tests.support.nodes import Node, Nodes

DESKS = Path(__file__).with_name("desks.py")


def _send(node: Node, to: str, content: Any, *options: str) -> dict[str, str]:
    said: dict[str, str] = json.loads(node.run("send", to, json.dumps(content), "-o", "json", *options).ok().out)
    return said


def _agent(node: Node, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = node.json("agent", "show", name)
    return shown


def _known(node: Node, name: str) -> None:
    poll_until(lambda: name in node.run("agent", "list").ok().out, what=f"{name} is known")


def _two(nodes: Nodes) -> tuple[Node, Node]:
    alpha, beta = nodes.mesh("alpha", "beta")
    alpha.run("agent", "run", f"{DESKS}:Book", "--name", "left").ok()
    beta.run("agent", "run", f"{DESKS}:Book", "--name", "right").ok()
    poll_until(
        lambda: "right" in alpha.run("agent", "list").ok().out and "left" in beta.run("agent", "list").ok().out, what="both are known"
    )
    return alpha, beta


def _heard(node: Node, name: str) -> Any:
    return node.call("custom:heard", agent=name)


def test_letters_arrive_in_order_by_one_session_and_replies_come_back(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    said = [_send(alpha, "right", number) for number in range(5)]
    assert len({one["session_id"] for one in said}) == 1
    assert len({one["id"] for one in said}) == 5
    poll_until(lambda: _heard(beta, "right") == [0, 1, 2, 3, 4], what="all were heard")
    assert alpha.call("custom:senders", agent="right") == ["alpha"] * 5
    alpha.call("custom:tell", ["beta/right", {"rally": 5}], agent="left")
    poll_until(lambda: {"rally": 0} in _heard(alpha, "left") + _heard(beta, "right"), what="the rally ended")
    assert _heard(alpha, "left") == [{"rally": 4}, {"rally": 2}, {"rally": 0}]
    assert beta.call("custom:senders", agent="left") == ["beta/right"] * 3
    alpha.run("send", "right", "plain text").ok()
    poll_until(lambda: _heard(beta, "right")[-1] == "plain text")


def test_who_is_unknown_takes_none_or_is_two_is_said(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    for node in (alpha, beta):
        node.run("agent", "run", f"{DESKS}:Book", "--name", "twice").ok()
    alpha.run("agent", "run", f"{DESKS}:Deaf", "--name", "deaf").ok()
    poll_until(lambda: alpha.run("agent", "list").ok().out.count("twice") == 2)
    alpha.run("send", "nobody", "hi").refused(1, "no agent 'nobody'")
    alpha.run("send", "gamma/twice", "hi").refused(1, "no contact 'gamma'")
    alpha.run("send", "a/b/c/d", "hi").refused(2, "no address")
    alpha.run("send", "twice", "hi").refused(1, "beta/twice")
    alpha.run("send", "twice", "x" * 50_000).refused(1, "at most")
    alpha.run("send", "deaf", "hi").refused(1, "takes no letters")
    assert _send(alpha, "beta/twice", "hi")["session_id"]


def test_a_handler_that_raises_changes_nothing_and_holds_nobody_up(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    for content in ("before", "raise", "after"):
        _send(alpha, "right", content)
    poll_until(lambda: _heard(beta, "right") == ["before", "after"], what="the others were heard, once")
    assert "this one can't be handled" in beta.run("agent", "logs", "right").ok().out
    alpha.run("call", "custom:tell-and-fail", '["right", "never"]', "--agent", "left").refused(1, "after it sent")
    _send(alpha, "right", "last")
    poll_until(lambda: _heard(beta, "right")[-1] == "last")
    assert "never" not in _heard(beta, "right")


def test_a_letter_that_kills_its_agent_is_put_aside_and_the_others_count_once(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    for content in (1, 2, "die", 3, 4):
        _send(alpha, "right", content)
    poll_until(
        lambda: _agent(beta, "right")["status"] == "available" and _heard(beta, "right") == [1, 2, 3, 4], 60.0, what="all others were heard"
    )


def test_whatever_is_killed_each_letter_counts_once(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    wanted: list[int] = []

    def send(some: range) -> None:
        alpha.call("custom:tell", ["right", *some], agent="left")
        wanted.extend(some)

    send(range(200))
    os.kill(_agent(beta, "right")["pid"], signal.SIGKILL)  # the receiver's worker
    send(range(200, 400))
    beta.kill()  # the receiver's node
    send(range(400, 600))
    alpha.kill()  # the sender's node: what it said it holds, it holds
    alpha = alpha.again()
    beta = beta.again()
    for node in (alpha, beta):
        node.wait_offered("custom:heard")
    poll_until(lambda: len(_heard(beta, "right")) >= 600, 60.0, what="all were heard")
    send(range(600, 650))
    poll_until(lambda: _heard(beta, "right") == wanted, 20.0, what="each once, in order")


def test_what_is_on_its_way_to_a_node_that_is_away_waits_for_it(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    assert beta.end() == 0
    said = _send(alpha, "beta/right", "while you were away")
    assert said["session_id"]
    beta = beta.again()
    beta.wait_offered("custom:heard")
    poll_until(lambda: _heard(beta, "right") == ["while you were away"], 30.0)


def test_an_urgent_letter_overtakes(nodes: Nodes) -> None:
    (alpha,) = nodes.mesh("alpha")
    alpha.run("agent", "run", f"{DESKS}:Slow", "--name", "slow").ok()
    alpha.run("agent", "run", f"{DESKS}:Book", "--name", "left").ok()
    alpha.call("custom:tell", ["slow", *range(150)], agent="left")
    _send(alpha, "slow", "now", "--interrupt")
    poll_until(lambda: "now" in alpha.call("custom:slowly", agent="slow"), 30.0)
    assert alpha.call("custom:slowly", agent="slow").index("now") < 140


def test_what_can_not_be_delivered_or_handled_is_seen_tried_again_and_dropped(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    assert alpha.json("letter", "list") == {"letters": [], "waiting": 0, "aside": 0}
    _send(alpha, "right", "raise")
    _send(alpha, "right", {"fine": 1})
    poll_until(lambda: _heard(beta, "right") == [{"fine": 1}])
    (failed,) = beta.json("letter", "list")["letters"]
    assert (failed["sender"], failed["to"], failed["state"]) == ("alpha", "beta/right", "failed")
    assert "can't be handled" in failed["reason"]
    assert "1 letter was put aside" in beta.run("status").ok().out
    assert "1 put aside" in beta.run("agent", "show", "right").ok().out
    assert "1 put aside" in beta.run("agent", "list").ok().out
    assert "raise" in alpha.run("letter", "show", failed["id"], "--node", "beta").ok().out
    assert beta.json("letter", "show", failed["id"])["content"] == "raise"
    beta.kill()
    beta = beta.again()
    beta.wait_offered("custom:heard")
    assert beta.json("letter", "list")["letters"] == [failed]
    beta.run("letter", "retry", failed["id"]).ok()
    poll_until(lambda: [one["state"] for one in beta.json("letter", "list")["letters"]] == ["failed"], what="it failed again")
    (again,) = beta.json("letter", "list")["letters"]
    assert again["id"] != failed["id"]
    assert again["sender"] == "alpha"
    beta.run("letter", "drop", failed["id"]).refused(1, "put aside")
    beta.run("letter", "drop").refused(2, "--all")
    assert "1 letter dropped" in beta.run("letter", "drop", "--all").ok().out
    assert beta.json("letter", "list")["letters"] == []
    assert "put aside" not in beta.run("status").ok().out
    _send(alpha, "right", "last")
    poll_until(lambda: _heard(beta, "right") == [{"fine": 1}, "last"], what="what its sender counts goes on")


def test_what_waits_for_a_node_that_is_away_is_seen_with_the_reason(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    assert beta.end() == 0
    _send(alpha, "beta/right", "one")
    _send(alpha, "beta/right", "two")
    poll_until(lambda: all(one["reason"] for one in alpha.json("letter", "list")["letters"]), what="the carrier knows why")
    waiting = alpha.json("letter", "list")
    assert (waiting["waiting"], waiting["aside"]) == (2, 0)
    assert [(one["to"], one["state"]) for one in waiting["letters"]] == [("beta/right", "waiting")] * 2
    assert alpha.json("letter", "show", waiting["letters"][0]["id"])["content"] == "one"
    assert "2 waiting" in alpha.run("agent", "show", "right").ok().out
    alpha.run("letter", "drop", waiting["letters"][0]["id"]).refused(1, "put aside")
    beta = beta.again()
    beta.wait_offered("custom:heard")
    poll_until(lambda: alpha.json("letter", "list")["letters"] == [], 30.0)


def test_an_agent_of_another_node_that_takes_no_letters_is_not_written_to(nodes: Nodes) -> None:
    alpha, beta = _two(nodes)
    assert "takes letters" in beta.run("agent", "run", f"{DESKS}:Silent").ok().out
    beta.run("agent", "run", f"{DESKS}:Deaf", "--name", "deaf").ok()
    _known(alpha, "deaf")
    alpha.run("send", "beta/deaf", "hi").refused(1, "'beta/deaf' takes no letters", "skerry call")
    alpha.run("call", "custom:tell", '["deaf", "hi"]', "--agent", "left").refused(1, "takes no letters")
    assert alpha.call("custom:deaf-tells", ["left", {"echo": "heard"}]), "it sends all the same"
    poll_until(lambda: {"echo": "heard"} in _heard(alpha, "left"))
    assert "takes no letters: the reply" in poll_until(lambda: alpha.run("agent", "logs", "left").ok().out)
    assert alpha.json("letter", "list")["letters"] == []


def test_a_line_from_standard_input_is_the_line(nodes: Nodes) -> None:
    (alpha,) = nodes.mesh("alpha")
    alpha.run("agent", "run", f"{DESKS}:Book", "--name", "left").ok()
    for text in ("plain\n", '{"a": 1}\n', "two\nlines\n\n"):
        alpha.run("send", "left", "-", stdin=text).ok()
    poll_until(lambda: _heard(alpha, "left") == ["plain", {"a": 1}, "two\nlines\n"])


def test_the_page_on_letters_says_what_is_so(nodes: Nodes) -> None:
    """Its agent, and its commands as they stand there."""
    (alpha,) = nodes.mesh("alpha")
    page = (Path(__file__).parents[2] / "docs" / "wiring.md").read_text().splitlines()
    start = page.index("    # desk.py")
    end = next(number for number, line in enumerate(page[start:], start) if line.startswith("    skerry "))
    nodes.file("desk.py", "\n".join(line[4:] for line in page[start:end]))
    commands = [line.split("#")[0].split()[1:] for line in page[end : end + 3]]
    assert [command[0] for command in commands] == ["agent", "send", "agent"]
    run, send, logs = commands
    assert alpha.run(*run).ok().out == "desk runs on alpha and takes letters\n"
    alpha.run(*send[:-1], send[-1].strip('"')).ok()
    log = poll_until(lambda: out if "dropped" in (out := alpha.run(*logs).ok().out) else "")
    assert "alpha says 'hello' (" in log


def test_a_letter_whose_handler_lacks_another_agent_waits_for_it(nodes: Nodes) -> None:
    """As after a restart of the node, where the agent is back before the model that it asks."""
    alpha, beta = _two(nodes)
    _send(alpha, "right", {"ask": "custom:deaf-tells"})
    _send(alpha, "right", "after it")
    tried = "nobody in this formation offers 'custom:deaf-tells'"
    poll_until(lambda: beta.run("agent", "logs", "right").ok().out.count(tried) > 4, 30.0, what="it was tried more often than three times")
    assert beta.json("letter", "list")["aside"] == 0
    assert "Traceback" not in beta.run("agent", "logs", "right").ok().out
    alpha.run("agent", "run", f"{DESKS}:Deaf", "--name", "deaf").ok()
    poll_until(lambda: len(_heard(beta, "right")) == 2, 30.0)
    assert _heard(beta, "right")[1] == "after it"
    poll_until(lambda: _heard(alpha, "left") == ["asked"])
