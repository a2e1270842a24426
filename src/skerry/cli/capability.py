"""`skerry capability`: list, show."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, TicketOption, WhereOption

app = typer.Typer(help="What the mesh can do.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_capabilities(
    query: Annotated[str, typer.Argument(help="A capability, or one that ends in '*'.")] = "*",
    where: WhereOption = None,
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Every capability, who offers it, how quickly it answered, how much it has to do, and what this node thinks of it."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.routing.task import read_where
    from skerry.routing.verbs import CapabilityList, CapabilityQuery

    found = ask(home, "capability.list", CapabilityQuery(query, read_where(where or [])), CapabilityList, ticket=ticket).capabilities
    rows = [
        (
            c.capability,
            c.agent,
            c.node_name,
            "up" if c.reachable else "down",
            f"{c.latency_ms:.1f} ms" if c.latency_ms is not None else "-",
            str(c.load),
            "blacklisted" if c.blacklisted else f"{c.reputation:.2f}",
            ", ".join(f"{k}={v}" for k, v in c.attributes.items()),
        )
        for c in found
    ]
    columns = ("CAPABILITY", "AGENT", "NODE", "LINK", "LATENCY", "LOAD", "REPUTATION", "ATTRIBUTES")
    print_many(found, output, columns=columns, rows=rows, name="capabilities")


@app.command()
def show(
    capability: Annotated[str, typer.Argument(help="A capability.")],
    home: HomeOption = None,
    ticket: TicketOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """One capability: who offers it, what it takes, and an example that works."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_one
    from skerry.routing.verbs import CapabilityList, CapabilityQuery

    found = ask(home, "capability.list", CapabilityQuery(capability), CapabilityList, ticket=ticket).capabilities
    first = found[0]
    shown: dict[str, Any] = {
        "capability": first.capability,
        "description": first.description,
        "idempotent": first.idempotent,
        "streams": first.streams,
        "payload": first.payload,
        "result": first.result,
        "example": first.example,
        "attributes": first.attributes,
        "providers": found,
    }
    rows = (
        ("capability", first.capability),
        ("description", first.description),
        ("offered by", "\n".join(f"{c.agent} on {c.node_name}" + ("" if c.reachable else " (down)") for c in found)),
        ("again", "may be done twice (idempotent)" if first.idempotent else "is done at most once"),
        ("streams", "yes" if first.streams else "no"),
        ("takes", _pretty(first.payload) if first.payload is not None else "any value"),
        ("gives", _pretty(first.result) if first.result is not None else "any value"),
        ("example", f"skerry call {first.capability} {_quoted(first.example)}" if first.example is not None else ""),
        ("attributes", ", ".join(f"{k}={v}" for k, v in first.attributes.items())),
    )
    print_one(shown, output, rows=rows)


def _pretty(value: Any) -> str:
    from skerry.cli.output import plain

    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def _quoted(example: Any) -> str:
    import shlex

    from skerry.cli.output import plain

    return shlex.quote(json.dumps(plain(example), ensure_ascii=False))
