"""Records on disk while no costd takes them: files beside a path that several processes may share.

Each process writes files of its own, `PATH.<uuid7>`, and holds a lock (flock) on each of them for as long as it lives.
A file that nobody holds was left by a process that is gone: whoever finds it takes it over, sends what is in it, and
removes it. A file is sent as a whole and removed when all of it is settled; sending some of it twice, after a crash in
between, does no harm, because every record carries its request id.

A record is a line: CRC-32 of it in hex, a space, the record in base64. A line that was torn by a crash is told by that,
and the others are still read. Every append is written at once, so that it survives the death of the process, and synced
with fdatasync before the next, so that it survives that of the machine.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from costd_client.ids import new_id

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows
    fcntl = None  # type: ignore[assignment]

#: A file is closed and sent as a whole at this size, so that what has been sent is removed piece by piece.
FILE_BYTES = 1 << 20
#: How long what the folder was seen to hold is taken for true.
_SCAN_S = 1.0
_ID_LENGTH = 36


class Left(NamedTuple):
    """A file to be sent: its records, how many of its lines are damaged, and whether this process wrote it."""

    path: Path
    descriptor: int
    records: list[bytes]
    damaged: int
    is_own: bool


class Spool:
    """The files of one process, and those that others left. For one thread at a time."""

    def __init__(self, path: str | os.PathLike[str], max_bytes: int) -> None:
        """`max_bytes` bounds all files beside `path` together. Raises OSError where the system has no flock."""
        if fcntl is None:  # pragma: no cover
            raise OSError("a spool needs flock, which this system does not have")
        self._prefix = Path(os.path.abspath(path))  # resolve() would follow a link that may move
        self._max_bytes = max_bytes
        self._writing: _Writing | None = None
        self._full: list[_Writing] = []
        self._seen_s = -_SCAN_S
        self._bytes = 0

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._prefix.parent

    @property
    def has_own(self) -> bool:
        """Whether this process has written anything that is not taken for sending yet."""
        return self._writing is not None or bool(self._full)

    def append(self, records: Sequence[bytes]) -> int:
        """Put records to disk; how many of them, from the first, there was room for. Raises OSError."""
        lines: list[bytes] = []
        room = self._max_bytes - self.bytes()
        for record in records:
            line = _line(record)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        if not lines:
            return 0
        if self._writing is None:
            self._writing = _Writing(self._prefix)
        data = b"".join(lines)
        self._writing.write(data)
        self._bytes += len(data)
        if self._writing.size >= FILE_BYTES:
            self._full.append(self._writing)
            self._writing = None
        return len(lines)

    def bytes(self) -> int:
        """What all files beside the path hold, of every process; looked at once a second."""
        now_s = time.monotonic()
        if now_s - self._seen_s >= _SCAN_S:
            self._bytes = sum(size for _, size in self._files())
            self._seen_s = now_s
        return self._bytes

    def take(self, *, others: bool) -> Left | None:
        """The next file to send: one of this process, else (`others`) one that a process that is gone left."""
        if self.has_own:
            writing = self._full.pop(0) if self._full else self._writing
            assert writing is not None
            if writing is self._writing:
                self._writing = None
            if (own := _read(writing.path, writing.descriptor, is_own=True)) is not None:
                return own
        if others:
            for path, _ in sorted(self._files()):
                left = _take_over(path)
                if left is not None:
                    return left
        return None

    def remove(self, left: Left) -> None:
        """Everything in it is settled."""
        with contextlib.suppress(OSError):
            self._bytes -= os.fstat(left.descriptor).st_size
            left.path.unlink(missing_ok=True)
        os.close(left.descriptor)

    def put_back(self, left: Left) -> None:
        """It was not sent: let go of it, so that another process may."""
        os.close(left.descriptor)

    def close(self) -> None:
        """Let go of everything: whoever looks for it will find it."""
        writing = [*self._full, *([self._writing] if self._writing else [])]
        self._full, self._writing = [], None
        for each in writing:
            os.close(each.descriptor)

    def has_left(self) -> bool:
        """Whether there are files beside the path, of whomever."""
        return next(self._files(), None) is not None

    def _files(self) -> Iterator[tuple[Path, int]]:
        prefix = f"{self._prefix.name}."
        try:
            entries = os.scandir(self._prefix.parent)
        except OSError:
            return
        with entries:
            for entry in entries:
                if entry.name.startswith(prefix) and len(entry.name) == len(prefix) + _ID_LENGTH:
                    with contextlib.suppress(OSError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False).st_size


class _Writing:
    """A file that is appended to, and locked."""

    def __init__(self, prefix: Path) -> None:
        while True:
            self.path = prefix.with_name(f"{prefix.name}.{new_id()}")
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.descriptor = os.open(self.path, flags, 0o600)
            # Between the two, somebody may have taken it for one that was left, and removed it.
            if _lock(self.descriptor) and _is_at(self.path, self.descriptor):
                break
            os.close(self.descriptor)
        self.size = 0
        self._is_torn = False
        _sync_folder(self.path.parent)

    def write(self, data: bytes) -> None:
        """Append it whole; raises OSError, and then none of it counts."""
        if self._is_torn:  # half a line is there: let it end, so that it does not spoil the next
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
        except OSError:
            self._undo()
            raise
        self.size += written
        self._is_torn = False
        _sync(self.descriptor)

    def _undo(self) -> None:
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError:
            self._is_torn = True


#: macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems do not sync folders
        pass
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        there, here = os.lstat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _take_over(path: Path) -> Left | None:
    """A file that another process left, locked; None where somebody holds it, or it is none of this user's."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    found = os.fstat(descriptor)
    # In a folder that everybody may write to, others could have their records sent under this process's key.
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    if not (is_ours and _lock(descriptor) and _is_at(path, descriptor)):
        os.close(descriptor)
        return None
    return _read(path, descriptor, is_own=False)


def _read(path: Path, descriptor: int, *, is_own: bool) -> Left | None:
    """What is in the file; None where it cannot be read now: then it stays, for whoever tries later."""
    data = b""
    try:
        size = os.fstat(descriptor).st_size
        while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
            data += more
    except OSError:
        os.close(descriptor)
        return None
    records: list[bytes] = []
    damaged = 0
    for line in data.split(b"\n"):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif line:
            damaged += 1
    return Left(path, descriptor, records, damaged, is_own)


def _line(record: bytes) -> bytes:
    return b"%08x %b\n" % (binascii.crc32(record), base64.b64encode(record))


def _record(line: bytes) -> bytes | None:
    """The record of a line, None where the line is damaged."""
    digits, _, encoded = line.partition(b" ")
    try:
        record = base64.b64decode(encoded, validate=True)
        return record if record and int(digits, 16) == binascii.crc32(record) else None
    except ValueError:
        return None
