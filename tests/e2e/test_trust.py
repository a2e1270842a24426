"""Who belongs: tickets and what can be wrong with them, roles, revocation, leaving, the root key's backup."""

from __future__ import annotations

import json
import shutil
import stat
import time
from pathlib import Path

from skerry.identity.ticket import Ticket, parse_ticket
from tests.support import poll_until
from tests.support.nodes import Node, Nodes, Ran, on_loopback

AGENTS = Path(__file__).with_name("agents.py")


def _try_join(nodes: Nodes, ticket: str, home: Path | None = None) -> Node:
    return nodes.spawn("join", ticket, *on_loopback("newcomer", ()), name="newcomer", home=home)


# --- tickets ----------------------------------------------------------------------------------------------------------------------


def test_a_spent_ticket_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    ticket = alpha.invite("--uses", "2")
    nodes.join("beta", ticket)
    nodes.join("gamma", ticket)
    _try_join(nodes, ticket, nodes.home("delta")).wait_refused(1, "ticket_spent", "2 use", "skerry node invite")
    assert sorted(info.name for info in alpha.sees().values()) == ["alpha", "beta", "gamma"]


def test_an_expired_ticket_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    made = alpha.json("node", "invite", "--ttl", "1s")
    poll_until(lambda: time.time() * 1000 > made["expires_at"] + 10, what="the ticket is over")
    _try_join(nodes, made["ticket"]).wait_refused(1, "ticket_expired", "skerry node invite")


def test_an_altered_ticket_is_refused_before_anything_is_dialled(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    ticket = alpha.ready["ticket"]
    other = "a" if ticket[40] != "a" else "b"
    for wrong, word in [
        (ticket[:40] + other + ticket[41:], "altered"),
        (ticket[:-6], "ticket"),
        (ticket + "aaaaaaaa", "ticket"),
        ("skerry1", "ticket"),
        ("skerry1!!!!", "characters"),
        ("hello", "'skerry1'"),
        ("skerry1" + "a" * 5000, "ticket"),
    ]:
        ran = nodes.run("join", wrong, *on_loopback("n", ()), "--home", str(nodes.home("n")))
        ran.refused(1, "bad_ticket", word)
    assert not nodes.home("n").exists(), "a home was made for nothing"
    wrapped = f"  {ticket[:30]}\n{ticket[30:].upper()}  "
    nodes.join("beta", wrapped)


def test_a_ticket_that_its_inviter_does_not_know_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    told = parse_ticket(alpha.ready["ticket"])
    invented = str(Ticket(told.formation, told.inviter, told.addresses, bytes(16)))
    _try_join(nodes, invented).wait_refused(1, "ticket_unknown")


def test_a_peer_with_another_key_than_the_ticket_names_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    ticket = alpha.ready["ticket"]
    alpha.kill()
    mallory = nodes.up("mallory", "--listen", alpha.listen)
    _try_join(nodes, ticket).wait_refused(1, "wrong_identity", alpha.id[:10], mallory.id[:10])
    assert len(mallory.sees()) == 1


def test_an_inviter_that_is_away_is_unreachable(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    alpha.kill()
    _try_join(nodes, alpha.ready["ticket"]).wait_refused(3, alpha.id[:10], alpha.listen, "is its node up")


def test_a_ticket_of_another_formation_with_the_same_inviters_address_is_refused(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    told = parse_ticket(alpha.ready["ticket"])
    crossed = str(Ticket(bytes(31) + b"\x01", told.inviter, told.addresses, told.secret))
    refused = _try_join(nodes, crossed).wait_refused(1)
    assert refused.json["error"]["code"] in ("not_granted", "wrong_identity", "bad_ticket")


def test_a_join_repeated_by_the_same_home_gets_the_same_grant(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    ticket = alpha.ready["ticket"]
    beta = nodes.join("beta", ticket)
    before = beta.json("node", "show", beta.id)
    beta.kill()
    again = nodes.join("beta", ticket, home=beta.home)  # as it stands in somebody's shell history
    assert again.id == beta.id
    again.kill()
    for left in beta.home.glob("skerry.db*"):  # as if it had crashed before it wrote down that it had joined
        left.unlink()
    third = nodes.join("beta", ticket, home=beta.home)
    after = third.json("node", "show", third.id)
    assert (after["id"], after["grant_expires_at"]) == (before["id"], before["grant_expires_at"])
    _try_join(nodes, ticket, nodes.home("gamma")).wait_refused(1, "ticket_spent")


# --- rights -----------------------------------------------------------------------------------------------------------------------


def test_a_member_may_not_invite_or_revoke(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    for command in (["node", "invite"], ["node", "revoke", "gamma", "--yes"], ["node", "revoke", "alpha", "--yes"]):
        ran = beta.run(*command, "-o", "json")
        ran.refused(1, "not_granted", "operator" if "alpha" not in command else "root key")
        beta.run(*command).refused(1)
    assert gamma.id in {i for i, info in alpha.sees().items() if info.state == "valid"}


def test_an_operator_may_invite_members_but_not_operators(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    beta = nodes.join("beta", alpha.invite("--role", "operator"))
    assert beta.status().role == "operator"
    assert beta.ready["ticket"].startswith("skerry1")
    gamma = nodes.join("gamma", beta.ready["ticket"])
    gamma.wait_linked(alpha, beta)
    assert alpha.json("node", "show", gamma.id)["granted_by"] == beta.id
    assert alpha.json("node", "show", beta.id)["granted_by"] == "root"
    beta.run("node", "invite", "--role", "operator").refused(1, "root key", "formation restore")
    beta.run("node", "revoke", alpha.id, "--yes").refused(1, "root key")


# --- revocation -------------------------------------------------------------------------------------------------------------------


def test_a_revoked_node_is_cut_off_everywhere_and_told_why(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    gamma.run("agent", "run", f"{AGENTS}:Who").ok()
    beta.run("agent", "run", f"{AGENTS}:Greeter").ok()
    for node in (alpha, beta):
        node.wait_offered("custom:who")
    gamma.wait_offered("custom:greet")

    said = alpha.json("node", "revoke", "gamma", "--yes", "--reason", "its laptop was lost")
    assert (said["id"], said["name"], said["role"]) == (gamma.id, "gamma", "member")

    for node in (alpha, beta):
        _wait_revoked(node, gamma)
        assert "its laptop was lost" in node.json("node", "show", gamma.id)["reason"]
        assert "custom:who" not in node.status().capabilities
        node.run("call", "custom:who").refused(1, "nobody in this formation offers 'custom:who'")
        assert gamma.id not in {info["node"] for info in node.json("agent", "list")["agents"]}
    assert gamma.id in alpha.json("formation", "show")["revoked"]

    poll_until(lambda: not any(info.link == "up" for info in gamma.sees().values()), what="gamma is alone")
    status = poll_until(lambda: _warned(gamma, "revoked"), what="gamma knows why")
    assert "its laptop was lost" in status
    refused = gamma.run("call", "custom:greet", '"x"')
    assert refused.code in (1, 3)
    assert "Traceback" not in refused.err
    doctor = gamma.run("doctor")
    assert doctor.code == 1
    assert "revoked" in doctor.out
    assert "new home" in doctor.out.splitlines()[-1]

    alpha.run("node", "revoke", gamma.id, "--yes").refused(1, "revoked already")


def test_a_revoked_node_can_not_come_back_but_its_machine_can(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    alpha.run("node", "revoke", "beta", "--yes").ok()
    poll_until(lambda: _warned(beta, "revoked"), what="beta knows")
    assert beta.end() == 0
    again = beta.again()
    assert _warned(again, "revoked"), "it knows after a restart, too"
    assert alpha.sees()[beta.id].link != "up"
    assert again.end() == 0
    for left in beta.home.glob("skerry.db*"):  # a node that forgets what it was told
        left.unlink()
    _try_join(nodes, alpha.invite(), beta.home).wait_refused(1, "revoked", "new home")
    fresh = nodes.join("beta-again", alpha.invite())
    fresh.wait_linked(alpha)


def test_a_node_that_was_away_hears_of_a_revocation_when_it_is_back(nodes: Nodes) -> None:
    alpha, beta, gamma = nodes.mesh("alpha", "beta", "gamma")
    assert beta.end() == 0
    alpha.run("node", "revoke", "gamma", "--yes").ok()
    back = beta.again()
    _wait_revoked(back, gamma)


def test_revoking_an_operator_keeps_its_members(nodes: Nodes) -> None:
    alpha = nodes.up("alpha")
    beta = nodes.join("beta", alpha.invite("--role", "operator"))
    gamma = nodes.join("gamma", beta.invite())
    gamma.wait_linked(alpha, beta)
    poll_until(lambda: gamma.id in alpha.sees(), what="alpha knows gamma")
    said = alpha.json("node", "revoke", "beta", "--yes")
    assert (said["role"], said["voided"], said["reissued"]) == ("operator", [gamma.id], 1)
    poll_until(lambda: alpha.sees()[gamma.id].state == "valid" and alpha.sees()[gamma.id].link == "up", what="gamma stays")
    assert alpha.json("node", "show", gamma.id)["granted_by"] == alpha.id
    poll_until(lambda: gamma.status().role == "member" and gamma.status().state == "valid", what="gamma knows its new grant")


# --- leaving ----------------------------------------------------------------------------------------------------------------------


def test_a_home_that_has_a_formation_refuses_another_unless_it_leaves(nodes: Nodes) -> None:
    alpha, other = nodes.up("alpha"), nodes.up("other")
    other.run("agent", "run", f"{AGENTS}:Who").ok()
    formation = other.status().formation
    assert other.end() == 0
    _try_join(nodes, alpha.ready["ticket"], other.home).wait_refused(1, "has_formation", formation[:10], "--leave", "--home")
    still = other.again()
    assert still.status().formation == formation
    assert still.end() == 0
    moved = nodes.join("other", alpha.ready["ticket"], "--leave", home=other.home)
    assert moved.id == other.id
    moved.wait_linked(alpha)
    assert moved.status().formation == alpha.status().formation
    assert moved.status().role == "member"
    alpha.wait_offered("custom:who")
    kept = list(other.home.glob("root*"))
    assert len(kept) == 1, "the root key may be the only one there is"
    assert formation[:10] in kept[0].name


# --- the root key -----------------------------------------------------------------------------------------------------------------


def test_a_backup_is_secret_and_never_overwrites(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    file = nodes.folder / "root.json"
    assert alpha.json("formation", "backup", str(file)) == {"formation": alpha.status().formation, "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    alpha.run("formation", "backup", str(file)).refused(2, str(file), "not overwritten")
    assert file.read_bytes() == before
    beta.run("formation", "backup", str(nodes.folder / "b.json")).refused(1, "root key", "founding home")
    alpha.run("formation", "backup", str(nodes.folder / "no" / "such")).refused(1, "no/such")
    assert alpha.end() == 0
    alpha.run("formation", "backup", str(nodes.folder / "offline.json")).ok()
    assert json.loads((nodes.folder / "offline.json").read_text())["nodes"][beta.id] == [f"tcp://{beta.listen}"]


def test_a_backup_makes_a_new_home_an_operator_and_finds_the_others(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    file = nodes.folder / "root.json"
    alpha.run("formation", "backup", str(file)).ok()
    alpha.kill()
    shutil.rmtree(alpha.home)  # the founder's machine burnt down
    home = nodes.home("rebuilt")
    nodes.run("formation", "restore", str(file), "--home", str(home)).ok()
    rebuilt = nodes.up("rebuilt", home=home)
    rebuilt.wait_linked(beta)
    beta.wait_linked(rebuilt)
    assert rebuilt.status().role == "operator"
    assert rebuilt.json("formation", "show")["founder_home"] is True
    nodes.join("gamma", rebuilt.invite("--role", "operator")).wait_linked(beta, rebuilt)
    rebuilt.run("node", "revoke", alpha.id, "--yes").ok()
    poll_until(lambda: beta.sees()[alpha.id].state == "revoked", what="beta believes the restored root key")


def test_a_backup_makes_a_running_member_an_operator(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    file = nodes.folder / "root.json"
    alpha.run("formation", "backup", str(file)).ok()
    beta.run("formation", "restore", str(file)).ok()
    assert beta.status().role == "operator"
    nodes.join("gamma", beta.invite("--role", "operator")).wait_linked(alpha)
    assert alpha.sees()[beta.id].role == "operator"


def test_a_file_that_is_no_backup_is_refused(nodes: Nodes) -> None:
    alpha, stranger = nodes.up("alpha"), nodes.up("stranger")
    home = str(nodes.home("new"))
    file = nodes.folder / "root.json"
    alpha.run("formation", "backup", str(file)).ok()

    def restore(path: Path) -> Ran:
        return nodes.run("formation", "restore", str(path), "--home", home)

    restore(nodes.folder / "nothing").refused(1, "does not exist")
    for content in (b"", b"{}", b"[1]", b"\xff\xfe", b'{"root_key": 1, "formation": 2}'):
        wrong = nodes.file("wrong.json", content)
        wrong.chmod(0o600)
        restore(wrong).refused(2, str(wrong), "formation backup")
    body = json.loads(file.read_text())
    damaged = nodes.file("damaged.json", json.dumps(body | {"root_key": "00" * 32}))
    damaged.chmod(0o600)
    restore(damaged).refused(2, "damaged")
    file.chmod(0o644)
    restore(file).refused(1, "others can read", "chmod 600")
    file.chmod(0o600)
    assert not Path(home).exists()
    stranger.run("formation", "restore", str(file)).refused(1, alpha.status().formation[:10], stranger.status().formation[:10])
    assert stranger.end() == 0
    nodes.run("formation", "restore", str(file), "--home", str(stranger.home)).refused(1, "formation", "--home")


def _wait_revoked(node: Node, revoked: Node) -> None:
    """Until `node` knows of it and has cut the link."""

    def cut() -> bool:
        seen = node.sees()[revoked.id]
        return seen.state == "revoked" and seen.link != "up"

    poll_until(cut, what=f"{node.name} cuts {revoked.name} off")


def _warned(node: Node, word: str) -> str:
    """The node's warning that has that word; "" where there is none."""
    return next((warning for warning in node.status().warnings if word in warning), "")
