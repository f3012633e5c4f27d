"""Addresses and host names as settings: where a door listens, where a daemon elsewhere is, what a host is called."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from costd.settings import text_of

_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


class Address(NamedTuple):
    """Where a door listens; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost may resolve to anything, so it is not."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class HostNames:
    """A list of host names; as text, separated by commas."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "NAME,…"

    @property
    def allowed(self) -> str:
        """The form."""
        return "must be a list of host names or IP addresses, without scheme, port or wildcard"

    def read(self, raw: object, *, is_text: bool) -> tuple[str, ...]:
        """The names in lower case."""
        if is_text:
            raw = [part for part in text_of(raw).split(",") if part.strip()]
        if not isinstance(raw, Sequence) or isinstance(raw, str):
            raise TypeError(raw)
        return tuple(read_host(text_of(name)) for name in raw)

    def show(self, value: object) -> object:
        """A list."""
        return list(value) if isinstance(value, tuple) else value


def read_host(text: str) -> str:
    """A host name or IP address in its usual form, without brackets; else ValueError."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if bare != text or not _HOST_NAME.fullmatch(text):
            raise ValueError(text) from None
    return text.lower()


@dataclass(frozen=True)
class Listener:
    """An address to listen at, and "off" where that is allowed."""

    may_be_off: bool

    @property
    def metavar(self) -> str:
        """For help."""
        return "ADDR"

    @property
    def allowed(self) -> str:
        """The forms."""
        off = ', or "off"' if self.may_be_off else ""
        return f'must be "host:port" or "[ipv6]:port" with a port from 0 to 65535 (0: any free one){off}'

    def read(self, raw: object, *, is_text: bool) -> Address | None:
        """The address; None for off."""
        text = text_of(raw)
        if self.may_be_off and text.lower() == "off":
            return None
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(text)
        if ":" in host and not host.startswith("["):  # "::1:7430" could mean two things
            raise ValueError(text)
        return Address(read_host(host), int(port))

    def show(self, value: object) -> object:
        """As it is written."""
        return "off" if value is None else str(value)


@dataclass(frozen=True)
class Remote:
    """The address of a daemon elsewhere."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "ADDR"

    @property
    def allowed(self) -> str:
        """The forms."""
        return 'must be "host:port" or "[ipv6]:port" with a port from 1 to 65535'

    def read(self, raw: object, *, is_text: bool) -> Address:
        """The address."""
        address = Listener(may_be_off=False).read(raw, is_text=is_text)
        if address is None or address.port == 0:
            raise ValueError(raw)
        return address

    def show(self, value: object) -> object:
        """As it is written."""
        return None if value is None else str(value)
