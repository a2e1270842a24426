"""Who belongs to a formation, judged from signed bytes alone, beside the roster by which the nodes judge.

A grant counts where it leads to the root key in one step or two, was signed while its issuer's own grant held, and nobody who counts has
revoked its subject, revoked its issuer, or ended it by a departure.

The rule: written from the specification, not from the code; where the two differ, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

from skerry.errors import ProtocolError
from skerry.identity.grants import TOLERANCE_MS
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Statement, parse
from skerry.ports import Row

TRUSTED = ("grant", "revocation", "departure")


class Reader:
    """Parses each record once, whoever holds it."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, Statement | None] = {}

    def read(self, signed: bytes) -> Statement | None:
        if signed not in self._parsed:
            try:
                self._parsed[signed] = parse(signed)
            except ProtocolError:
                self._parsed[signed] = None
        return self._parsed[signed]


class Chains:
    """The grants, revocations and departures that somebody holds."""

    def __init__(self, rows: Iterable[Row], *, formation: bytes, reader: Reader) -> None:
        self._formation = formation
        self._reader = reader
        self._said: dict[tuple[str, bytes], list[Statement]] = {}  # by kind and subject
        self._inside: list[Statement] | None = None
        for row in rows:
            statement = reader.read(row.signed)
            subject = statement.body.get("subject") if statement is not None else None
            if statement is not None and statement.formation == formation and isinstance(subject, bytes):
                self._said.setdefault((statement.kind, subject), []).append(statement)

    def subjects(self) -> list[bytes]:
        return [subject for kind, subject in self._said if kind == "grant"]

    def grants(self, subject: bytes) -> list[Statement]:
        """Those that count, whatever the time is; an operator's is also known by those that it signed."""
        if self.is_revoked(subject):
            return []
        inside = [link for link in self._links() if link.body.get("subject") == subject]
        return [grant for grant in [*self._said.get(("grant", subject), []), *inside] if self._counts(grant) and not self._ended(grant)]

    def is_revoked(self, subject: bytes) -> bool:
        """By the root key, or by somebody who was an operator then, where it is none itself."""
        return any(
            said.author == self._formation
            or (self._was_operator(said.author, stamp_ms(said.stamp)) and not self._was_operator(subject, None))
            for said in self._said.get(("revocation", subject), [])
        )

    def _counts(self, grant: Statement) -> bool:
        """Whether it leads to the root key."""
        role, chain = grant.body.get("role"), grant.body.get("chain")
        if grant.author == self._formation:
            return bool(role == "operator" and chain == [])
        issuer = self._reader.read(chain[0]) if isinstance(chain, list) and len(chain) == 1 else None
        if issuer is None or role not in ("member", "client"):
            return False
        is_operators = (
            issuer.kind == "grant"
            and issuer.author == issuer.formation == self._formation
            and issuer.body.get("subject") == grant.author
            and issuer.body.get("role") == "operator"
        )
        signed_ms = stamp_ms(grant.stamp)
        held = stamp_ms(issuer.stamp) - TOLERANCE_MS <= signed_ms <= issuer.expires + TOLERANCE_MS
        return is_operators and held and not self.is_revoked(grant.author) and not self._had_left(grant.author, issuer.stamp, grant.stamp)

    def _had_left(self, issuer: bytes, granted: int, signed: int) -> bool:
        """Whether an operator's grant was over when it signed something."""
        return any(granted <= said.stamp < signed for said in self._departures(issuer))

    def _ended(self, grant: Statement) -> bool:
        subject = grant.body["subject"]
        return any(grant.stamp <= said.stamp for said in self._departures(subject))

    def _departures(self, subject: bytes) -> list[Statement]:
        return [
            said
            for said in self._said.get(("departure", subject), [])
            if said.author in (subject, self._formation)
            or (self._was_operator(said.author, stamp_ms(said.stamp)) and not self._was_operator(subject, None))
        ]

    def _was_operator(self, node: bytes, at_ms: int | None) -> bool:
        """Whether the root key made it one, and it was one at that time."""
        made = [grant for grant in self._said.get(("grant", node), []) if grant.author == self._formation]
        made += [link for link in self._links() if link.body.get("subject") == node]
        if not any(grant.body.get("role") == "operator" for grant in made):
            return False
        if at_ms is None:
            return True
        revoked = [said for said in self._said.get(("revocation", node), []) if said.author == self._formation]
        in_time = any(at_ms <= grant.expires + TOLERANCE_MS for grant in made)
        return in_time and all(at_ms <= stamp_ms(said.stamp) for said in revoked)

    def _links(self) -> list[Statement]:
        """The operators' grants that travel inside those of members."""
        if self._inside is None:
            chains = [said.body.get("chain") for (kind, _), held in self._said.items() if kind == "grant" for said in held]
            links = {link: None for chain in chains if isinstance(chain, list) for link in chain if isinstance(link, bytes)}
            read = [self._reader.read(link) for link in links]
            self._inside = [one for one in read if one is not None and one.kind == "grant" and one.author == self._formation]
        return self._inside
