"""What a program that calls with a ticket keeps on the disk."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skerry.client.wallet import RECORDS_MAX, Wallet
from skerry.errors import Code, StorageError
from skerry.identity.ticket import Ticket
from tests.support.formation import FORMATION, OPERATOR

TICKET = Ticket(FORMATION, OPERATOR.public, ("tcp://127.0.0.1:7420",), bytes(range(16)))


def test_the_same_ticket_has_the_same_key_and_another_one_another(tmp_path: Path) -> None:
    first = Wallet(tmp_path, TICKET).open()
    assert Wallet(tmp_path, TICKET).open().key == first.key
    other = Wallet(tmp_path, Ticket(FORMATION, OPERATOR.public, TICKET.addresses, bytes(16))).open()
    assert other.key != first.key


def test_it_is_for_its_owner_alone_and_its_name_says_nothing(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path, TICKET)
    wallet.open()
    assert stat.S_IMODE(wallet.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(wallet.path.parent.stat().st_mode) == 0o700
    assert TICKET.secret.hex() not in wallet.path.name + wallet.path.read_text()
    assert [path.name for path in wallet.path.parent.iterdir()] == [wallet.path.name], "nothing else is left there"
    wallet.path.chmod(0o644)
    with pytest.raises(StorageError) as refused:
        wallet.open()
    assert refused.value.code == Code.UNSAFE_FILE


def test_many_programs_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: Wallet(tmp_path, TICKET).open().key.public, range(32)))
    assert len(set(keys)) == 1


def test_what_is_saved_is_there_and_the_rest_stays(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path, TICKET)
    key = wallet.open().key
    wallet.save(grant=b"grant")
    Wallet(tmp_path, TICKET).save(records=[b"one", b"two"], refreshed_ms=7)
    contents = wallet.open()
    assert (contents.key, contents.grant, contents.records, contents.refreshed_ms) == (key, b"grant", (b"one", b"two"), 7)
    wallet.save(records=[b"x"] * (RECORDS_MAX + 5))
    assert len(wallet.open().records) == RECORDS_MAX


@pytest.mark.parametrize(
    "text", ["", "{}", '{"kind": "skerry client", "version": 2}', '{"kind": "skerry client", "version": 1, "key": "zz"}']
)
def test_a_damaged_file_is_named_and_never_made_anew(tmp_path: Path, text: str) -> None:
    wallet = Wallet(tmp_path, TICKET)
    wallet.open()
    wallet.path.write_text(text)
    with pytest.raises(StorageError) as refused:
        wallet.open()
    assert refused.value.code == Code.BAD_HOME
    assert str(wallet.path) in refused.value.message
    assert wallet.path.read_text() == text
