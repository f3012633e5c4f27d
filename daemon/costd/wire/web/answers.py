"""Answers: how structs, money, times and errors become the bytes of a response."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from costd.domain.money import usd_text

T = TypeVar("T")

#: An amount of USD on its way out: the digits themselves, so that no float and no exponent comes between.
Usd = Annotated[Raw, Meta(description="USD, exact to the nano-dollar.", extra_json_schema={"type": "number"})]
#: A quantity that may have a fraction, likewise.
Number = Annotated[Raw, Meta(extra_json_schema={"type": "number"})]

_encode = msgspec.json.Encoder().encode


class Envelope(Struct, Generic[T], frozen=True, gc=False):
    """The frame of every answer of the dashboard API."""

    success: bool
    data: T
    timestamp: str
    requestId: str  # noqa: N815 - the wire's name


class ErrorDetails(Struct, frozen=True):
    """Which field was wrong, and how."""

    field: str
    reason: str


class ErrorBody(Struct, frozen=True):
    """Every error of every surface; `retryAfter` is in seconds and there where trying again makes sense."""

    success: bool
    error: str
    message: str
    code: str
    details: ErrorDetails | None
    requestId: str  # noqa: N815 - the wire's name
    retryAfter: int | UnsetType = UNSET  # noqa: N815 - the wire's name


class Answer:
    """An answer that is not plainly a struct with status 200."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, body: bytes, *, status: int = 200, content_type: str = "application/json") -> None:
        self.body = body
        self.status = status
        self.content_type = content_type


def encode(value: Any) -> bytes:
    """A struct (or plain values) as JSON."""
    return _encode(value)


def money(nano: int) -> Raw:
    """An amount in nano-USD as a JSON number in USD."""
    return Raw(usd_text(nano).encode())


def money_or_null(nano: int | None) -> Raw | None:
    """The same, null where there is no price."""
    return None if nano is None else Raw(usd_text(nano).encode())


def rfc3339(at_ms: int) -> str:
    """UTC milliseconds as "2026-01-15T10:30:00.000Z"."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
