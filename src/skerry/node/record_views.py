"""What `skerry record` shows: the records that this node holds, as they are held.

The rule: what is held is shown, also what says nothing here; whether it stands, and why not, is said beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Statement, parse_unverified
from skerry.node import views
from skerry.ports import Row
from skerry.records.abroad import Foreign
from skerry.records.card import card_in, card_to_json
from skerry.records.record import KINDS, expired
from skerry.records.replica import CURSOR_DIGITS_MAX
from skerry.records.verbs import RecordDetail, RecordInfo, RecordList, RecordName, RecordQuery

if TYPE_CHECKING:
    from skerry.node.node import Node

PAGE_RECORDS = 200
PAGE_ROWS_SCANNED = 2000  # 10 ms of the loop; what is filtered out costs a page of its own


async def listed(node: Node, request: RecordQuery, _: bytes) -> RecordList:
    """A page of what is held. Raises UsageError for a kind that there is not, Refused for an author whom nobody knows."""
    if not any(_matches(request.kind, known) for known in KINDS):
        raise UsageError(f"there are no records of kind {request.kind[:40]!r}", hint=f"there are {', '.join(KINDS)}")
    if request.outside and (request.new or "." in request.cursor):
        return _outside_since(node, request)
    if request.outside:
        return _outside(node, request)
    if request.new:
        return RecordList([], node.replica.cursor(), False)
    author = _author(node, request.author) if request.author else b""
    names = views.node_names(node)
    after = node.replica.place_of(request.cursor)
    rows = node.ports.store.since(after, PAGE_ROWS_SCANNED)
    found: list[RecordInfo] = []
    for row in rows:
        if len(found) == PAGE_RECORDS:
            break
        after = row.seq
        if _matches(request.kind, row.kind) and _matches(request.name, row.name) and author in (b"", row.author):
            found.append(_info(row, names, _stands(node, row)))
    more = len(found) == PAGE_RECORDS or len(rows) == PAGE_ROWS_SCANNED
    return RecordList(found, node.replica.cursor_at(after), more)


def _outside(node: Node, request: RecordQuery) -> RecordList:
    """What is held of the next formation that comes after the cursor, which is the id of one."""
    left = sorted((one for one in node.foreign_agents.formations() if one.formation.hex() > request.cursor), key=lambda one: one.formation)
    if not left:
        return RecordList([], request.cursor, False)
    now_ms = node.ports.clock.now_ms()
    rows = [row for row in left[0].rows() if _is_by(row, request.author, left[0])]
    found = [row for row in rows if _matches(request.kind, row.kind) and _matches(request.name, row.name)]
    infos = [_info(row, {}, _stands_outside(left[0], row, now_ms)) for row in found]
    return RecordList(infos, left[0].formation.hex(), len(left) > 1)


def _outside_since(node: Node, request: RecordQuery) -> RecordList:
    """What came of other formations after the cursor, `PLACE.PLACE`: in the order of the node's store, where contacts' lie, and in that of
    the memory, where strangers' do."""
    now_ms = node.ports.clock.now_ms()
    found: list[RecordInfo] = []
    cursor: list[int] = []
    more = False
    known = [int(text) if text.isascii() and text.isdigit() and len(text) <= CURSOR_DIGITS_MAX else 0 for text in request.cursor.split(".")]
    for number, held in enumerate(node.foreign_agents.places()):
        upto = max((foreign.last_seq() for foreign in held), default=0)
        after = upto if request.new or number >= len(known) or known[number] > upto else known[number]
        came = [(foreign, foreign.since(after, PAGE_RECORDS)) for foreign in held]
        cut = [rows[-1].seq for _, rows in came if len(rows) == PAGE_RECORDS]
        more = more or bool(cut)
        cursor.append(min(cut, default=upto))
        for foreign, rows in came:
            wanted = [row for row in rows if row.seq <= cursor[-1] and _is_by(row, request.author, foreign)]
            wanted = [row for row in wanted if _matches(request.kind, row.kind) and _matches(request.name, row.name)]
            found += [_info(row, {}, _stands_outside(foreign, row, now_ms)) for row in wanted]
    return RecordList(found, ".".join(map(str, cursor)), more)


def _is_by(row: Row, author: str, foreign: Foreign) -> bool:
    return row.author == foreign.formation if author == "root" else row.author.hex().startswith(author.lower())


def _stands_outside(foreign: Foreign, row: Row, now_ms: int) -> str:
    if row.tombstone or expired(row.expires, now_ms=now_ms):
        return "gone" if row.tombstone else "expired"
    believed = row.author == foreign.formation or foreign.belongs(row.author, now_ms=now_ms)
    return "yes" if believed else foreign.roster.standing(row.author, now_ms=now_ms).state.value


async def shown(node: Node, request: RecordName, _: bytes) -> RecordDetail:
    """One record. Raises Refused where there is none, or several authors have one of that name."""
    if request.outside:
        names: dict[bytes, str] = {}
        found = _held_outside(node, request)
    else:
        author = _author(node, request.author) if request.author else b""
        names = views.node_names(node)
        rows = [row for row in node.ports.store.of_kind(request.kind) if row.name == request.name and author in (b"", row.author)]
        found = [(row, _stands(node, row)) for row in rows]
    if not found:
        is_outside = not request.outside and _held_outside(node, request)
        hint = "another formation has one: --outside" if is_outside else f"`skerry record list{' --outside' * request.outside}` shows them"
        raise Refused(f"no {request.kind[:40]} record {request.name[:80]!r} is held here", code=Code.NOT_FOUND, hint=hint)
    if len(found) > 1:
        authors = ", ".join(names.get(row.author, row.author.hex()[:SHORT_CHARACTERS]) for row, _ in found[:10])
        raise Refused(
            f"{len(found)} nodes have a {request.kind} record {request.name[:80]!r}: {authors}",
            code=Code.CONFLICT,
            hint="choose with --author",
        )
    row, stands = found[0]
    statement = parse_unverified(row.signed)[0]
    return RecordDetail(_info(row, names, stands), statement.body, _card(statement), row.signed)


def _held_outside(node: Node, request: RecordName) -> list[tuple[Row, str]]:
    now_ms = node.ports.clock.now_ms()
    return [
        (row, _stands_outside(foreign, row, now_ms))
        for foreign in node.foreign_agents.formations()
        for row in foreign.rows()
        if (row.kind, row.name) == (request.kind, request.name) and _is_by(row, request.author, foreign)
    ]


def _info(row: Row, names: dict[bytes, str], stands: str) -> RecordInfo:
    statement = parse_unverified(row.signed)[0]
    named = statement.audience if isinstance(statement.audience, tuple) else ()
    return RecordInfo(
        kind=row.kind,
        name=row.name,
        author=row.author.hex(),
        author_name=names.get(row.author, "root" if row.author == statement.formation else row.author.hex()[:SHORT_CHARACTERS]),
        formation=statement.formation.hex(),
        audience="nodes" if named else str(statement.audience),
        nodes=[node_id.hex() for node_id in named],
        stamp=row.stamp,
        said_at=stamp_ms(row.stamp),
        expires_at=row.expires,
        size_bytes=len(row.signed),
        hash=row.hash.hex(),
        stands=stands,
    )


def _stands(node: Node, row: Row) -> str:
    if row.tombstone:
        return "gone"
    if expired(row.expires, now_ms=node.ports.clock.now_ms()):
        return "expired"
    standing = node.trust.standing(row.author)
    return "yes" if standing.belongs or row.author == node.formation else standing.state.value


def _card(statement: Statement) -> dict[str, object] | None:
    try:
        card = card_in(statement) if statement.kind == "agent" else None
    except SkerryError:
        return None
    return card_to_json(card) if card is not None else None


def _author(node: Node, text: str) -> bytes:
    if text == "root":
        return node.formation
    return bytes.fromhex(views.node_named(node, text).id)


def _matches(query: str, text: str) -> bool:
    return not query or (text.startswith(query[:-1]) if query.endswith("*") else text == query)
