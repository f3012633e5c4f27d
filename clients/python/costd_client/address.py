"""Where costd is: its address as people write it, and whether the way there is safe for a key."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import NamedTuple

import grpc

DEFAULT_ADDRESS = "127.0.0.1:7430"


class Target(NamedTuple):
    """How to connect: gRPC's own form of the address, and credentials where it is TLS."""

    address: str
    credentials: grpc.ChannelCredentials | None


def target(address: str | None, *, ca: str | os.PathLike[str] | None, tls: bool | None) -> Target:
    """What to connect to; COSTD_ADDRESS where `address` is None.

    `unix:PATH` and loopback are plain text unless `tls` or `ca` ask for TLS; beyond loopback it is TLS unless `tls` is
    False. `ca` is a PEM file with the authorities to trust. Raises ValueError for an address that is none, OSError
    where `ca` cannot be read.
    """
    said = address if address is not None else os.environ.get("COSTD_ADDRESS") or DEFAULT_ADDRESS
    if not isinstance(said, str):
        raise TypeError(f"address must be a str, not {type(said).__name__}")
    if tls is False and ca is not None:
        raise ValueError("ca is for TLS, and tls=False asks for none")
    if said.startswith("unix:"):
        if tls or ca is not None:
            raise ValueError("a unix socket has no TLS: leave tls and ca out")
        return Target(said, None)
    host = _host(said)
    if tls or ca is not None or (tls is None and not _is_loopback(host)):
        return Target(said, grpc.ssl_channel_credentials(None if ca is None else Path(ca).read_bytes()))
    return Target(said, None)


def _host(address: str) -> str:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%a-z]+\]|[^\[\]:/\s]+):([0-9]{1,5})", address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError(f'address is {address!r}; it must be "host:port", "[ipv6]:port" or "unix:/path"')
    return found[1].strip("[]")


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata that carries the key; COSTD_KEY where `key` is None, nothing where there is none."""
    said = key if key is not None else os.environ.get("COSTD_KEY", "")
    if not isinstance(said, str):
        raise TypeError(f"key must be a str, not {type(said).__name__}")
    if not (said.isascii() and said.isprintable()):
        raise ValueError("key must be a key as `costd keys create` prints it")
    return (("authorization", f"Bearer {said}"),) if said else ()
