"""Checks of the disk: room, and how long it takes to make a write durable."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.services.doctor.folder import nearest
from costd.store.connection import DATABASE_NAME

#: A commit waits for one sync. Above this, callers that wait for an OK notice.
_SLOW_S = 0.010
_SYNCS, _LONGEST_S = 200, 2.0
_PAGE = bytes(4096)
_FILE_PAGES = 64
#: What the daemon's log may take before it starts over.
_LOG_BYTES = 64 << 20


def check_room(folder: Path, reserve_bytes: int) -> list[Finding]:
    """Free space against the reserve and the size of the ledger."""
    disk = os.statvfs(nearest(folder))
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    try:
        held = (folder / DATABASE_NAME).stat().st_size
    except OSError:
        held = 0
    about = (
        f"{_mib(free)} free of {_mib(whole)}; the ledger has {_mib(held)}, {_mib(reserve_bytes)} are kept in reserve"
    )
    if free < reserve_bytes + _LOG_BYTES:
        return [Finding("free space", FAIL, about, "make room: without it records are refused")]
    if free < held + reserve_bytes:
        advice = "make room before the ledger grows; a backup on this disk would not fit"
        return [Finding("free space", WARN, about, advice)]
    if disk.f_files and disk.f_favail < 100:
        return [Finding("free space", FAIL, f"{disk.f_favail} inodes left", "remove files: no new ones can be made")]
    return [Finding("free space", OK, about)]


def check_sync(folder: Path, monotonic_s: Callable[[], float]) -> list[Finding]:
    """The time of fdatasync after a page was written to a file in `folder`, which has no name and leaves nothing."""
    if not os.path.isdir(folder):
        return [Finding("disk sync", OK, "not measured: the data folder is not there yet")]
    times_s: list[float] = []
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(_PAGE * _FILE_PAGES)
            os.fsync(file.fileno())
            begun_s = monotonic_s()
            while len(times_s) < _SYNCS and monotonic_s() - begun_s < _LONGEST_S:
                os.pwrite(file.fileno(), _PAGE, len(times_s) % _FILE_PAGES * len(_PAGE))
                started_s = monotonic_s()
                os.fdatasync(file.fileno())
                times_s.append(monotonic_s() - started_s)
    except OSError as error:
        return [
            Finding("disk sync", FAIL, f"cannot write to {folder}: {error.strerror}", "check the disk and its room")
        ]
    times_s.sort()
    half, slowest = times_s[len(times_s) // 2], times_s[int(len(times_s) * 0.99)]
    about = f"p50 {half * 1000:.2f} ms, p99 {slowest * 1000:.2f} ms, of {len(times_s)}"
    if slowest > _SLOW_S:
        return [
            Finding("disk sync", WARN, about, "every answer waits for one: use a local SSD, or find what else writes")
        ]
    return [Finding("disk sync", OK, about)]


def _mib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 10 * 2**30 else f"{size / 2**20:,.0f} MiB"
