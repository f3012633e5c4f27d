"""QueryService: reports and single records."""

from __future__ import annotations

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.usage import check_string
from costd.services.reports import Reports
from costd.services.spending import Spending
from costd.v1 import query_pb2
from costd.wire.rpc import convert

#: What reports call a field, and its name in a request of ours.
_FIELDS = {"since": "since_ms", "until": "until_ms"}


class QueryService:
    """Answers costd.v1.QueryService."""

    def __init__(self, reports: Reports, spending: Spending) -> None:
        self._reports = reports
        self._spending = spending

    def summarize(self, caller: Caller, request: query_pb2.SummarizeRequest) -> query_pb2.SummarizeResponse:
        """Totals by dimensions and time."""
        try:
            summary = self._reports.summarize(
                caller,
                tuple(request.group_by),
                request.since_ms if request.HasField("since_ms") else None,
                request.until_ms if request.HasField("until_ms") else None,
                dict(request.filters),
                request.bucket,
            )
        except Invalid as refusal:
            raise refusal.renamed(_FIELDS.get(refusal.field, refusal.field)) from None
        return query_pb2.SummarizeResponse(
            rows=map(convert.summary_row, summary.rows), total=convert.totals(summary.total)
        )

    def list_events(self, caller: Caller, request: query_pb2.ListEventsRequest) -> query_pb2.ListEventsResponse:
        """Single records, newest first."""
        page = self._reports.list_events(caller, request.id, request.cursor, request.limit)
        return query_pb2.ListEventsResponse(events=map(convert.event, page.events), next_cursor=page.next_cursor)

    def burn_rate(self, caller: Caller, request: query_pb2.BurnRateRequest) -> query_pb2.BurnRateResponse:
        """What is being spent in an hour and in a day."""
        check_string(request.provider, "provider")
        found = self._spending.burn_rate(caller, request.hours, request.provider)
        return query_pb2.BurnRateResponse(
            since_ms=found.since_ms,
            until_ms=found.until_ms,
            hours=found.hours,
            total=convert.burn("", found.total, found.hours),
            providers=[convert.burn(row.names[0], row.spend, found.hours) for row in found.providers],
            exact=found.exact,
        )
