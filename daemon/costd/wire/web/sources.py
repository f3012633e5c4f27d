"""`/api/sources`: the sidecars of a hub, and how far each has come."""

from __future__ import annotations

from msgspec import Struct

from costd.domain.link import CONNECTED
from costd.services.sources import SourceReport, sources_of
from costd.wire.web.answers import Envelope, rfc3339
from costd.wire.web.route import Call, Route


class Source(Struct, frozen=True, rename="camel"):
    """One sidecar of this hub; what it has not said yet is null, as is its lag while it is not connected."""

    id: str
    name: str
    organizations: list[str]
    state: str
    host: str | None
    version: str | None
    last_seen: str | None
    watermark: int
    lag_records: int | None
    lag_seconds: float | None
    clock_skew_ms: int
    records: int
    duplicates: int
    quarantined: int
    lost: int
    epochs: int
    problem: str | None
    created: str


class SourceList(Struct, frozen=True):
    """The sidecars of this hub by name."""

    sources: list[Source]


def source_routes() -> list[Route]:
    """What a hub tells of its sources."""
    return [
        Route(
            "GET",
            "/api/sources",
            list_sources,
            "The sidecars of this hub, and how far each has come",
            Envelope[SourceList],
            role="admin",
        )
    ]


async def list_sources(call: Call) -> object:
    """Every source by name."""
    found: list[SourceReport] = await call.read(sources_of(call.services.sources, call.caller).list, call.caller)
    return call.envelope(SourceList([_source(report) for report in found]))


def _source(report: SourceReport) -> Source:
    stored = report.stored
    return Source(
        id=report.source.public_id,
        name=report.source.name,
        organizations=[name for _, name in report.source.orgs],
        state=report.state,
        host=stored.host or None,
        version=stored.version or None,
        last_seen=None if stored.seen_ms is None else rfc3339(stored.seen_ms),
        watermark=stored.watermark,
        lag_records=report.lag_records if report.state == CONNECTED else None,
        lag_seconds=report.lag_ms / 1000 if report.state == CONNECTED else None,
        clock_skew_ms=stored.clock_skew_ms,
        records=stored.records,
        duplicates=stored.duplicates,
        quarantined=stored.quarantined,
        lost=stored.lost,
        epochs=stored.epochs,
        problem=report.problem or None,
        created=rfc3339(stored.created_ms),
    )
