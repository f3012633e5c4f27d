"""The unix socket's file: for its owner alone, and never taken from a living daemon. gRPC removes it at the end."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from costd.domain.errors import SetupError
from costd.store.folder import refuse_trap

_PROBE_TIMEOUT_S = 1.0


class SocketFile:
    """The file at `path`: make_way(), then bind under private()."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make_way(self) -> None:
        """Make the folder, and remove the socket of a daemon that is gone; SetupError for anything else there.

        gRPC itself removes whatever socket it finds, a living daemon's too.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_trap(self.path.parent)
            if not self._is_there():
                return
            if self._answers():
                raise SetupError(f"grpc.socket: another daemon answers at {self.path}; stop it or choose another path")
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise SetupError(f"grpc.socket: cannot use {self.path}: {error.strerror}") from error

    def _is_there(self) -> bool:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISSOCK(mode):
            raise SetupError(f"grpc.socket: {self.path} is there and is no socket; move it or choose another path")
        return True

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_TIMEOUT_S)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except TimeoutError:  # its backlog is full: somebody is there
                return True
        return True

    @contextmanager
    def private(self) -> Iterator[None]:
        """Whatever is bound here is its owner's alone from its first moment."""
        before = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(before)
        self.path.chmod(0o600)
