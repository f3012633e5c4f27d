"""Folders on disk: made for their owner alone, and trusted only where nobody else could have laid them out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from costd.domain.errors import ConfigError


def make_private(folder: Path, setting: str = "data_dir") -> None:
    """Make `folder` (and what leads to it), mode 0700, unless it is there; else ConfigError naming `setting`.

    A folder that is already there keeps its owner, its mode and whatever it holds: it may be a mounted volume.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(setting, str(folder), "must be a folder; there is a file of that name") from None
    except OSError as error:
        raise ConfigError(setting, str(folder), f"must be a folder that can be made ({error.strerror})") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(setting, str(folder), f"must be a folder that user {os.geteuid()} may read and write")


def refuse_trap(folder: Path, setting: str = "grpc.socket") -> None:
    """Raise ConfigError where anybody could have made `folder` (it is in /tmp or the like) and it is not ours alone.

    Whoever owns the folder of a socket can put another socket there, and be sent our callers' keys.
    """
    if not folder.parent.stat().st_mode & stat.S_IWOTH:
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        allowed = f"must be a folder that belongs to user {os.geteuid()} and is writable for nobody else"
        raise ConfigError(setting, str(folder), allowed)


def sync_folder(folder: Path) -> None:
    """Put on disk which files `folder` has: a rename is durable only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
