"""The disk: how long it takes to make a write durable, the yardstick of a single record."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

_PAGE = b"x" * 4096
_FILE_PAGES = 256


def fdatasync_ms(folder: Path, times: int) -> float:
    """The median time in milliseconds of fdatasync after overwriting 4 KiB of a file in `folder`.

    The file has its size beforehand, as a write-ahead log that is used again has: only data is synced.
    """
    path = folder / "fdatasync.probe"
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.pwrite(handle, _PAGE * _FILE_PAGES, 0)
        os.fsync(handle)
        return median(_timed(handle, number) for number in range(times)) * 1000
    finally:
        os.close(handle)
        path.unlink()


def _timed(handle: int, number: int) -> float:
    os.pwrite(handle, _PAGE, number % _FILE_PAGES * len(_PAGE))
    started_s = time.perf_counter()
    os.fdatasync(handle)
    return time.perf_counter() - started_s
