"""What `skerry service` writes: checked by systemd itself and by plistlib, loaded by nobody."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skerry.cli.main import app
from skerry.cli.service import Service, service_of
from skerry.errors import Refused, UsageError

HOMES = ["/home/ada/.skerry", "/srv/with space/skerry", "/srv/100% $HOME \"quoted\" back\\slash 'n'", "/srv/grüße"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of this test's own, with programs of its own that only note how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "launchctl"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/called"\n[ ! -e "{tmp_path}/broken" ] || {{ echo no >&2; exit 4; }}\n'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SKERRY_HOME", str(tmp_path / "home"))
    return tmp_path


def _called(machine: Path) -> list[str]:
    file = machine / "called"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("home", HOMES)
def test_systemd_finds_nothing_wrong(tmp_path: Path, home: str, system: bool) -> None:
    service = service_of(Path(home), system=system, user="root", platform="linux")
    unit = tmp_path / service.file.name
    unit.write_text(service.text)
    command = ["systemd-analyze", *([] if system else ["--user"]), "verify", "--man=no", str(unit)]
    checked = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    )
    ours = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert (checked.returncode, ours) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_would_find_something(tmp_path: Path) -> None:
    """The check above can fail."""
    unit = tmp_path / "skerry.service"
    unit.write_text(service_of(Path("/x"), system=True, user="root", platform="linux").text.replace("ExecStart=/", "ExecStart=relative/"))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode != 0


def test_the_unit_waits_for_readiness_and_prints_no_secret() -> None:
    text = service_of(Path("/home/ada/.skerry"), system=False, platform="linux").text
    lines = text.splitlines()
    assert "Type=notify" in lines
    assert "NotifyAccess=main" in lines
    assert "UMask=0077" in lines
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start == f"ExecStart={sys.executable} -P -m skerry.cli.main up --home /home/ada/.skerry"
    assert " -o" not in start  # JSON output would hold the token
    assert "User=" not in text
    assert "WantedBy=default.target" in lines
    system = service_of(Path("/srv/x"), system=True, user="ada", platform="linux")
    assert "User=ada" in system.text.splitlines()
    assert "WantedBy=multi-user.target" in system.text.splitlines()
    assert system.file == Path("/etc/systemd/system/skerry.service")


@pytest.mark.parametrize("home", HOMES)
def test_a_home_of_any_name_is_one_word_of_the_command(home: str) -> None:
    """Read back as systemd reads it."""
    (start,) = re.findall(r"^ExecStart=(.*)$", service_of(Path(home), system=False, platform="linux").text, re.MULTILINE)
    words = re.findall(r'"(?:\\.|[^"])*"|\S+', start)
    plain = [re.sub(r"\\(.)", r"\1", word.strip('"') if word[0] == '"' else word).replace("%%", "%").replace("$$", "$") for word in words]
    assert plain[-2:] == ["--home", home]


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("home", HOMES)
def test_launchd_reads_the_property_list(home: str, system: bool) -> None:
    service = service_of(Path(home), system=system, user="ada", platform="darwin")
    said = plistlib.loads(service.text.encode())
    assert said["ProgramArguments"] == [sys.executable, "-P", "-m", "skerry.cli.main", "up", "--home", home]
    assert said["KeepAlive"] == {"SuccessfulExit": False}
    assert said["RunAtLoad"] is True
    assert service.file.name == f"{said['Label']}.plist"
    assert said.get("UserName") == ("ada" if system else None)
    assert said["StandardOutPath"] == "/dev/null"


def test_what_can_not_be_a_service() -> None:
    with pytest.raises(UsageError, match="plan9"):
        service_of(Path("/x"), system=False, platform="plan9")
    with pytest.raises(UsageError, match="can't stand in a service's file"):
        service_of(Path("/x\nExecStartPre=/bin/sh"), system=False, platform="linux")
    with pytest.raises(UsageError, match="no account"):
        service_of(Path("/x"), system=True, user="a b", platform="linux")
    with pytest.raises(UsageError, match="no name for a service"):
        service_of(Path("/x"), system=False, name="../../etc/x", platform="linux")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file lies elsewhere")
def test_install_writes_a_file_and_loads_nothing(machine: Path) -> None:
    ran = CliRunner().invoke(app, ["service", "install"])
    unit = machine / "config" / "systemd" / "user" / "skerry.service"
    assert ran.exit_code == 0
    assert unit.read_text() == _service(machine).text
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert "now run: systemctl --user enable --now skerry.service" in ran.stdout
    assert _called(machine) == []
    assert CliRunner().invoke(app, ["service", "install"]).exit_code == 0  # again, for the same home
    ran = CliRunner().invoke(app, ["service", "uninstall", "-o", "json"])
    assert json.loads(ran.stdout) == {"event": "removed", "file": str(unit), "next": ["systemctl --user disable --now skerry.service"]}
    assert not unit.exists()
    with pytest.raises(Refused, match="there is no"):
        CliRunner().invoke(app, ["service", "uninstall"], catch_exceptions=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file lies elsewhere")
def test_now_runs_the_commands_that_it_would_show(machine: Path) -> None:
    assert CliRunner().invoke(app, ["service", "install", "--now"]).exit_code == 0
    assert _called(machine) == ["systemctl --user daemon-reload", "systemctl --user enable --now skerry.service"]
    (machine / "broken").touch()
    with pytest.raises(Refused, match=r"`systemctl --user disable --now skerry.service` failed: no"):
        CliRunner().invoke(app, ["service", "uninstall", "--now"], catch_exceptions=False)
    assert (machine / "config" / "systemd" / "user" / "skerry.service").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file lies elsewhere")
def test_another_home_does_not_take_the_place_of_the_first(machine: Path) -> None:
    assert CliRunner().invoke(app, ["service", "install"]).exit_code == 0
    second = ["service", "install", "--home", str(machine / "second")]
    with pytest.raises(Refused, match="runs another home"):
        CliRunner().invoke(app, second, catch_exceptions=False)
    assert CliRunner().invoke(app, [*second, "--as", "skerry-two"]).exit_code == 0
    assert (machine / "config" / "systemd" / "user" / "skerry-two.service").exists()


def test_show_prints_the_file_alone(machine: Path) -> None:
    ran = CliRunner().invoke(app, ["service", "show", "-o", "json"])
    said = json.loads(ran.stdout)
    assert said == {"file": str(_service(machine).file), "installed": False, "text": _service(machine).text}


def _service(machine: Path) -> Service:
    return service_of(machine / "home", system=False)
