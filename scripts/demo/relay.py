"""A link that can be cut: a TCP relay on loopback between a sidecar and its hub."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 65_536


class Relay:
    """Passes bytes on between callers of its own port and a server, until it is cut; then it takes no call."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._is_cut = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection and let no new one through."""
        with self._lock:
            self._is_cut = True
            broken = list(self._open)
        for each in broken:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            with self._lock:
                if self._is_cut:
                    caller.close()
                    continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                caller.close()
                continue
            server.settimeout(None)
            pair = {caller, server}
            with self._lock:
                self._open |= pair
            for from_, to in ((caller, server), (server, caller)):
                threading.Thread(target=self._pass_on, args=(from_, to, pair), daemon=True).start()

    def _pass_on(self, from_: socket.socket, to: socket.socket, pair: set[socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while data := from_.recv(_CHUNK):
                to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= pair
