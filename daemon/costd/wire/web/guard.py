"""The guard against browsers: which Host and Origin a request may name.

A web page can make a browser send requests to localhost, directly or through a name of its own that resolves there
(DNS rebinding). The first kind carries the page's Origin, the second its Host; neither is ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from costd.domain.errors import Forbidden

#: Pairs already found good. Callers use a handful; the bound only keeps an odd one from filling memory.
_REMEMBERED = 256


class Guard:
    """Lets a request pass when its Host is loopback or allowed, and its Origin, if any, is that very host."""

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed = frozenset(name.rstrip(".") for name in allowed_hosts)
        self._passed: set[tuple[str | None, str | None]] = set()

    def check(self, host: str | None, origin: str | None) -> None:
        """Raise Forbidden unless the headers `Host` and `Origin` (None where missing) may pass."""
        if (host, origin) in self._passed:
            return
        if host is None or not self._is_ours(host):
            raise Forbidden(
                f"the Host {_shown(host)} is neither loopback nor in http.allowed_hosts; call the daemon as localhost, "
                "or add the name to that setting",
                field="Host",
            )
        if origin is not None and not _same_host(origin, host):
            raise Forbidden(
                f"the Origin {_shown(origin)} is not the host {host}: pages of other sites may not call this daemon",
                field="Origin",
            )
        if len(self._passed) >= _REMEMBERED:
            self._passed.clear()
        self._passed.add((host, origin))

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        if name == "localhost" or name in self._allowed:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or str(address) in self._allowed


def _host_name(host: str) -> str | None:
    """The name in `name`, `name:port`, `[address]` or `[address]:port`, in lower case; None where it is neither."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not (rest[0] == ":" and _is_port(rest[1:]))):
            return None
    else:
        name, colon, port = host.partition(":")
        if colon and not _is_port(port):
            return None
    return name.lower().rstrip(".")


def _is_port(text: str) -> bool:
    return len(text) <= 5 and text.isascii() and text.isdigit()


def _same_host(origin: str, host: str) -> bool:
    # A browser leaves the default port out of both, so the texts are equal exactly when the hosts are.
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme.lower() in {"http", "https"} and rest.lower() == host.lower()


def _shown(value: str | None) -> str:
    return "(none)" if value is None else ascii(value[:100])
