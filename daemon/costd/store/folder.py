"""Folders and sockets on disk: made for their owner alone, and never taken from somebody else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from costd.domain.errors import ConfigError

#: How long a socket that is already there may take to show that somebody listens at it.
_PROBE_S = 1.0


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


def claim_socket(path: Path, setting: str = "grpc.socket") -> None:
    """Make the way free for a socket at `path`: its folder made, a dead daemon's socket removed.

    Raises ConfigError naming `setting` where somebody listens there, where another kind of file has that name, or
    where another user could have laid the folder out.
    """
    make_private(path.parent, setting)
    _refuse_trap(path.parent, setting)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(setting, str(path), "must be free; there is a file of that name, and it is not a socket")
    # gRPC would unlink it without asking, and leave the daemon that owns it unreachable.
    if _is_alive(path):
        raise ConfigError(setting, str(path), "must be free; another process listens there")
    path.unlink(missing_ok=True)


def release_socket(path: Path) -> None:
    """Remove the socket after a clean stop, if it is still there."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _refuse_trap(folder: Path, setting: str) -> None:
    """In a place where anybody may make folders (/tmp), one that is not ours alone could be somebody's trap."""
    if not folder.parent.stat().st_mode & stat.S_IWOTH:
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        allowed = f"its folder must belong to user {os.geteuid()} and be writable for nobody else"
        raise ConfigError(setting, str(folder), allowed)


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # too busy to take another connection is alive as well
            return True
        return True
