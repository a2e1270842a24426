"""`skerry service`: have the operating system run the node: systemd on Linux, launchd on macOS.

`install` writes one file and says which commands load it; with `--now` it runs them. A service prints neither ticket nor token: its stdout
is no terminal, and it is never started with `-o json`.

The rule: what the file says is made by a plain function, so that tests can have it checked without touching the system's own services.
"""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, home_of
from skerry.errors import Code, Refused, UsageError

app = typer.Typer(help="The node as a service of this machine.", no_args_is_help=True, rich_markup_mode=None)

START_S = 120  # until a node that joins says that it is ready; a slow disk and a far inviter counted
STOP_S = 30  # agents get 3 s to stop, answers under way 1 s; the rest is for a machine that is busy
RESTART_S = 2
COMMAND_TIMEOUT_S = 60.0
NAME = "skerry"

SystemOption = Annotated[bool, typer.Option("--system", help="For the whole machine, started at boot; needs root.")]
UserOption = Annotated[str, typer.Option("--user", help="With --system: the account that the node runs as.", show_default="yours")]
AsOption = Annotated[str, typer.Option("--as", help="Its name, where one machine runs several nodes.")]
NowOption = Annotated[bool, typer.Option("--now", help="Load it now too; without it the commands are shown.")]


@dataclass(frozen=True, slots=True)
class Service:
    """One service: where its file lies, what stands in it, and the commands that load and unload it."""

    file: Path
    text: str
    load: tuple[tuple[str, ...], ...]
    unload: tuple[tuple[str, ...], ...]


def systemd_unit(command: list[str], home: Path, *, user: str, system: bool) -> str:
    """The unit's text. Ready means READY=1 from the node itself, so that what is ordered after it finds its doors open."""
    account = f"User={user}\n" if system else ""
    return f"""[Unit]
Description=Skerry node ({_no_specifiers(str(home))})
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(map(_quoted, command))}
{account}WorkingDirectory=/
UMask=0077
KillMode=mixed
Restart=on-failure
RestartSec={RESTART_S}
TimeoutStartSec={START_S}
TimeoutStopSec={STOP_S}

[Install]
WantedBy={"multi-user.target" if system else "default.target"}
"""


def launchd_plist(command: list[str], home: Path, *, label: str, user: str, system: bool) -> str:
    """The property list. launchd knows no readiness; what the node logs is in its own log, stderr holds why it could not start."""
    content: dict[str, Any] = {
        "Label": label,
        "ProgramArguments": command,
        "EnvironmentVariables": {"SKERRY_LOG_STDERR": "false"},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": STOP_S,
        "Umask": 0o077,
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": str(home / "logs" / "launchd.log"),
    }
    if system:
        content["UserName"] = user
    return plistlib.dumps(content).decode()


def service_of(home: Path, *, system: bool, name: str = NAME, user: str = "", platform: str = sys.platform) -> Service:
    """The service of a home on this kind of machine. Raises UsageError where there is none."""
    user = user or os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    for word, what, option in ((user, "account", "--user"), (name, "name for a service", "--as")):
        if not re.fullmatch(r"[A-Za-z_][\w.-]{0,31}", word, re.ASCII):
            raise UsageError(f"{word!r} is no {what}", hint=f"name one with {option}")
    if any(ord(letter) < ord(" ") for letter in str(home)):
        raise UsageError(f"{str(home)!r} can't stand in a service's file", hint="choose a home without control characters in its name")
    command = [sys.executable, "-P", "-m", "skerry.cli.main", "up", "--home", str(home)]
    if platform == "darwin":
        folder = Path("/Library/LaunchDaemons") if system else Path.home() / "Library" / "LaunchAgents"
        label = f"io.skerry.{name}"
        file = folder / f"{label}.plist"
        domain = "system" if system else f"gui/{os.getuid()}"
        text = launchd_plist(command, home, label=label, user=user, system=system)
        return Service(file, text, (("launchctl", "bootstrap", domain, str(file)),), (("launchctl", "bootout", f"{domain}/{label}"),))
    if platform.startswith("linux"):
        base = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        unit = f"{name}.service"
        file = (Path("/etc/systemd/system") if system else base / "systemd" / "user") / unit
        control = ("systemctl",) if system else ("systemctl", "--user")
        load = ((*control, "daemon-reload"), (*control, "enable", "--now", unit))
        return Service(file, systemd_unit(command, home, user=user, system=system), load, ((*control, "disable", "--now", unit),))
    raise UsageError(f"services of {platform} are not known", hint="have your service manager run: skerry up --home DIR")


@app.command()
def install(
    system: SystemOption = False,
    user: UserOption = "",
    name: AsOption = NAME,
    now: NowOption = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the service's file; the node then starts with the machine, or with your session, and again when it fails."""
    service = service_of(home_of(home), system=system, name=name, user=user)
    if service.file.exists() and str(home_of(home)) not in service.file.read_text(errors="replace"):
        raise Refused(f"{service.file} runs another home", code=Code.NAME_TAKEN, hint="give this one a name of its own with --as")
    try:
        service.file.parent.mkdir(parents=True, exist_ok=True)
        service.file.write_text(service.text)
        service.file.chmod(0o644)
    except OSError as error:
        raise Refused(
            f"{service.file} can't be written: {error.strerror}", code=Code.STORAGE, hint="a service of the machine needs root: sudo"
        ) from error
    if now:
        _run(service.load)
    _say(service, output, "installed", () if now else service.load)


@app.command()
def uninstall(
    system: SystemOption = False,
    name: AsOption = NAME,
    now: NowOption = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove the service's file. The home stays as it is."""
    service = service_of(home_of(home), system=system, name=name)
    if not service.file.exists():
        raise Refused(f"there is no {service.file}", code=Code.NOT_FOUND, hint="`skerry service install` writes one")
    if now:
        _run(service.unload)
    try:
        service.file.unlink()
    except OSError as error:
        raise Refused(f"{service.file} can't be removed: {error.strerror}", code=Code.STORAGE, hint="try with sudo") from error
    _say(service, output, "removed", () if now else service.unload)


@app.command()
def show(
    system: SystemOption = False,
    user: UserOption = "",
    name: AsOption = NAME,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the file that `install` would write, and whether it is there."""
    from skerry.cli.output import print_json

    service = service_of(home_of(home), system=system, name=name, user=user)
    installed = service.file.exists()
    if output is not Output.TABLE:
        print_json({"file": str(service.file), "installed": installed, "text": service.text})
        return
    typer.echo(f"{service.file} {'is there' if installed else 'is not there'}; it would say:", err=True)
    print(service.text, end="")


def _say(service: Service, output: Output, what: str, commands: tuple[tuple[str, ...], ...]) -> None:
    from skerry.cli.output import print_json

    if output is not Output.TABLE:
        print_json({"event": what, "file": str(service.file), "next": [" ".join(command) for command in commands]})
        return
    print(f"{what}: {service.file}")
    for command in commands:
        print(f"now run: {' '.join(command)}")


def _run(commands: tuple[tuple[str, ...], ...]) -> None:
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            raise Refused(f"there is no {command[0]} on this machine", code=Code.NOT_FOUND, hint="leave --now out")
        ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            raise Refused(f"`{' '.join(command)}` failed: {said[-1] if said else ended.returncode}", code=Code.TASK_FAILED)


def _quoted(word: str) -> str:
    """One word of systemd's command line: % and $ mean nothing, and neither do quotes and spaces."""
    plain = _no_specifiers(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return plain if re.fullmatch(r"[\w@%+=:,./$-]+", plain, re.ASCII) else f'"{plain}"'


def _no_specifiers(text: str) -> str:
    return text.replace("%", "%%")
