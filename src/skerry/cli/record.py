"""`skerry record`: list, show, watch.

The rule: these commands look, and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption
from skerry.identity.keys import SHORT_CHARACTERS

if TYPE_CHECKING:
    from skerry.client.mesh import Mesh
    from skerry.records.verbs import RecordInfo, RecordQuery

LOOK_S = 0.3  # how often `watch` looks
COLUMNS = ("KIND", "NAME", "AUTHOR", "AUDIENCE", "SAID", "STANDS")
NAME_CHARACTERS = 32
app = typer.Typer(help="The records that a node holds: what nodes know of each other.", no_args_is_help=True, rich_markup_mode=None)
KindOption = Annotated[str, typer.Option("--kind", help="Only of this kind; may end in `*`.")]
AuthorOption = Annotated[str, typer.Option("--author", help="Only by this node: name, id, or the start of an id; `root` for the root key.")]
OutsideOption = Annotated[bool, typer.Option("--outside", help="Of other formations: contacts', and what is public.")]
NameOption = Annotated[str, typer.Option("--name", help="Only of this name; may end in `*`.")]


@app.command("list")
def list_records(
    kind: KindOption = "",
    author: AuthorOption = "",
    name: NameOption = "",
    outside: OutsideOption = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What a node holds of its formation (or of others: --outside), also what stands no more."""
    from skerry.cli.ask import with_mesh
    from skerry.cli.output import print_many
    from skerry.records.verbs import RecordQuery

    found: list[RecordInfo] = []
    with_mesh(home, lambda mesh: _pages(mesh, RecordQuery(kind, name, author, outside=outside), node, found.append))
    found.sort(key=lambda record: (record.formation if outside else "", record.kind, record.author_name, record.name))
    rows = [(record.formation[:SHORT_CHARACTERS], *_row(record)) if outside else _row(record) for record in found]
    print_many(found, output, columns=("FORMATION", *COLUMNS) if outside else COLUMNS, rows=rows, name="records")


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="Its kind: agent, node, grant ...")],
    name: Annotated[str, typer.Argument(help="Its name; an agent record's is the agent's id.")],
    author: AuthorOption = "",
    outside: OutsideOption = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """One record: who says it to whom, until when, and what it says."""
    from skerry.cli.ask import ask
    from skerry.cli.output import clock_time, print_one
    from skerry.records.verbs import RecordDetail, RecordName

    detail = ask(home, "record.show", RecordName(kind, name, author, outside), RecordDetail, node=node)
    record = detail.record
    rows = [
        ("kind", record.kind),
        ("name", record.name),
        ("author", f"{record.author_name} ({record.author})"),
        ("formation", record.formation),
        ("audience", "\n".join((record.audience, *record.nodes))),
        ("said", f"{clock_time(record.said_at)} (stamp {record.stamp})"),
        ("until", clock_time(record.expires_at) if record.expires_at < _NEVER else "for ever"),
        ("stands", record.stands),
        ("hash", record.hash),
        ("bytes", str(record.size_bytes)),
    ]
    rows += [(key, _text(value)) for key, value in (detail.card or detail.body).items()]
    print_one(detail, output, rows=rows)


@app.command()
def watch(
    kind: KindOption = "",
    author: AuthorOption = "",
    name: NameOption = "",
    outside: OutsideOption = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print every record as it arrives, until Ctrl-C."""
    import asyncio

    from skerry.cli.ask import ask_mesh, with_mesh
    from skerry.cli.output import clock_time, print_json
    from skerry.records.verbs import RecordList, RecordQuery

    def say(record: RecordInfo) -> None:
        if output is not Output.TABLE:
            print_json(record)
            return
        shown = f"{clock_time(record.said_at)}  {record.kind:<10} {_short(record.name):<{NAME_CHARACTERS}} {record.author_name:<16}"
        print(f"{shown} {record.stands}".rstrip(), flush=True)

    async def follow(mesh: Mesh) -> None:
        start = RecordQuery(kind, name, author, new=True, outside=outside)
        cursor = (await ask_mesh(mesh, "record.list", start, RecordList, node=node)).cursor
        while True:
            await asyncio.sleep(LOOK_S)
            cursor = await _pages(mesh, RecordQuery(kind, name, author, cursor, outside=outside), node, say)

    with_mesh(home, follow)


async def _pages(mesh: Mesh, query: RecordQuery, node: str | None, take: Callable[[RecordInfo], Any]) -> str:
    """Hand on everything from the query's cursor on; returns the cursor after it."""
    from dataclasses import replace

    from skerry.cli.ask import ask_mesh
    from skerry.records.verbs import RecordList

    while True:
        page = await ask_mesh(mesh, "record.list", query, RecordList, node=node)
        for record in page.records:
            take(record)
        if not page.more:
            return page.cursor
        query = replace(query, cursor=page.cursor)


def _row(record: RecordInfo) -> tuple[str, ...]:
    from skerry.cli.output import age

    audience = record.audience if not record.nodes else f"{len(record.nodes)} nodes"
    return (record.kind, _short(record.name), record.author_name, audience, f"{age(record.said_at)} ago", record.stands)


def _short(name: str) -> str:
    """A name as people need it: ids are long."""
    return name if len(name) <= NAME_CHARACTERS else f"{name[:10]}..."


def _text(value: Any) -> str:
    import json

    from skerry.cli.output import plain

    if isinstance(value, bytes):
        return value.hex() if len(value) <= _HEX_BYTES_MAX else f"{len(value)} bytes"
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


_HEX_BYTES_MAX = 64
_NEVER = 2**53
