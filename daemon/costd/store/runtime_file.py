"""The file that says where a running daemon can be reached: `daemon.json` in its data folder, and --ready-file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from costd.domain.errors import ConfigError

RUNTIME_NAME = "daemon.json"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where a daemon is reached: addresses as "host:port", None for a door that is shut; `socket` is a path."""

    grpc: str | None
    http: str | None
    socket: str | None
    pid: int
    admin_key_file: str


def write(path: Path, running: Running, setting: str = "ready_file") -> None:
    """Write `running` to `path`, mode 0600, so that a reader sees all of it or nothing.

    Raises ConfigError naming `setting` where that cannot be done.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(running) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(setting, str(path), f"must be a file that can be written ({error.strerror})") from error


def read(path: Path) -> Running | None:
    """What `path` says, or None where it is missing or is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove(path: Path) -> None:
    """Remove `path`: at a clean stop, and at a start, where the one before may have been killed."""
    with contextlib.suppress(OSError):
        path.unlink()
