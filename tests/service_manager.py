"""A service manager for tests: the socket that systemd would listen at, and what a daemon told it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ServiceManager:
    """Listens at a socket of its own; `variables` are what it gives the services it starts."""

    def __init__(self, listener: socket.socket, address: str, watchdog_s: float | None) -> None:
        self._listener = listener
        self.variables = {"NOTIFY_SOCKET": address}
        if watchdog_s is not None:
            self.variables["WATCHDOG_USEC"] = str(round(watchdog_s * 1_000_000))

    def message(self, timeout_s: float = 10.0) -> dict[str, str]:
        """The next message's assignments; TimeoutError where none comes."""
        self._listener.settimeout(timeout_s)
        lines = self._listener.recv(1 << 16).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, name: str, part: str = "", timeout_s: float = 20.0) -> dict[str, str]:
        """The next message that assigns `name` something with `part` in it; TimeoutError where none comes."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.message(max(0.001, deadline - time.monotonic()))
            if name in found and part in found[name]:
                return found

    def is_pinged(self, within_s: float) -> bool:
        """Whether a ping that is not sent yet comes in that time."""
        self.forget()
        try:
            self.until("WATCHDOG", "1", within_s)
        except TimeoutError:
            return False
        return True

    def forget(self) -> None:
        """Drop what has come so far."""
        self._listener.settimeout(0)
        try:
            while True:
                self._listener.recv(1 << 16)
        except BlockingIOError:
            pass


@contextmanager
def managing(folder: Path, watchdog_s: float | None = None, address: str = "") -> Iterator[ServiceManager]:
    """A service manager that listens at `folder`/notify, or at the abstract `address` ("@…")."""
    written = address or str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address else written)
        yield ServiceManager(listener, written, watchdog_s)
