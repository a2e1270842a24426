"""`contacts.toml`: a file that both its owner and the node write.

The rule: it is there whole or not at all, for its owner alone, and what the node did not write itself is noticed.
"""

from __future__ import annotations

from pathlib import Path

from skerry.errors import Code, StorageError, UsageError
from skerry.node.home import write_secret

SIZE_BYTES_MAX = 1024 * 1024


class TextFile:
    """`ports.OwnersFile` over one path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        return self._mark() != self._known

    def read(self) -> str | None:
        self._known = self._mark()
        try:
            if self._path.stat().st_size > SIZE_BYTES_MAX:
                raise UsageError(f"{self._path} is larger than {SIZE_BYTES_MAX // 1024} KiB", hint="it holds a few lines for each contact")
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise UsageError(f"{self._path} is no text in UTF-8", hint="save it again as UTF-8") from None
        except OSError as error:
            raise StorageError(
                f"{self._path} can't be read: {error.strerror}", code=Code.BAD_HOME, hint="check its owner and rights"
            ) from None

    def write(self, text: str) -> None:
        write_secret(self._path, text.rstrip("\n"))
        self._known = self._mark()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._known = None

    def _mark(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)
