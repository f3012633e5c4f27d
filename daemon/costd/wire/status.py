"""How each refusal is said on the wire: one table from domain errors to gRPC status, HTTP status and code."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

import grpc

from costd.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OutOfSpace,
    Overloaded,
    RateLimited,
    Refused,
    Retryable,
    TooLarge,
    Unauthenticated,
    Unavailable,
)


class Status(NamedTuple):
    """One outcome on both doors: `code` is the word in HTTP's error body, `phrase` its short form for people."""

    grpc: grpc.StatusCode
    http: int
    code: str
    phrase: str


#: What is not in the table is our own fault: sqlite3's errors, bugs, a damaged database.
INTERNAL = Status(grpc.StatusCode.INTERNAL, 500, "INTERNAL_ERROR", "Internal server error")

#: What a caller reads about an error that is our own fault; the log has the rest.
INTERNAL_MESSAGE = "costd failed to answer this request; its log says why"

_C = grpc.StatusCode
STATUSES = MappingProxyType(
    {
        Refused: Status(_C.FAILED_PRECONDITION, 400, "VALIDATION_ERROR", "Bad request"),
        Invalid: Status(_C.INVALID_ARGUMENT, 400, "VALIDATION_ERROR", "Bad request"),
        Unauthenticated: Status(_C.UNAUTHENTICATED, 401, "AUTHENTICATION_ERROR", "Unauthorized"),
        Forbidden: Status(_C.PERMISSION_DENIED, 403, "AUTHORIZATION_ERROR", "Forbidden"),
        NotFound: Status(_C.NOT_FOUND, 404, "NOT_FOUND", "Not found"),
        Conflict: Status(_C.ALREADY_EXISTS, 409, "CONFLICT", "Conflict"),
        # gRPC has no status of its own for it; unlike a load that passes, the same message will never fit.
        TooLarge: Status(_C.INVALID_ARGUMENT, 413, "PAYLOAD_TOO_LARGE", "Payload too large"),
        Retryable: Status(_C.UNAVAILABLE, 503, "UNAVAILABLE", "Service unavailable"),
        RateLimited: Status(_C.RESOURCE_EXHAUSTED, 429, "RATE_LIMIT_EXCEEDED", "Too many requests"),
        Overloaded: Status(_C.RESOURCE_EXHAUSTED, 503, "UNAVAILABLE", "Service unavailable"),
        OutOfSpace: Status(_C.UNAVAILABLE, 503, "DATABASE_ERROR", "Service unavailable"),
        Unavailable: Status(_C.UNAVAILABLE, 503, "UNAVAILABLE", "Service unavailable"),
    }
)


def status_of(error: BaseException) -> Status:
    """How `error` is said: by its class, else by the nearest of its bases in the table, else INTERNAL."""
    for kind in type(error).__mro__:
        if (status := STATUSES.get(kind)) is not None:
            return status
    return INTERNAL


def retry_after_s(error: BaseException) -> int | None:
    """Whole seconds, at least one, after which to try again; None where trying again does not help."""
    if isinstance(error, Retryable):
        return max(1, math.ceil(error.retry_after_s))
    return None
