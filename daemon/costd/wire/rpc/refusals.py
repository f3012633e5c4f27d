"""Errors as gRPC says them: a status, a sentence, and google.rpc details that a program can act on.

The details travel as google.rpc.Status in the trailer `grpc-status-details-bin`
(https://grpc.io/docs/guides/error/#richer-error-model): BadRequest names the field, RetryInfo says when to try again.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus

from costd.domain.errors import Refused, Retryable
from costd.wire.status import INTERNAL, INTERNAL_MESSAGE, status_of

DETAILS_KEY = "grpc-status-details-bin"

#: Bytes of a sentence and of a field's name. Trailers may hold 8 KiB; the sentence is in them twice, once
#: percent-encoded and once in base64, and a caller whose trailers are too large sees another error than ours.
MAX_SENTENCE_BYTES = 1024
MAX_FIELD_BYTES = 256

_log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a call ends that was refused, or failed."""

    code: grpc.StatusCode
    sentence: str
    trailers: tuple[tuple[str, bytes], ...] = ()


def ending_of(error: Exception) -> Ending:
    """What `error` says; where it is none of ours it is logged, and its caller learns only that there was one."""
    status = status_of(error)
    if status is INTERNAL or not isinstance(error, Refused):
        _log.error("a call failed", exc_info=error)
        return Ending(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    sentence = clip(error.message, MAX_SENTENCE_BYTES)
    return Ending(status.grpc, sentence, ((DETAILS_KEY, rich_status(error, status.grpc, sentence)),))


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End the call with what `error` says; raises what ends a grpcio handler."""
    code, sentence, trailers = ending_of(error)
    context.set_trailing_metadata(trailers)
    context.abort(code, sentence)


def rich_status(error: Refused, code: grpc.StatusCode, sentence: str) -> bytes:
    """google.rpc.Status, serialised."""
    rich = RpcStatus(code=code.value[0], message=sentence)
    for detail in _details(error):
        packed = AnyMessage()
        packed.Pack(detail)
        rich.details.append(packed)
    return bytes(rich.SerializeToString())


def _details(error: Refused) -> list[Message]:
    details: list[Message] = []
    field = getattr(error, "field", "")
    if field:
        reason = clip(getattr(error, "reason", error.message), MAX_SENTENCE_BYTES)
        violation = BadRequest.FieldViolation(field=clip(field, MAX_FIELD_BYTES), description=reason)
        details.append(BadRequest(field_violations=[violation]))
    if isinstance(error, Retryable):
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(error.retry_after_s * 1_000_000_000))
        details.append(retry)
    return details


def clip(text: str, max_bytes: int) -> str:
    """`text`, cut to at most `max_bytes` of UTF-8, with an ellipsis where something is missing."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "…"
