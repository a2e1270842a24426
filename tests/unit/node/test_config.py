"""Settings: who wins, what is refused and how it is said, and that each is documented."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError, UsageError
from skerry.node.config import FILE_BYTES_MAX, SETTINGS, Chosen, Config, Origin, choose, config_of
from tests.tidy.repository import ROOT


def _one(chosen: list[Chosen], name: str) -> Chosen:
    return next(one for one in chosen if one.setting.name == name)


def _choose(home: Path, text: str = "", *, flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> list[Chosen]:
    if text:
        (home / "config.toml").write_text(text)
    return choose(home, flags=flags or {}, environment=environment or {})


def test_without_anything_there_are_the_defaults(tmp_path: Path) -> None:
    config = config_of(_choose(tmp_path))
    assert (config.name, config.listen, config.http, config.log_level) == ("", "0.0.0.0:7420", "127.0.0.1:7421", "info")
    assert config.log_size_max == 10 * 1024 * 1024
    assert {one.origin for one in _choose(tmp_path)} == {Origin.DEFAULT}


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    text = 'name = "filed"\nhttp = "127.0.0.1:1"\nlisten = "127.0.0.1:2"\n'
    environment = {"SKERRY_HTTP": "127.0.0.1:3", "SKERRY_LISTEN": "127.0.0.1:4", "SKERRY_LOG_LEVEL": ""}
    chosen = _choose(tmp_path, text, flags={"listen": "127.0.0.1:5", "name": None}, environment=environment)
    found = {one.setting.name: (one.value, one.origin, one.place) for one in chosen}
    assert found["name"] == ("filed", Origin.FILE, f"{tmp_path / 'config.toml'}, line 1")
    assert found["http"] == ("127.0.0.1:3", Origin.ENVIRONMENT, "SKERRY_HTTP")
    assert found["listen"] == ("127.0.0.1:5", Origin.FLAG, "--listen")
    assert found["log.level"] == ("info", Origin.DEFAULT, "")


@pytest.mark.parametrize(
    ("text", "name", "value", "line"),
    [
        ('\n# mine\n[log]\nlevel = "DEBUG"', "log.level", "debug", 4),
        ('log.level = "error"', "log.level", "error", 1),
        ('log = { level = "error" }', "log.level", "error", 1),
        ("[log]\nstderr = false", "log.stderr", False, 2),
        ("[agents]\nlog_size_max = 65536", "agents.log_size_max", 65536, 2),
        ('[agents]\nlog_size_max = "3 MiB"', "agents.log_size_max", 3 * 1024**2, 2),
        ('listen = "[::1]"', "listen", "[::1]:7420", 1),
        ('name = ""', "name", "", 1),
    ],
)
def test_what_the_file_may_say(tmp_path: Path, text: str, name: str, value: Any, line: int) -> None:
    found = _one(_choose(tmp_path, text), name)
    assert (found.value, found.place) == (value, f"{tmp_path / 'config.toml'}, line {line}")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name = 3", 1, "text in quotes is wanted"),
        ('name = "a b"', 1, "is no name for a node"),
        ('\nhttp = "nowhere"\nlisten = "here:there"', 3, "HOST:PORT is wanted"),
        ('[log]\nlevel = "loud"', 2, "one of debug, info, warning, error is wanted"),
        ("[log]\nfiles = 0", 2, "a number from 1 to 100 is wanted"),
        ("[log]\nfiles = true", 2, "a number from 1 to 100 is wanted"),
        ('[log]\nsize_max = "1 KiB"', 2, "64 KiB or more"),
        ("[log]\nsize_max = 1e9", 2, "64 KiB or more"),
        ("http_open = 1", 1, "true or false is wanted"),
        ("[log]\nlevle = 1", 2, "there is no setting 'log.levle'"),
        ("[lgo]\nlevel = 1", 1, "there is no setting 'lgo'"),
        ("nmae = 1", 1, "there is no setting 'nmae'"),
        pytest.param("seeds = [0x" + "f" * 6000 + "]", 1, "seeds = a number of too many digits", id="a number of 6,000 digits"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        _choose(tmp_path, text)
    assert f"config.toml, line {line}: " in refusal.value.message
    assert said in refusal.value.message
    assert "docs/configuration.md" in refusal.value.hint


@pytest.mark.parametrize("text", ["name =", "[log", 'name = "a"\nname = "b"'])
def test_what_is_no_toml_is_said_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"config\.toml is no TOML: .*line"):
        _choose(tmp_path, text + "\n# end\n")


def test_a_misspelled_setting_is_told_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        _choose(tmp_path, "[log]\nlevle = 1")
    assert "did you mean log.level?" in refusal.value.hint


def test_a_wrong_variable_and_a_wrong_flag_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^SKERRY_LOG_FILES: log\.files = 'many'"):
        _choose(tmp_path, environment={"SKERRY_LOG_FILES": "many"})
    with pytest.raises(UsageError, match=r"^--log-level: log\.level = 'loud'"):
        _choose(tmp_path, flags={"log.level": "loud"})


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="UTF-8"):
        _choose(tmp_path)
    (tmp_path / "config.toml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="larger than"):
        _choose(tmp_path)
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(SkerryError, match="can't be read"):
        _choose(tmp_path)


@given(st.text(max_size=200))
def test_no_text_is_a_bug(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever stands in the file or in a variable, it is taken or refused with words."""
    home = tmp_path_factory.getbasetemp()
    (home / "config.toml").write_text(text, encoding="utf-8", errors="replace")
    hints = ["taken"]
    for environment in ({}, {setting.variable: text for setting in SETTINGS}):
        try:
            config_of(choose(home, flags={}, environment=environment))
        except SkerryError as error:
            hints.append(error.hint)
    assert all(hints)


def test_the_table_and_the_config_agree() -> None:
    assert [setting.field for setting in SETTINGS] == [field.name for field in dataclasses.fields(Config)]
    for setting in SETTINGS:
        assert setting.read(setting.default) == setting.default
        assert re.fullmatch(r"SKERRY_[A-Z_]+", setting.variable)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for setting in SETTINGS:
        row = next((line for line in rows if line.startswith(f"| `{setting.name}` |")), "")
        assert row, f"docs/configuration.md does not describe {setting.name}"
        assert f"`{setting.variable}`" in row
        assert f"`{setting.flag}`" in row or not setting.flag
    assert len(rows) == len(SETTINGS) + 1  # and the home, which is where the file lies
