"""`skerry agent run`: host something; in the foreground and anew at each change, while it is being written.

The rule: everything that the node can't see from where it is (relative paths, files on this machine) is made whole here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.options import HomeOption, NodeOption, Output, OutputOption, mebibytes
from skerry.errors import Code, SkerryError, UsageError

if TYPE_CHECKING:
    from skerry.agents.verbs import AgentInfo, AgentRunRequest
    from skerry.client.mesh import Mesh

RUN_TIMEOUT_S = 150.0  # the node gives up after 120 s
INSTALL_TIMEOUT_S = 750.0  # the same where requirements are installed
LOOK_S = 0.3  # how often --foreground looks at the log, and --reload at the files


def run(
    target: Annotated[str, typer.Argument(help="FILE.py:Class, MODEL.onnx, MODEL.gguf, or openai+http://HOST:PORT/v1")],
    capability: Annotated[list[str] | None, typer.Option("--capability", help="What it offers; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its name.", show_default="class or file stem, in lower case")] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="tokenizer.json, so that an embedding model takes text.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of an OpenAI-compatible server: only this model.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="Of a server that wants a key: a 0600 file that holds it.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Of a Python agent: store this folder with it, for its modules.")] = None,
    requirements: Annotated[
        Path | None, typer.Option("--requirements", help="A requirements file: installed for this agent alone.")
    ] = None,
    env_file: Annotated[Path | None, typer.Option("--env-file", help="KEY=VALUE lines for its environment; kept, never shown.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for the agent's `self.settings`; may be repeated.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Tasks at once, streams included.", min=1)] = 1,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="For its card, to be found by; may be repeated.")] = None,
    skills: Annotated[list[str] | None, typer.Option("--skill", help="For its card, to be found by; may be repeated.")] = None,
    description: Annotated[str, typer.Option("--description", help="For its card.", show_default="what its code says")] = "",
    memory: Annotated[str | None, typer.Option("--memory", help="End it when it uses more: 512M, 2G.")] = None,
    share: Annotated[
        list[str] | None, typer.Option("--share", help="Give it to this contact, or to all: public. May be repeated.", metavar="CONTACT")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an agent of that name: same key, same state.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Show its log, and remove it at Ctrl-C.")] = False,
    reload: Annotated[bool, typer.Option("--reload", help="With --foreground: run it anew when its files change.")] = False,
    node: NodeOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Host an agent: copy its code or model, start it, wait until it is healthy. It comes back with its node."""
    from skerry.agents.about import About
    from skerry.agents.verbs import AgentInfo, AgentRunRequest
    from skerry.cli.ask import ask, with_mesh

    if reload and not foreground:
        raise UsageError("--reload goes with --foreground", hint="add --foreground")
    request = AgentRunRequest(
        target=_absolute(target),
        name=name or "",
        capabilities=capability or [],
        options=_options(model, tokenizer=tokenizer, api_key_file=api_key_file),
        folder=str(folder.expanduser().absolute()) if folder else "",
        requirements=_existing(requirements, "--requirements").read_text() if requirements else "",
        environment=_variables(_existing(env_file, "--env-file").read_text()) if env_file else {},
        settings=dict(_pair(text, "--set") for text in settings or []),
        concurrency=concurrency,
        memory_bytes=mebibytes(memory) if memory else 0,
        replace=replace,
        share=share or [],
        about=About(description=description, skills=tuple(skills or ()), tags=tuple(tags or ())),
    )
    timeout_s = INSTALL_TIMEOUT_S if request.target.rpartition(":")[0].endswith(".py") else RUN_TIMEOUT_S
    if foreground:
        with_mesh(home, lambda mesh: _foreground(mesh, request, node, reload, output, timeout_s))
        return
    info = ask(home, "agent.run", _for_node(request, node), AgentInfo, node=node, timeout_s=timeout_s)
    shared = f", shared with {', '.join(info.share)}" if info.share else ""
    print_agent(info, output, f"{info.name} runs on {info.node_name} and {_does(info)}{shared}")


def _does(info: AgentInfo) -> str:
    does = [f"offers {', '.join(info.capabilities)}"] if info.capabilities else []
    return " and ".join([*does, "takes letters"] if info.hears else does) or "offers nothing yet"


def _options(model: str | None, **files: Path | None) -> dict[str, Any]:
    """What a runtime is told; of the files their places."""
    given = {key: str(_existing(file, f"--{key.replace('_', '-')}")) for key, file in files.items() if file is not None}
    return {"model": model, **given} if model else dict(given)


def print_agent(info: AgentInfo, output: Output, text: str) -> None:
    from skerry.cli.output import print_json

    print(text, flush=True) if output is Output.TABLE else print_json(info)


async def _foreground(mesh: Mesh, request: AgentRunRequest, node: str | None, reload: bool, output: Output, timeout_s: float) -> None:
    """Run it, show its log, run it anew when its files change, remove it at the end."""
    import asyncio
    from dataclasses import replace

    from skerry.agents.verbs import AgentInfo, AgentName, LogsReply, LogsRequest
    from skerry.cli.ask import ask_mesh
    from skerry.cli.output import print_error

    async def start(asked: AgentRunRequest) -> AgentInfo:
        return await ask_mesh(mesh, "agent.run", _for_node(asked, node), AgentInfo, node=node, timeout_s=timeout_s)

    info = await start(request)
    print_agent(info, output, f"{info.name} runs on {info.node_name} and offers {', '.join(info.capabilities)}; Ctrl-C ends it")
    seen, cursor = _files(request), ""
    try:
        while True:
            reply = await ask_mesh(mesh, "agent.logs", LogsRequest(info.name, 20, cursor), LogsReply, node=node)
            cursor = reply.cursor
            if reply.text:
                print(reply.text, flush=True)
            now = _files(request) if reload else seen
            if now != seen:
                seen = now
                try:
                    info = await start(replace(request, name=info.name, replace=True))
                    print_agent(info, output, f"{info.name} runs anew and offers {', '.join(info.capabilities)}")
                except SkerryError as error:
                    print_error(error, as_json=output is not Output.TABLE)  # what ran before goes on
            await asyncio.sleep(LOOK_S)
    finally:
        await asyncio.shield(ask_mesh(mesh, "agent.remove", AgentName(info.name), AgentInfo, node=node))


def _files(request: AgentRunRequest) -> dict[str, int]:
    """The files that the agent is made of, with their times."""
    file = Path(request.target.rpartition(":")[0] or request.target)
    files = Path(request.folder).rglob("*.py") if request.folder else [file]
    return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}


def _for_node(request: AgentRunRequest, node: str | None) -> AgentRunRequest:
    if not node:
        return request
    from skerry.agents.shipment import ship

    return ship(request)


def _existing(file: Path, option: str) -> Path:
    path = file.expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"{file} does not exist", code=Code.BAD_INPUT, hint=f"give the file with {option}")
    return path


def _variables(text: str) -> dict[str, str]:
    """KEY=VALUE lines; empty ones and those that start with # are passed over, quotes around a value are taken off."""
    variables = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip().removeprefix("export ")
        if not bare or bare.startswith("#"):
            continue
        key, value = _pair(bare, f"line {number} of the --env-file")
        variables[key] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    return variables


def _pair(text: str, where: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{where} takes KEY=VALUE, not {key[:20]!r}", hint="write it with an equals sign")
    return key.strip(), value


def _absolute(target: str) -> str:
    """The node has another working folder: paths go to it whole."""
    if "://" in target:
        return target
    file, colon, entry = target.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{Path(file).expanduser().absolute()}:{entry}"
    return str(Path(target).expanduser().absolute())
