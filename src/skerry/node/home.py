"""A node's home: one folder with its keys, its database, what its agents are made of, and the lock that keeps a second node out.

    node.key root.key agent-<id>.key   0600, 32-byte seeds in hex
    skerry.db                          records and private facts
    blobs/<hash>/<name>                code and models, by content
    envs/<hash>/                       what agents require
    work/<agent id>/                   the folder that an agent may write in
    logs/node.log logs/<agent>.log     and older ones beside them, `.1`, `.2`
    config.toml                        the owner's settings, where there are any
    contacts.toml                      0600, the formation's contacts, for its owner to read and edit
    token                              0600, for the HTTP door
    run/                               0700: lock, socket, ready.json

The rule: secrets are 0600 and a file that others can read is refused, not mended in silence; a home serves one node at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from blake3 import blake3

from skerry.errors import Code, StorageError, UsageError
from skerry.identity.keys import KEY_BYTES, KeyPair

NODE_KEY = "node"
SOCKET_PATH_MAX = 100  # bytes; the system takes 104 (macOS) to 108
COPY_BYTES = 1024 * 1024
TOKEN_BYTES = 24
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def default_home() -> Path:
    return Path(os.environ.get("SKERRY_HOME") or "~/.skerry").expanduser()


class Home:
    """The folder. Opening it makes it; locking it is for the node alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        return self.path / "skerry.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def environments(self) -> Path:
        return self.path / "envs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def ready_file(self) -> Path:
        return self.run / "ready.json"

    @property
    def socket(self) -> Path:
        """The owner's socket: in the home, or, where that path is too long for a socket, in a folder of the user's own."""
        path = self.run / "node.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        short = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"skerry-{os.getuid()}" / f"{short}.sock"

    def make(self) -> None:
        """Make the folders. Raises StorageError that names the path."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.run, self.logs, self.blobs):
                folder.mkdir(exist_ok=True, mode=0o700)
            self.run.chmod(0o700)
            parent = self.socket.parent
            if parent != self.run:
                parent.mkdir(exist_ok=True, mode=0o700)
                if parent.stat().st_uid != os.getuid() or parent.stat().st_mode & OPEN_TO_OTHERS:
                    raise StorageError(f"{parent} is open to others", code=Code.UNSAFE_FILE, hint=f"remove it, or chmod 700 {parent}")
        except OSError as error:
            raise _disk(error, self.path) from error

    def lock(self) -> None:
        """Take the home for this process. Raises UsageError where a node runs on it."""
        try:
            self._lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"a node runs on the home {self.path} already",
                code=Code.HOME_IN_USE,
                hint="use another with --home, or end that one: `skerry down`",
            ) from None
        except OSError as error:
            raise _disk(error, self.path) from error

    def serves(self) -> bool:
        """Whether a node runs on this home now, whatever a crashed one left behind."""
        try:
            descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def unlock(self) -> None:
        self.ready_file.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def token(self) -> str:
        """The HTTP door's token, made at the first call."""
        path = self.path / "token"
        if path.exists():
            return read_secret(path)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_secret(path, token)
        return token

    def write_ready(self, ready: dict[str, Any]) -> None:
        """Where the node can be found, for programs on this machine; without its secrets."""
        write_secret(self.ready_file, json.dumps({key: value for key, value in ready.items() if key not in ("token", "ticket")}))

    def read_ready(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self.ready_file.read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class FileKeyring:
    """Keys as files `<name>.key`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self) -> None:
        """Raises StorageError that names the first key here that others can read, also one that is needed only later."""
        for path in sorted(self._folder.glob("*.key")):
            check_secret(path)

    def load(self, name: str) -> bytes | None:
        path = self._folder / f"{name}.key"
        if not path.exists():
            return None
        text = read_secret(path)
        try:
            seed = bytes.fromhex(text)
        except ValueError:
            seed = b""
        if len(seed) != KEY_BYTES:
            raise StorageError(f"{path} holds no key", code=Code.BAD_HOME, hint="restore it from a backup")
        return seed

    def save(self, name: str, seed: bytes) -> None:
        write_secret(self._folder / f"{name}.key", seed.hex())

    def delete(self, name: str) -> None:
        (self._folder / f"{name}.key").unlink(missing_ok=True)


class FileBlobs:
    """Content as `blobs/<hash>/<name>`: the name is kept because loaders look at endings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, source: Path) -> str:
        return await asyncio.to_thread(self._put, source)

    def path(self, digest: str) -> Path | None:
        folder = self._folder / digest
        try:
            return next(iter(sorted(folder.iterdir())))
        except (OSError, StopIteration):
            return None

    async def drop(self, digest: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / digest, ignore_errors=True)

    def _put(self, source: Path) -> str:
        """Copy beside its place, hash what was copied, move it in: a crash leaves no half blob."""
        try:
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".new-") as scratch:
                staged = Path(scratch) / "blob"
                staged.mkdir()
                digest = _copy_file(source, staged / source.name) if source.is_file() else _copy_folder(source, staged / source.name)
                place = self._folder / digest
                try:
                    staged.rename(place)
                except OSError:
                    if not place.exists():  # else it is here already, perhaps since a moment ago: the same content
                        raise
            return digest
        except OSError as error:
            raise _disk(error, source) from error


def _copy_file(source: Path, target: Path) -> str:
    hasher = blake3()
    with source.open("rb") as reader, target.open("xb") as writer:
        while piece := reader.read(COPY_BYTES):
            hasher.update(piece)
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())
    return hasher.hexdigest()


def _copy_folder(source: Path, target: Path) -> str:
    """The hash of a folder covers the names and contents of its files, in order; links and caches stay out."""
    hasher = blake3()
    target.mkdir()
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_symlink() or "__pycache__" in relative.parts or not path.is_file():
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        name = relative.as_posix().encode()
        hasher.update(len(name).to_bytes(4, "big") + name + bytes.fromhex(_copy_file(path, target / relative)))
    return hasher.hexdigest()


def check_secret(path: Path) -> None:
    """Raises StorageError where others could read that file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _disk(error, path) from error
    if mode & OPEN_TO_OTHERS:
        raise StorageError(
            f"others can read {path} (mode {stat.S_IMODE(mode):04o}), so it is no secret any more",
            code=Code.UNSAFE_FILE,
            hint=f"if nobody has seen it: chmod 600 {path}",
        )


def read_secret(path: Path) -> str:
    """The text of a secret file. Raises StorageError where others could read it."""
    check_secret(path)
    try:
        return path.read_text().strip()
    except UnicodeDecodeError:
        raise StorageError(f"{path} is damaged: it is no text", code=Code.BAD_HOME, hint="restore it from a backup") from None
    except OSError as error:
        raise _disk(error, path) from error


def write_secret(path: Path, text: str) -> None:
    """Write a 0600 file so that it is there whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise _disk(error, path) from error


def node_key(keyring: FileKeyring) -> KeyPair:
    """The node's key, made where there is none. Raises StorageError where any key of the home is open to others."""
    keyring.check()
    seed = keyring.load(NODE_KEY)
    if seed is None:
        seed = secrets.token_bytes(KEY_BYTES)
        keyring.save(NODE_KEY, seed)
    return KeyPair.from_seed(seed)


def _disk(error: OSError, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full: {path} can't be written", code=Code.DISK_FULL, hint="free some space and try again")
    return StorageError(f"{path}: {error.strerror or error}", hint="check that the path exists and its rights allow it")
