"""A file that is there only once it is whole: written as NAME.part, for its owner alone, and then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from costd.domain.errors import CostdError

_OWNER_ONLY = 0o600


class Part(NamedTuple):
    """The file while it is written; closing the descriptor is its maker's business."""

    path: Path
    descriptor: int

    def sync(self) -> None:
        """Put on disk what has been written."""
        os.fsync(self.descriptor)


def part_path(target: Path) -> Path:
    """Where `target` is written until it is whole."""
    return target.with_name(f"{target.name}.part")


@contextlib.contextmanager
def part_file(target: Path) -> Iterator[Part]:
    """An empty part for `target`, mode 0600, removed in the end unless it was renamed.

    One that a killed process left behind is replaced; one that is being written is left alone, with a CostdError.
    """
    path = part_path(target)
    descriptor = _create(path)
    try:
        yield Part(path, descriptor)
    finally:
        # By then it has another name, or nobody wants it. Only ours: another process may have begun a new one.
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), os.fstat(descriptor)):
                path.unlink()
        os.close(descriptor)


def _create(path: Path) -> int:
    """Open a new file, locked while we write to it: a lock ends with its process, a name does not."""
    for _ in range(3):
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _OWNER_ONLY)
            fcntl.flock(made, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return made
        _remove_stale(path)
    raise CostdError(f"{path} is being written by another process; wait until it is done")


def _remove_stale(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CostdError(f"{path} is there and is no file; move it away")
    found = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        raise CostdError(f"{path} is being written by another process; wait until it is done") from None
    finally:
        os.close(found)
