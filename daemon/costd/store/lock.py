"""The data folder's lock: one process at a time works on a ledger."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from costd.domain.errors import ConfigError, DataFolderHeld

LOCK_NAME = "lock"

#: A holder that is just leaving, and `holder` itself for a moment, hold the lock for less than this.
_ATTEMPTS = 25
_PAUSE_S = 0.02


class FolderLock:
    """The lock, held from `acquire` until `release`, or until the process ends however it ends."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> FolderLock:
        """Take the lock of `folder`, which exists.

        Raises DataFolderHeld, which says who has it and what to do, and ConfigError where the folder takes no files.
        """
        descriptor = _open(folder / LOCK_NAME)
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(_PAUSE_S)
            else:
                # The file itself stays for good: unlinking it would let two processes lock two files of one name.
                with contextlib.suppress(OSError):  # a full disk costs the message its pid, not the start
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return cls(folder, descriptor)
        pid = _pid(descriptor)
        os.close(descriptor)
        raise DataFolderHeld(_held_message(folder, pid))

    def release(self) -> None:
        """Give the lock back; again is harmless."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(folder: Path) -> int | None:
    """The pid that holds the lock of `folder` (0 where it has not written it yet), or None where nobody does."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError("data_dir", str(folder), f"must be a folder that can be read ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        allowed = f"must be a folder that user {os.geteuid()} may write to ({error.strerror})"
        raise ConfigError("data_dir", str(path.parent), allowed) from error


def _pid(descriptor: int) -> int:
    with contextlib.suppress(ValueError):
        return int(os.pread(descriptor, 32, 0))
    return 0


def _held_message(folder: Path, pid: int) -> str:
    who = f"process {pid}" if pid else "another process"
    return (
        f"the data folder {folder} is held by {who}: one daemon works on a ledger at a time; "
        f"stop that one, or give this one a folder of its own with --data-dir"
    )
