"""Where a command's output goes: stdout, or a file that is there only once it is whole."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from costd.cli.output import safe
from costd.domain.errors import ConfigError, CostdError

Write = Callable[[bytes], None]


@contextmanager
def sink(path: str | None, flag: str = "--output") -> Iterator[Write]:
    """Takes UTF-8 text for the file at `path`, or for stdout.

    A file is written beside its place, under a name that ends in `.part`, and put there when everything is on disk. If
    that fails, or is interrupted, the part is removed and what was there before stays. What is no ordinary file (a
    pipe, a device) is written to as it is.
    """
    if path is None:
        yield _to_stdout
        return
    place = Path(path).resolve()
    if place.is_dir():
        raise ConfigError(flag, path, "must be a file; it is a folder")
    if place.exists() and not stat.S_ISREG(place.stat().st_mode):
        with _opened(place, path) as write:
            yield write
        return
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        with _opened(part, path) as write:
            yield write
        with _reported(path):
            part.replace(place)
            _sync_folder(place.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(place: Path, path: str) -> Iterator[Write]:
    """Takes text for the file at `place`, which is whole and on disk in the end; errors speak of `path`."""
    with _reported(path):
        file = place.open("wb", buffering=0)  # text comes in large pieces; what is not written is not lost in a buffer

    def write(text: bytes) -> None:
        with _reported(path):
            rest = memoryview(text)
            while rest:
                rest = rest[file.write(rest) or 0 :]

    try:
        yield write
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            with _reported(path):
                os.fsync(file.fileno())
    finally:
        file.close()


@contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever read it has left
        raise
    except OSError as error:
        raise CostdError(f"cannot write {path}: {error.strerror}; nothing of it was kept") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _to_stdout(text: bytes) -> None:
    if sys.stdout.isatty():
        sys.stdout.write("".join(f"{safe(line)}\n" for line in text.decode().split("\n")[:-1]))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
