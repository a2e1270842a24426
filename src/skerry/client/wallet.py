"""What a program that calls with a ticket keeps: its key, its grant, and where the nodes are. One 0600 file for each ticket.

The file lies in the home's `clients/` folder under a name made of the ticket, so that the same ticket, used again by the same user on this
machine, is the same client. Elsewhere, a ticket that is spent stays spent: the key is not in the ticket.

The rule: the key is on the disk before the ticket is shown, so that a join that was cut is repeated and not lost.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from skerry.errors import Code, StorageError
from skerry.identity.keys import KEY_BYTES, KeyPair
from skerry.identity.ticket import Ticket
from skerry.node.home import read_secret, write_secret

FOLDER = "clients"
KIND = "skerry client"
VERSION = 1
NAME_BYTES = 16
RECORDS_MAX = 400  # of the formation's nodes: some 200 to try, and half a megabyte
_DOMAIN = b"skerry/client/1:"


@dataclass(frozen=True, slots=True)
class Contents:
    """`grant` is empty before the join; `records` are signed records of the formation; `refreshed_ms`: when they were last asked for."""

    key: KeyPair
    grant: bytes = b""
    records: tuple[bytes, ...] = field(default=(), repr=False)
    refreshed_ms: int = 0


class Wallet:
    """The file of one ticket."""

    def __init__(self, home: Path, ticket: Ticket) -> None:
        self.path = home / FOLDER / f"{blake3(_DOMAIN + ticket.secret).digest()[:NAME_BYTES].hex()}.json"

    def open(self) -> Contents:
        """What is in it; a new key where there is none yet. Of two programs that start at once one makes it, and both use it."""
        if not self.path.exists():
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{self.path.parent}: {error.strerror}", hint="name another home with SKERRY_HOME") from error
            fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}-{os.urandom(4).hex()}")
            write_secret(fresh, _text(Contents(KeyPair.from_seed(os.urandom(KEY_BYTES)))))
            try:
                os.link(fresh, self.path)
            except FileExistsError:
                pass  # another program was first: its key is the one
            finally:
                fresh.unlink()
        return self._read()

    def save(self, *, grant: bytes | None = None, records: list[bytes] | None = None, refreshed_ms: int | None = None) -> None:
        """Change what is given; the rest stays as other programs may have left it."""
        contents = self._read()
        if grant is not None:
            contents = replace(contents, grant=grant)
        if records is not None:
            contents = replace(contents, records=tuple(records[:RECORDS_MAX]))
        if refreshed_ms is not None:
            contents = replace(contents, refreshed_ms=refreshed_ms)
        write_secret(self.path, _text(contents))

    def _read(self) -> Contents:
        try:
            value = json.loads(read_secret(self.path))
            if value["kind"] != KIND or value["version"] != VERSION:
                raise ValueError(f"it is of kind {value['kind']!r}, version {value['version']!r}")
            records = tuple(base64.b64decode(record, validate=True) for record in value["records"])
            key = KeyPair.from_seed(bytes.fromhex(value["key"]))
            return Contents(key, base64.b64decode(value["grant"], validate=True), records, int(value["refreshed_ms"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
            raise StorageError(
                f"{self.path} can't be read as a client's file ({error})",
                code=Code.BAD_HOME,
                hint="remove it, and use a new ticket: `skerry node invite --role client`",
            ) from None


def _text(contents: Contents) -> str:
    return json.dumps(
        {
            "kind": KIND,
            "version": VERSION,
            "key": contents.key.seed.hex(),
            "grant": base64.b64encode(contents.grant).decode(),
            "records": [base64.b64encode(record).decode() for record in contents.records],
            "refreshed_ms": contents.refreshed_ms,
        }
    )
