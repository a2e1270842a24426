"""`skerry wire`: which agents know each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption

if TYPE_CHECKING:
    from skerry.wiring.verbs import WireInfo

app = typer.Typer(
    help="Standing links between agents: each may write to the other, also across formations.", no_args_is_help=True, rich_markup_mode=None
)

AgentArgument = Annotated[str, typer.Argument(help="An agent of the node.", metavar="AGENT")]
PeerArgument = Annotated[str, typer.Argument(help="[CONTACT/][NODE/]AGENT.", metavar="PEER")]


@app.command()
def add(
    agent: AgentArgument, peer: PeerArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Wire two agents. It stands through restarts of either, until one side takes it away."""
    from skerry.cli.ask import ask
    from skerry.wiring.verbs import WireAddRequest, WireInfo

    _print(ask(home, "wire.add", WireAddRequest(agent, peer), WireInfo, node=node), output, "is wired to")


@app.command()
def remove(
    agent: AgentArgument, peer: PeerArgument, node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Take a wire away, on both sides."""
    from skerry.cli.ask import ask
    from skerry.wiring.verbs import WireAddRequest, WireInfo

    _print(ask(home, "wire.remove", WireAddRequest(agent, peer), WireInfo, node=node), output, "is no more wired to")


@app.command("list")
def list_(node: NodeOption = None, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """The wires of the node's agents, and whether they stand."""
    from skerry.cli.ask import ask
    from skerry.cli.output import print_many
    from skerry.node.verbs import Nothing
    from skerry.wiring.verbs import WireList

    wires = ask(home, "wire.list", Nothing(), WireList, node=node).wires
    rows = [(info.agent, info.peer, info.state, info.detail) for info in wires]
    print_many(wires, output, columns=("AGENT", "PEER", "STATE", ""), rows=rows, name="wires")


def _print(info: WireInfo, output: Output, verb: str) -> None:
    from skerry.cli.output import print_json

    print(f"{info.agent} {verb} {info.peer}") if output is Output.TABLE else print_json(info)
