"""Addresses and host names as settings: where a door listens, where a daemon elsewhere is, what a host is called."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from costd.settings import text_of

MAX_URL_CHARS = 2_000
#: No more than what every mail server takes; names before an address are left to mail programs.
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)

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


@dataclass(frozen=True)
class Url:
    """The address of something on the web."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "URL"

    @property
    def allowed(self) -> str:
        """The form."""
        return "must be a URL that begins with https:// or http://, without a fragment"

    def read(self, raw: object, *, is_text: bool) -> str:
        """The URL as given."""
        text = text_of(raw)
        if len(text) > MAX_URL_CHARS or not text.isascii() or not text.isprintable() or " " in text or "#" in text:
            raise ValueError
        parts = urlsplit(text)
        if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
            raise ValueError
        _ = parts.port  # ValueError where it is none
        return text

    def show(self, value: object) -> object:
        """Itself; whoever shows a secret one hides it."""
        return value


@dataclass(frozen=True)
class MailAddresses:
    """Addresses of mail; as text, separated by commas."""

    most: int

    @property
    def metavar(self) -> str:
        """For help."""
        return "MAIL" if self.most == 1 else "MAIL,…"

    @property
    def allowed(self) -> str:
        """The form."""
        if self.most == 1:
            return 'must be an address of mail like "costd@example.com", without a name before it'
        return f"must be a list of at most {self.most} addresses of mail, without names before them"

    def read(self, raw: object, *, is_text: bool) -> tuple[str, ...]:
        """The addresses as given."""
        if isinstance(raw, str) and (is_text or self.most == 1):
            raw = [part for part in text_of(raw).split(",") if part.strip()]
        if not isinstance(raw, Sequence) or isinstance(raw, str):
            raise TypeError(raw)
        addresses = tuple(text_of(address) for address in raw)
        if len(addresses) > self.most or not all(_MAIL_ADDRESS.fullmatch(address) for address in addresses):
            raise ValueError(raw)
        return addresses

    def show(self, value: object) -> object:
        """A list."""
        return list(value) if isinstance(value, tuple) else value


def is_in_the_clear(url: str | None) -> bool:
    """Whether what is sent to a URL can be read on its way: without TLS, and not to this machine itself."""
    parts = urlsplit(url or "")
    return parts.scheme.lower() == "http" and not Address(parts.hostname or "", 0).is_loopback
