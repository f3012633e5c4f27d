"""QueryService: exports, and records as they come."""

from __future__ import annotations

from collections.abc import Iterator

from costd.domain.access import Caller
from costd.domain.errors import Unavailable
from costd.v1 import records_pb2


class RecordsService:
    """Answers the methods of costd.v1.QueryService that send many records."""

    def export(self, caller: Caller, _request: records_pb2.ExportRequest) -> Iterator[records_pb2.ExportChunk]:
        """Records as text, a piece at a time."""
        caller.require("read")
        raise Unavailable("exports are not there yet")

    def tail(self, caller: Caller, _request: records_pb2.TailRequest) -> Iterator[records_pb2.TailMessage]:
        """Records as they come."""
        caller.require("read")
        raise Unavailable("live records are not there yet")
