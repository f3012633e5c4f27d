"""Checks that a daemon could listen where it is told to."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from costd.addresses import Address
from costd.domain.finding import FAIL, OK, Finding

_WHY = {
    errno.EADDRINUSE: ("is taken by another program", "stop it (`ss -ltnp` names it), or choose another port"),
    errno.EACCES: ("is not for this user", "take a port from 1024 on"),
    errno.EADDRNOTAVAIL: ("is no address of this machine", "name one that it has"),
}


def check_ports(listeners: dict[str, Address | None]) -> list[Finding]:
    """Bind to each address for a moment; `listeners` are settings by their names, None for a door that is off."""
    found = []
    for name, address in listeners.items():
        if address is None:
            found.append(Finding(name, OK, "off"))
        elif not address.port:
            found.append(Finding(name, OK, f"{address}: any free port"))
        else:
            found.append(_check(name, address))
    return found


def _check(name: str, address: Address) -> Finding:
    try:
        family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except socket.gaierror as error:
        return Finding(name, FAIL, f"{address} is a name that leads nowhere ({error.strerror})", "name an address")
    except OSError as error:
        why, advice = _WHY.get(error.errno or 0, (error.strerror or str(error), f"change {name}"))
        return Finding(name, FAIL, f"{address} {why}", advice)
    return Finding(name, OK, f"{address} is free")


def check_socket(path: Path | None) -> list[Finding]:
    """Whether the unix socket is free."""
    if path is None:
        return [Finding("grpc.socket", OK, "off")]
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except OSError:
        return [Finding("grpc.socket", OK, f"{path} is free")]
    return [Finding("grpc.socket", FAIL, f"another program answers at {path}", "stop it, or choose another path")]
