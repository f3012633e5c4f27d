"""The sources' part of AdminService, at a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.services.sources import sources_of
from costd.v1 import source_pb2 as pb

if TYPE_CHECKING:
    from costd.services.services import Services
    from costd.services.sources import SourceReport


class SourcesService:
    """Answers the calls of costd.v1.AdminService that are about sources."""

    def __init__(self, services: Services) -> None:
        self._sources = services.sources

    def create_source(self, caller: Caller, request: pb.CreateSourceRequest) -> pb.CreateSourceResponse:
        """Make a source and its key, or another key for one that is there; returns once it may join."""
        sources, organizations = sources_of(self._sources, caller), tuple(request.organizations)
        if request.renew_key and organizations:
            raise Invalid("organizations", "must not be given with renew_key: those of a source stay as they are")
        made = (
            sources.renew_key(caller, request.name)
            if request.renew_key
            else sources.create(caller, request.name, organizations)
        )
        return pb.CreateSourceResponse(
            id=made.source.public_id,
            name=made.source.name,
            key=made.secret,
            organizations=[name for _, name in made.source.orgs],
        )

    def list_sources(self, caller: Caller, _request: pb.ListSourcesRequest) -> pb.ListSourcesResponse:
        """Every source, and how far it has come."""
        return pb.ListSourcesResponse(sources=map(_source, sources_of(self._sources, caller).list(caller)))

    def forget_source(self, caller: Caller, request: pb.ForgetSourceRequest) -> pb.Source:
        """Forget a source; returns once nobody gets in with its key."""
        return _source(sources_of(self._sources, caller).forget(caller, request.id))


def _source(report: SourceReport) -> pb.Source:
    stored = report.stored
    return pb.Source(
        id=report.source.public_id,
        name=report.source.name,
        organizations=[name for _, name in report.source.orgs],
        state=report.state,
        host=stored.host,
        version=stored.version,
        last_seen_ms=stored.seen_ms or 0,
        watermark=stored.watermark,
        lag_records=report.lag_records,
        lag_ms=report.lag_ms,
        clock_skew_ms=stored.clock_skew_ms,
        records=stored.records,
        duplicates=stored.duplicates,
        quarantined=stored.quarantined,
        lost=stored.lost,
        epochs=stored.epochs,
        problem=report.problem,
        created_ms=stored.created_ms,
    )
