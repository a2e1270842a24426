"""Which records two nodes compare follows from the records alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Refused
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.identity.statement import Audience, is_for_all
from skerry.ports import Row
from skerry.records.holdings import BUILD_ROWS, Holdings, minute
from skerry.records.items import END, START, item_of
from tests.support.formation import CLIENT, DAY_MS, MEMBER, NOW_MS, OPERATOR, operator_grant
from tests.support.replicas import Home, said

NOW = minute(NOW_MS)


class Compared:
    """A home whose rows are followed from the start."""

    def __init__(self) -> None:
        self.home = Home()
        self.holdings = Holdings(self.home.store, ours=OPERATOR.public, now_ms=NOW_MS)
        self.home.replica.watch_rows(self.holdings.changed)
        self.home.takes(operator_grant())
        assert self.holdings.build()

    def shared(self, peer: bytes = MEMBER.public, *, as_of_ms: int = NOW) -> set[bytes]:
        return set(self.holdings.view(peer, as_of_ms=as_of_ms, now_ms=NOW_MS).between(START, END))

    def stored(self) -> set[bytes]:
        return {item_of(row.stamp, row.hash) for row in self.home.store.since(0, 1000)}


def test_what_comes_goes_and_is_replaced_is_followed() -> None:
    compared = Compared()
    compared.home.takes(said(name="a"), said(name="b"), said(name="b", counter=1), said(name="a", counter=2, body={}))
    assert compared.shared() == compared.stored()
    assert len(compared.shared()) == 3


def test_built_from_the_store_it_is_the_same() -> None:
    compared = Compared()
    for number in range(60):
        compared.home.takes(said(name=str(number)), said(MEMBER, name=str(number), audience=(OPERATOR.public,)))
    anew = Holdings(compared.home.store, ours=OPERATOR.public, now_ms=NOW_MS)
    assert anew.build()
    for peer in (MEMBER.public, CLIENT.public):
        view = anew.view(peer, as_of_ms=NOW, now_ms=NOW_MS)
        assert set(view.between(START, END)) == compared.shared(peer)


def test_a_large_store_is_read_in_slices_and_nobody_is_answered_before() -> None:
    home = Home()
    for number in range(2 * BUILD_ROWS):
        home.store.put(Row(OPERATOR.public, "agent", str(number), number, NOW_MS * 2, bytes(32), said().signed))
    holdings = Holdings(home.store, ours=OPERATOR.public, now_ms=NOW_MS)
    with pytest.raises(Refused, match="still reads"):
        holdings.view(MEMBER.public, as_of_ms=NOW, now_ms=NOW_MS)
    while not holdings.build():
        pass
    assert len(holdings.view(MEMBER.public, as_of_ms=NOW, now_ms=NOW_MS)) == 2 * BUILD_ROWS


def test_a_record_that_names_nodes_is_shared_with_those_alone() -> None:
    compared = Compared()
    before = compared.shared()
    compared.home.takes(said(MEMBER, name="wire", audience=(OPERATOR.public,)), said(name="other", audience=(CLIENT.public,)))
    assert len(compared.shared(MEMBER.public) - before) == 1
    assert len(compared.shared(CLIENT.public) - before) == 1
    assert compared.shared(MEMBER.public) != compared.shared(CLIENT.public)
    compared.home.takes(said(MEMBER, name="wire", counter=1))
    assert len(compared.shared(CLIENT.public) - before) == 2, "now it is for all"


def test_a_record_leaves_the_set_when_its_time_is_over_and_comes_back_for_who_is_behind() -> None:
    compared = Compared()
    always = compared.shared()
    compared.home.takes(said(name="short", expires=NOW + 60_000))
    assert len(compared.shared()) == len(always) + 1
    assert compared.shared(as_of_ms=NOW + 60_000) == always
    assert len(compared.shared(as_of_ms=NOW)) == len(always) + 1
    compared.home.takes(said(name="short", counter=1, expires=NOW + DAY_MS))
    assert len(compared.shared(as_of_ms=NOW + 60_000)) == len(always) + 1
    with pytest.raises(Refused, match="as_of_ms"):
        compared.shared(as_of_ms=NOW + AHEAD_MS_MAX + 60_000)


def test_what_the_disk_lost_is_not_in_the_set() -> None:
    compared = Compared()
    compared.home.store.commit()
    before = compared.shared()
    compared.home.takes(said(name="lost"))
    compared.home.disk.is_full = True
    with pytest.raises(Exception, match="full"):
        compared.home.store.commit()
    compared.home.disk.is_full = False
    assert compared.shared() == before == compared.stored()


AUDIENCES: st.SearchStrategy[Audience] = st.sampled_from(["formation", "contacts", "public"]) | st.lists(
    st.sampled_from([OPERATOR.public, bytes(13) + b"haudienceiformation", b"\x58\x20" * 16, bytes(14) + b"haudiencehcontacts"]),
    min_size=1,
    max_size=3,
).map(tuple)


@given(audience=AUDIENCES, expires=st.integers(0, 2**53), body=st.dictionaries(st.text(max_size=4), st.binary(max_size=60), max_size=2))
def test_the_audience_is_read_off_the_end(audience: Audience, expires: int, body: dict[str, bytes]) -> None:
    assert is_for_all(said(audience=audience, expires=expires, body=body).signed) == isinstance(audience, str)
