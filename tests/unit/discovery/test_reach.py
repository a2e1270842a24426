"""Whether others can dial this node: whom it asks, what it makes of their answers, and where it is dialled on its word."""

from __future__ import annotations

from skerry.channel.address import Address
from skerry.discovery.reach import (
    ADDRESSES_MAX,
    AGAIN_S,
    ASKED_MAX,
    DOUBT_S,
    OUTBOUND_S,
    Reach,
    Verdict,
    judged,
    may_be_dialled,
    network_of,
    newly_found,
    whom_to_ask,
)

HOST = "127.0.0.9"
NODES = [bytes([number]) * 32 for number in range(10)]


def test_who_is_found_by_all_is_dialable_and_who_is_not_found_by_one_is_outbound() -> None:
    assert judged(Verdict(), [True, True]) == Verdict(Reach.DIALABLE)
    assert judged(Verdict(), [True, False]) == Verdict(Reach.OUTBOUND, 1)
    assert judged(Verdict(Reach.OUTBOUND, 7), [True]) == Verdict(Reach.DIALABLE)


def test_nobody_who_could_say_changes_nothing() -> None:
    for before in (Verdict(), Verdict(Reach.OUTBOUND, 3), Verdict(Reach.DIALABLE, 1)):
        assert judged(before, []) == before


def test_who_was_dialable_is_outbound_only_when_it_was_missed_three_times_running() -> None:
    doubted = judged(Verdict(Reach.DIALABLE), [True, False])
    assert (doubted.reach, doubted.again_s) == (Reach.DIALABLE, DOUBT_S), "one who asks may itself be cut off"
    assert judged(doubted, [True]) == Verdict(Reach.DIALABLE)
    again = judged(doubted, [False])
    assert (again.reach, again.again_s) == (Reach.DIALABLE, DOUBT_S)
    assert judged(again, [False]) == Verdict(Reach.OUTBOUND, 1)


def test_who_is_outbound_asks_again_soon_and_then_ever_later() -> None:
    verdict, waits = Verdict(), []
    for _ in range(20):
        verdict = judged(verdict, [False])
        waits.append(verdict.again_s)
    assert waits[0] == OUTBOUND_S
    assert waits == sorted(waits)
    assert waits[-1] == AGAIN_S == Verdict(Reach.DIALABLE).again_s


def test_one_of_each_network_is_asked_first() -> None:
    near = [(node, f"127.1.0.{number}") for number, node in enumerate(NODES[:8])]
    far = (NODES[8], "127.2.0.1")
    for fraction in (0.0, 0.3, 0.99):
        asked = whom_to_ask([*near, far], fraction=fraction)
        assert len(asked) == len(set(asked)) == ASKED_MAX
        assert NODES[8] in asked, "the only one that stands elsewhere"
    assert whom_to_ask(near[:1], fraction=0.5) == NODES[:1]
    assert whom_to_ask([], fraction=0.5) == []
    assert {whom_to_ask(near, fraction=number / 8)[0] for number in range(8)} == set(NODES[:8]), "and not always the same"


def test_hosts_of_one_provider_are_one_network() -> None:
    assert network_of("127.0.1.1") == network_of("127.0.200.1") != network_of("127.1.1.1")
    assert network_of("::ffff:127.0.1.1") == network_of("127.0.1.1")
    assert network_of("::1") != network_of("127.0.0.1")
    assert network_of("alpha") == "alpha"


def test_a_node_is_dialled_at_its_records_addresses_and_at_the_host_that_it_comes_from() -> None:
    own, elsewhere = "tcp://127.0.0.3:7420", "tcp://127.0.0.4:22"
    asked = [own, elsewhere, f"tcp://{HOST}:7420", "uds:///run/x.sock", "via:" + "0a" * 32, "nonsense", own]
    assert may_be_dialled(asked, announced={own}, host=HOST) == [own, f"tcp://{HOST}:7420"]
    assert may_be_dialled(["tcp://:1", f"tcp://{HOST}:1"], announced=set(), host="") == []
    many = [f"tcp://{HOST}:{port}" for port in range(1, 100)]
    assert len(may_be_dialled(many, announced=set(), host=HOST)) == ADDRESSES_MAX
    assert may_be_dialled(["uds:///run/x.sock"], announced={"uds:///run/x.sock"}, host=HOST) == [], "a file of this machine is nobody's way"


def test_where_somebody_says_that_it_found_us_is_believed_of_our_ports_at_places_that_others_can_dial() -> None:
    forwarded, ours = "tcp://router:7420", "tcp://router:7421"
    answered = [forwarded, ours, "tcp://router:22", "tcp://other:7420"]
    assert newly_found(answered, known={ours}, host="router", ports=[7420, 7421]) == [forwarded]
    assert newly_found(["tcp://beta:7420"], known=(), host="beta", ports=[7420]) == ["tcp://beta:7420"]
    for host in ("127.0.0.1", "::1", "0.0.0.0", "", "x" * 50_000, "a b", "a/b", "@", "." * 9, "a" * 64 + ".net", "v\n"):
        assert newly_found([str(Address("tcp", host, 7420))], known=(), host=host, ports=[7420]) == []
