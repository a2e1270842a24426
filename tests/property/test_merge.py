"""The merge of records: in whatever order and however often they come, every replica ends with the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.identity.statement import Statement
from skerry.records.record import wins
from tests.support.formation import CLIENT, MEMBER, NOW_MS, OPERATOR, member_grant, operator_grant, revocation
from tests.support.replicas import Home, said

RECORDS = st.builds(
    lambda author, kind, name, at_ms, x, gone: said(
        author, kind=kind, name="node" if kind == "node" else name, at_ms=NOW_MS + at_ms, body={} if gone else {"x": x}
    ),
    st.sampled_from([OPERATOR, MEMBER]),
    st.sampled_from(["node", "agent"]),
    st.sampled_from(["one", "two"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
TRUST = st.sampled_from(
    [operator_grant(), operator_grant(at_ms=NOW_MS + 1), member_grant(), revocation(MEMBER), revocation(CLIENT, by=OPERATOR)]
)
HISTORIES = st.lists(RECORDS | TRUST, max_size=12)


def after(*histories: list[Statement]) -> Home:
    home = Home()
    for history in histories:
        home.takes(*history)
    return home


@given(history=HISTORIES, data=st.data())
def test_the_order_does_not_matter(history: list[Statement], data: st.DataObject) -> None:
    assert after(history).holds() == after(data.draw(st.permutations(history))).holds()


@given(history=HISTORIES)
def test_twice_is_once(history: list[Statement]) -> None:
    once = after(history)
    twice = after(history, history, history[::-1])
    assert once.holds() == twice.holds()
    assert len(twice.heard) == len(once.heard), "what is known is not told again"


@given(first=HISTORIES, second=HISTORIES, third=HISTORIES)
def test_it_does_not_matter_who_merged_with_whom_first(first: list[Statement], second: list[Statement], third: list[Statement]) -> None:
    def pulled(into: Home, other: Home) -> Home:
        for *_, signed in other.holds():
            into.replica.ingest(signed, now_ms=NOW_MS)
        return into

    left = pulled(pulled(after(first), after(second)), after(third))
    right = pulled(after(first), pulled(after(second), after(third)))
    other = pulled(pulled(after(third), after(first)), after(second))
    assert left.holds() == right.holds() == other.holds()


@given(a=RECORDS, b=RECORDS)
def test_of_two_records_exactly_one_wins(a: Statement, b: Statement) -> None:
    assert wins(a, b.stamp, b.hash) + wins(b, a.stamp, a.hash) == (a.hash != b.hash)
    assert not wins(a, a.stamp, a.hash)


@given(history=HISTORIES)
def test_two_that_pull_from_each_other_are_equal(history: list[Statement]) -> None:
    half = len(history) // 2
    left, right = after(history[:half]), after(history[half:])
    for one, other in ((left, right), (right, left)):
        cursor, more = "", True
        while more:
            records, cursor, more = other.replica.page(cursor, reader=OPERATOR.public, limit=3)
            for signed in records:
                one.replica.ingest(signed, now_ms=NOW_MS)
    assert left.holds() == right.holds()
