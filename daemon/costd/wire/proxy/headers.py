"""Headers on their way through: what goes upstream, what comes back, and whose keys are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from multidict import CIMultiDict, CIMultiDictProxy

#: Of one connection alone (RFC 9110, 7.6.1); what a Connection header names besides is too.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Made anew for the way upstream.
_MADE_ANEW = frozenset({"host", "content-length", "expect"})
#: Costd's own, and the keys, which are put in again where they belong.
_OURS = frozenset({"authorization", "x-provider-key", "x-api-key", "api-key", "x-sandbox"})

#: What goes on from /proxy/SLUG: the rest of a caller's headers is none of the provider's business there.
_OF_A_SLUG = frozenset(
    {
        "x-app",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "content-type",
        "content-encoding",
        "x-api-key",
        "authorization",
    }
)
_BEGINNINGS_OF_A_SLUG = ("anthropic-", "x-stainless-")

ANTHROPIC_VERSION = "2023-06-01"

Headers = CIMultiDict[str]
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def onward(headers: CIMultiDictProxy[str]) -> Headers:
    """What goes upstream of a caller's headers, but for keys."""
    dropped = _HOP_BY_HOP | _MADE_ANEW | _OURS | _named(headers.getall("Connection", ()))
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def onward_from_slug(headers: CIMultiDictProxy[str]) -> Headers:
    """The same at a proxy endpoint, where the caller's own keys go with it."""
    return CIMultiDict((name, value) for name, value in headers.items() if _goes_on(name.lower()))


def _goes_on(name: str) -> bool:
    return name in _OF_A_SLUG or name.startswith(_BEGINNINGS_OF_A_SLUG)


def with_key(headers: Headers, dialect: str, provider: str, key: str) -> None:
    """Put a provider's key where the provider looks for it."""
    if dialect == "anthropic":
        headers["x-api-key"] = key
    elif provider == "azure":
        headers["api-key"] = key
    else:
        headers["Authorization"] = f"Bearer {key}"


def backward(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What goes back to the caller of an upstream's headers, in their order."""
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in raw]
    dropped = _HOP_BY_HOP | _named(value for name, value in pairs if name.lower() == "connection")
    return CIMultiDict((name, value) for name, value in pairs if name.lower() not in dropped)


def _text(value: bytes) -> str:
    """A value as the server's writer, which encodes as UTF-8, makes the same bytes of it, if it is UTF-8.

    The writer refuses control characters, so they are left out.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text if text.isprintable() else _CONTROL.sub("", text)


def _named(values: Iterable[str]) -> frozenset[str]:
    return frozenset(_names(values))


def _names(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        for name in value.split(","):
            yield name.strip().lower()
