"""The settings of a node: one table, and where each value comes from.

A flag wins over an environment variable, that over `config.toml` in the home, that over the default. The file is plain TOML with the names
of the table; nothing in it is a secret. What the owner wrote wrong is refused with the line and the name, before anything is opened.

The rule: `SETTINGS` is the only list of settings; a test fails when docs/configuration.md lacks one of them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from skerry.channel.address import HTTP_PORT, MESH_PORT, parse_address, parse_host_port
from skerry.channel.reachable import IPNetwork, read_networks
from skerry.channel.weburl import read_place, read_public
from skerry.discovery.profiles import PROFILES
from skerry.errors import Code, SkerryError, StorageError, UsageError
from skerry.node.settings import check_name
from skerry.routing.strategies import Strategy

FILE_NAME = "config.toml"
FILE_BYTES_MAX = 64 * 1024  # a file that is larger was not written for us
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "human", "json")
LOG_FILES_MAX = 100
SEEDS_MAX = 64  # each is asked once a minute
LISTEN_MAX = 16
UDS_PATH_BYTES_MAX = 103  # what every system takes
T = TypeVar("T")
LOG_BYTES_MIN = 64 * 1024  # below it a log would hold less than one burst
LOG_BYTES_MAX = 1024**4

_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class Origin(StrEnum):
    """Where a value comes from; the first one that has it wins."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    name     as `config.toml` has it; before the dot stands its table
    read     from what was written (text, or a TOML value) to the value; raises ValueError that says what is wanted
    flag     of `skerry up` and `skerry join`; "" where there is none
    """

    name: str
    read: Callable[[Any], Any]
    default: Any
    about: str
    flag: str = ""

    @property
    def field(self) -> str:
        """Its attribute in `Config`."""
        return self.name.replace(".", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"SKERRY_{self.field.upper()}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A setting's value, and where it comes from: "config.toml, line 3", "SKERRY_HTTP", "--http", or "" for the default."""

    setting: Setting
    value: Any
    origin: Origin
    place: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What a node runs with. `name` is "" where nobody chose one: then it is the home's, or the machine's."""

    name: str
    listen: str
    http: str
    http_open: bool
    public: str
    public_url: str
    seeds: tuple[str, ...]
    federation_also_dial: tuple[IPNetwork, ...]
    log_level: str
    log_format: str
    log_stderr: bool
    log_size_max: int
    log_files: int
    agents_log_size_max: int
    routing_strategy: str
    membership_profile: str


# --- reading one value ------------------------------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    try:
        return check_name(_text(value)) if value != "" else ""
    except SkerryError as error:
        raise ValueError(error.message) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text in quotes is wanted")
    return value


def _place(default_port: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        try:
            return parse_host_port(_text(value), default_port=default_port).host_port
        except SkerryError as error:
            raise ValueError(f"HOST:PORT is wanted: {error.message}") from None

    return read


def _places(default_port: int) -> Callable[[Any], str]:
    """One or more, a list in TOML, elsewhere with commas between; beside HOST:PORT also `uds:///PATH`."""
    read_one = _place(default_port)

    def read(value: Any) -> str:
        texts = value if isinstance(value, list | tuple) else _text(value).split(",")
        if not 0 < len(texts) <= LISTEN_MAX:
            raise ValueError(f"1 to {LISTEN_MAX} addresses are wanted")
        found = [_text(text).strip() for text in texts]
        return ",".join(_checked(_uds, text) if text.startswith("uds:") else read_one(text.removeprefix("tcp://")) for text in found)

    return read


def _uds(text: str) -> str:
    if "," in text or len(text.removeprefix("uds://").encode()) > UDS_PATH_BYTES_MAX:
        raise UsageError(f"{text[:120]!r} is no path for a socket", hint=f"up to {UDS_PATH_BYTES_MAX} bytes, without commas")
    return str(parse_address(text))


def _switch(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    found = value if isinstance(value, bool) else words.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("true or false is wanted")
    return found


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            raise ValueError(f"one of {', '.join(words)} is wanted")
        return value.lower()

    return read


def _size(value: Any) -> int:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = value if isinstance(value, int) and not isinstance(value, bool) else None
    if found is not None:
        size = int(found[1]) * _UNITS[found[2].lower()]
    if size is None or not LOG_BYTES_MIN <= size <= LOG_BYTES_MAX:
        raise ValueError(f"a size of {LOG_BYTES_MIN // 1024} KiB or more is wanted, such as 10MiB")
    return size


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LOG_FILES_MAX:
        raise ValueError(f"a number from 1 to {LOG_FILES_MAX} is wanted")
    return value


def _public(value: Any) -> str:
    return _checked(read_public, _text(value))


def _public_url(value: Any) -> str:
    text = _text(value)
    return _checked(lambda given: read_place(given).url, text) if text else ""


def _seeds(value: Any) -> tuple[str, ...]:
    """A list in TOML; elsewhere with commas or blanks between."""
    texts = value if isinstance(value, list | tuple) else _text(value).replace(",", " ").split()
    if len(texts) > SEEDS_MAX:
        raise ValueError(f"up to {SEEDS_MAX} are wanted")
    return tuple(_checked(lambda given: str(read_place(_text(given))), text) for text in texts)


def _networks(value: Any) -> tuple[IPNetwork, ...]:
    return _checked(read_networks, ",".join(map(str, value)) if isinstance(value, list | tuple) else _text(value))


def _checked(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except SkerryError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


SETTINGS: tuple[Setting, ...] = (
    Setting("name", _name, "", "what people call this node; left out, the name it had, or the machine's", "--name"),
    Setting("listen", _places(MESH_PORT), f"0.0.0.0:{MESH_PORT}", "HOST:PORT for other nodes, or uds:///PATH, or several", "--listen"),
    Setting("http", _place(HTTP_PORT), f"127.0.0.1:{HTTP_PORT}", "HOST:PORT of the HTTP door, on loopback", "--http"),
    Setting("http_open", _switch, False, "the HTTP door asks for no token: every user of this machine may use it", "--http-open"),
    Setting("public", _public, "", "HOST:PORT or https://HOST:PORT of the public listener; left out, there is none", "--public"),
    Setting("public_url", _public_url, "", "the URL of a proxy that stands before the public listener; it is believed to say who asks"),
    Setting("seeds", _seeds, (), "public listeners to pull records from: NODEID@HOST:PORT or https://HOST"),
    Setting("federation.also_dial", _networks, (), "networks that strangers may send this node to, beside public addresses"),
    Setting("log.level", _one_of(*LEVELS), "info", f"what is logged: {', '.join(LEVELS)}", "--log-level"),
    Setting("log.format", _one_of(*FORMATS), "auto", "of stderr: human, json, or auto: human on a terminal, else json", "--log-format"),
    Setting("log.stderr", _switch, True, "log to stderr too, not only to `logs/node.log`"),
    Setting("log.size_max", _size, 10 * 1024**2, "`logs/node.log` is put aside when it is this large"),
    Setting("log.files", _count, 3, "how many log files there are at most, the one in use counted"),
    Setting("agents.log_size_max", _size, 10 * 1024**2, "an agent's log is put aside when it is this large; one older is kept"),
    Setting(
        "routing.strategy",
        _one_of(*Strategy),
        Strategy.LOWEST_LATENCY.value,
        f"who does a task where its caller does not say: {', '.join(Strategy)}",
    ),
    Setting("membership.profile", _one_of(*PROFILES), "lan", f"how soon a silent node is taken for gone: {', '.join(PROFILES)}"),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_TABLES = {setting.name.split(".")[0] for setting in SETTINGS if "." in setting.name}


# --- choosing ---------------------------------------------------------------------------------------------------------------------


def choose(home: Path, *, flags: Mapping[str, Any], environment: Mapping[str, str]) -> list[Chosen]:
    """Every setting with its value and its origin. `flags` by setting name, None where not given. Raises UsageError where one is wrong."""
    path = home / FILE_NAME
    text = _file_text(path)
    written = _written(path, text)
    chosen = []
    for setting in SETTINGS:
        if flags.get(setting.name) is not None:
            found = _chosen(setting, flags[setting.name], Origin.FLAG, setting.flag)
        elif environment.get(setting.variable):
            found = _chosen(setting, environment[setting.variable], Origin.ENVIRONMENT, setting.variable)
        elif setting.name in written:
            found = _chosen(setting, written[setting.name], Origin.FILE, _where(path, text, setting.name))
        else:
            found = Chosen(setting, setting.default, Origin.DEFAULT)
        chosen.append(found)
    return chosen


def config_of(chosen: list[Chosen]) -> Config:
    return Config(**{one.setting.field: one.value for one in chosen})


def _chosen(setting: Setting, given: Any, origin: Origin, place: str) -> Chosen:
    try:
        return Chosen(setting, setting.read(given), origin, place)
    except ValueError as error:
        raise UsageError(f"{place}: {setting.name} = {_shown(given)}: {error}"[:500], hint=f"correct it there; {_LOOK}") from None


def _shown(given: Any) -> str:
    try:
        return repr(given)
    except ValueError:  # in hexadecimal a number may have more digits than Python says in decimal
        return "a number of too many digits"


def _file_text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path} is larger than {FILE_BYTES_MAX // 1024} KiB", hint="it holds a few lines of settings, nothing else")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8", hint="save it again as UTF-8") from None
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror}", code=Code.BAD_HOME, hint="check its owner and its rights") from None


def _written(path: Path, text: str) -> dict[str, Any]:
    """The file's settings by their dotted names. Raises UsageError for what is no TOML, and for names that no setting has."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number with too many digits
        raise UsageError(f"{path} is no TOML: {error}", hint=f'write lines like name = "alpha"; {_LOOK}') from None
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key in _TABLES and isinstance(value, dict):
            flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[key] = value
    for name in flat:
        if name not in _BY_NAME:
            close = difflib.get_close_matches(name, [*_BY_NAME, *_TABLES], n=1)
            hint = f"did you mean {close[0]}? {_LOOK}" if close else _LOOK
            raise UsageError(f"{_where(path, text, name)}: there is no setting {name!r}", hint=hint)
    return flat


def _where(path: Path, text: str, name: str) -> str:
    """The file and the line in which a setting stands, as far as it can be told."""
    table = name.rpartition(".")[0]
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            inside = header[1].strip("\"' ")
        written = re.match(r"""\s*["']?([\w.-]+?)["']?\s*=""", line)
        full = f"{inside}.{written[1]}" if written and inside else written[1] if written else ""
        if full == name or (header is not None and inside == name and not table) or (full == table and table):
            return f"{path}, line {number}"
    return str(path)


_LOOK = "docs/configuration.md lists the settings"
