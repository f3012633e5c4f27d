"""How costd says no: a gRPC status, and what it adds for programs in the trailer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from costd_client.v1 import refusal_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_Code = grpc.StatusCode

#: Nobody answers, or not in time: as good as not there.
SILENT = frozenset({_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.CANCELLED, _Code.UNKNOWN})


class Refusal(NamedTuple):
    """`fields` are the paths of wrong fields; `retry_after_s` is None where costd names no time."""

    code: grpc.StatusCode
    fields: tuple[str, ...]
    retry_after_s: float | None

    @property
    def is_silence(self) -> bool:
        """Whether this is no answer of costd's at all."""
        return self.code in SILENT and self.retry_after_s is None


def read(error: grpc.RpcError) -> Refusal:
    """What an error of grpc's says."""
    call: Any = error
    fields: list[str] = []
    retry_after_s = None
    with contextlib.suppress(DecodeError):  # what stands between us and costd may send anything
        for kind, value in _details(call):
            if kind == "google.rpc.BadRequest":
                bad = refusal_pb2.BadRequest.FromString(value)
                fields += [violation.field for violation in bad.field_violations]
            elif kind == "google.rpc.RetryInfo":
                delay = refusal_pb2.RetryInfo.FromString(value).retry_delay
                retry_after_s = delay.seconds + delay.nanos / 1e9
    return Refusal(call.code(), tuple(fields), retry_after_s)


def _details(call: Any) -> Iterator[tuple[str, bytes]]:
    for name, value in call.trailing_metadata() or ():
        if name == _DETAILS_KEY:
            rich = refusal_pb2.RichStatus.FromString(value)
            yield from ((each.type_url.rpartition("/")[2], each.value) for each in rich.details)
