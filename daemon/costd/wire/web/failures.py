"""Failures: how a refusal becomes the one error body, in the manner of the surface it happened on."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from costd.domain.errors import Forbidden, Invalid, NotFound, Refused
from costd.wire.status import INTERNAL_MESSAGE, retry_after_s, status_of
from costd.wire.web.answers import ErrorBody, ErrorDetails

#: On these paths `error` is the status phrase, as their documents show; elsewhere it is the sentence for people.
_PHRASE_PREFIXES = ("/v1/", "/cost-tracker/", "/api/ingest")
_MAX_FIELD = 256


class MethodNotAllowed(NotFound):
    """The path exists, but not for this method."""

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{method} is not possible on {path}; allowed are {allowed}")
        self.allowed = allowed


class Required(Invalid):
    """What a request must have is missing or not of its kind; says the whole form ("Required: amount (number), …")."""

    def __init__(self, field: str, reason: str, form: str) -> None:
        super().__init__(field, reason)
        self.args = (f"Required: {form}",)


def http_status(error: BaseException) -> int:
    """The status of a failure."""
    return 405 if isinstance(error, MethodNotAllowed) else status_of(error).http


def error_body(error: BaseException, path: str, field_names: Mapping[str, str], request_id: str) -> ErrorBody:
    """The body of a failure on `path`; `field_names` maps the domain's names of fields to that surface's."""
    status = status_of(error)
    details, message = explain(error, field_names)
    phrase = "Method not allowed" if isinstance(error, MethodNotAllowed) else status.phrase
    return ErrorBody(
        success=False,
        error=phrase if path.startswith(_PHRASE_PREFIXES) else message,
        message=message,
        code=status.code,
        details=details,
        requestId=request_id,
        retryAfter=retry_after_s(error) or UNSET,
    )


def explain(error: BaseException, field_names: Mapping[str, str]) -> tuple[ErrorDetails | None, str]:
    """The field that was wrong, if it was a field, and the sentence for people."""
    if not isinstance(error, Refused):
        return None, INTERNAL_MESSAGE
    if isinstance(error, Invalid):
        field = _sound(field_name(error.field, field_names)[:_MAX_FIELD])
        reason = _sound(error.reason)
        own_sentence = isinstance(error, Required) or not field
        details = ErrorDetails(field, reason) if field else None
        return details, _sound(error.message) if own_sentence else f"{field}: {reason}"
    message = _sound(error.message)
    if isinstance(error, Forbidden) and error.field:
        return ErrorDetails(field_name(error.field, field_names), message), message
    return None, message


def field_name(field: str, field_names: Mapping[str, str]) -> str:
    """A field under its surface's name: looked up whole, else by its first part."""
    if field in field_names:
        return field_names[field]
    head, dot, rest = field.partition(".")
    return field_names.get(head, head) + dot + rest


def _sound(text: str) -> str:
    """Text that can be encoded: what callers sent may hold lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
