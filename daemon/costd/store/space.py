"""A reserve of disk, given up when the disk is full so that control writes still fit, and taken back later."""

from __future__ import annotations

import logging
import os
from pathlib import Path

RESERVE_NAME = "reserve"

_log = logging.getLogger(__name__)


class DiskReserve:
    """A preallocated file of `size` bytes beside the database; 0 keeps none."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / RESERVE_NAME
        self._size = size
        self.held = False

    def take(self) -> bool:
        """Allocate the reserve; False (and nothing held) when there is no room for it."""
        if self.held or not self._size:
            self.held = True
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:
            self.give_up()
            return False
        self.held = True
        return True

    def give_up(self) -> None:
        """Free the reserve's space."""
        self.held = False
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("cannot remove the disk reserve: %s", error, extra={"path": str(self._path)})
