"""Tells the service manager how the daemon is: the notification protocol of systemd, over a datagram socket.

Source: sd_notify(3), sd_watchdog_enabled(3). Without `$NOTIFY_SOCKET` nobody is told and nothing is done.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

#: How long the manager's own queue may keep the daemon waiting: it only ever fills up while the manager restarts.
_SEND_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)


class Manager:
    """The service manager that started this process, if one did.

    `ping_every_s` is half of the time after which it gives the daemon up; None where it does not watch.
    """

    def __init__(self, address: str, ping_every_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.ping_every_s = ping_every_s if address else None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Manager:
        """The manager that the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID tell of."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address and not address.startswith(("/", "@")):
            _log.warning("NOTIFY_SOCKET = %r is no unix socket; the service manager is not told anything", address)
            address = ""
        limit_us = environ.get("WATCHDOG_USEC", "")
        is_meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watches = is_meant and limit_us.isascii() and limit_us.isdigit() and int(limit_us) > 0
        return cls(address, int(limit_us) / 2_000_000 if watches else None)

    def ready(self, status: str) -> None:
        """The doors are open."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def stopping(self) -> None:
        """A stop has begun."""
        self._send("STOPPING=1\nSTATUS=committing what was accepted")

    def status(self, text: str) -> None:
        """A line for whoever looks at the service."""
        self._send(f"STATUS={_one_line(text)}")

    def ping(self) -> None:
        """The daemon makes progress; left out for two intervals, the manager restarts it."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_TIMEOUT_S)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            _log.warning("cannot tell the service manager %r: %s", message.partition("\n")[0], error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
