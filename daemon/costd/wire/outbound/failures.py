"""What a failed call to the hub means: the hub's own words, whether it refuses us, and when to come again."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from costd.domain.link import LinkBroken
from costd.wire.rpc.refusals import DETAILS_KEY

_REFUSED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_WORDS = {
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "busy",
    grpc.StatusCode.UNAUTHENTICATED: "refused",
    grpc.StatusCode.PERMISSION_DENIED: "refused",
    grpc.StatusCode.INVALID_ARGUMENT: "protocol",
    grpc.StatusCode.ALREADY_EXISTS: "lineage",
    grpc.StatusCode.UNIMPLEMENTED: "protocol",
    grpc.StatusCode.FAILED_PRECONDITION: "protocol",
    grpc.StatusCode.CANCELLED: "closed",
}


def broken(error: Any, address: str) -> LinkBroken:
    """What a call's failure, a grpc.RpcError that is a grpc.Call too, is to whoever travels the road."""
    code = error.code()
    details = error.details() or ""
    message = details if code in _WORDS and code is not grpc.StatusCode.CANCELLED else f"{code.name}: {details}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"what answers at {address} is no hub (`costd hub` starts one)"
    if code is grpc.StatusCode.UNAVAILABLE and "costd" not in details and "hub" not in details:
        message = f"no hub answers at {address}: {details}"
    return LinkBroken(
        " ".join(message.split())[:500],
        reason=_WORDS.get(code, "away"),
        refused=code in _REFUSED,
        retry_after_s=_retry_after_s(error),
    )


def _retry_after_s(error: Any) -> float | None:
    """The pause that the hub asks for (google.rpc.RetryInfo)."""
    for name, value in error.trailing_metadata() or ():
        if name == DETAILS_KEY and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                retry = RetryInfo()
                if detail.Unpack(retry):
                    return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None
