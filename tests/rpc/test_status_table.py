"""The table of statuses: complete, and as the contracts say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import grpc
import pytest

from costd.domain import errors
from costd.wire.status import INTERNAL, STATUSES, retry_after_s, status_of


def descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_refusal_is_in_the_table() -> None:
    """A new error class without a line in the table would reach callers as its base's status."""
    ours = {kind for kind in descendants(errors.Refused) if kind.__module__ == errors.__name__}
    assert ours | {errors.Refused} == set(STATUSES)


@pytest.mark.parametrize(
    ("error", "code", "http", "word"),
    [
        (errors.Invalid("model", "is required"), grpc.StatusCode.INVALID_ARGUMENT, 400, "VALIDATION_ERROR"),
        (errors.Unauthenticated(), grpc.StatusCode.UNAUTHENTICATED, 401, "AUTHENTICATION_ERROR"),
        (errors.Forbidden(), grpc.StatusCode.PERMISSION_DENIED, 403, "AUTHORIZATION_ERROR"),
        (errors.NotFound(), grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND"),
        (errors.Conflict(), grpc.StatusCode.ALREADY_EXISTS, 409, "CONFLICT"),
        (errors.TooLarge(), grpc.StatusCode.INVALID_ARGUMENT, 413, "PAYLOAD_TOO_LARGE"),
        (errors.RateLimited(), grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "RATE_LIMIT_EXCEEDED"),
        (errors.Overloaded(), grpc.StatusCode.RESOURCE_EXHAUSTED, 503, "UNAVAILABLE"),
        (errors.OutOfSpace(), grpc.StatusCode.UNAVAILABLE, 503, "DATABASE_ERROR"),
        (errors.Unavailable(), grpc.StatusCode.UNAVAILABLE, 503, "UNAVAILABLE"),
        (sqlite3.OperationalError("no such table"), grpc.StatusCode.INTERNAL, 500, "INTERNAL_ERROR"),
        (errors.DamagedDatabase(), grpc.StatusCode.INTERNAL, 500, "INTERNAL_ERROR"),
        (KeyError("x"), grpc.StatusCode.INTERNAL, 500, "INTERNAL_ERROR"),
    ],
)
def test_statuses_are_those_of_the_contracts(error: Exception, code: grpc.StatusCode, http: int, word: str) -> None:
    """Both doors say the same about the same error."""
    status = status_of(error)
    assert (status.grpc, status.http, status.code) == (code, http, word)


def test_a_subclass_is_said_as_its_base() -> None:
    """Errors of other modules that refine one of ours need no line of their own."""

    class TooMuch(errors.Conflict):
        """More."""

    assert status_of(TooMuch()) is STATUSES[errors.Conflict]
    assert status_of(Exception()) is INTERNAL


def test_a_retry_time_is_whole_seconds_and_never_zero() -> None:
    """Retry-After: 0 would invite a storm."""
    assert retry_after_s(errors.Overloaded(retry_after_s=0.01)) == 1
    assert retry_after_s(errors.OutOfSpace(retry_after_s=4.2)) == 5
    assert retry_after_s(errors.Invalid("a", "b")) is None
