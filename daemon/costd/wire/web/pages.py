"""Pages for operators and machines: health, tracking health, metrics, the OpenAPI document."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST

from costd.domain.errors import CostdError
from costd.domain.link import LinkReport
from costd.services.health import HealthReport
from costd.wire.web.answers import Answer, encode, rfc3339
from costd.wire.web.dashboard_structs import (
    Buffer,
    DatabaseHealth,
    Health,
    HealthData,
    HubHealth,
    ProviderFreshness,
    TrackingErrors,
    TrackingHealth,
)
from costd.wire.web.route import Call

#: Longer than any healthy read takes; probes usually wait for less than a few seconds.
_PING_TIMEOUT_S = 2.0

METRICS_TYPE = CONTENT_TYPE_LATEST


async def health(call: Call) -> object:
    """Whether records are taken and the database answers; 503 where not."""
    latency_ms = await _ping(call)
    report = call.services.health.report()
    problems = list(report.problems) if latency_ms is not None else [*report.problems, "the database does not answer"]
    healthy = not problems
    status = "healthy" if healthy else "unhealthy"
    content = Health(
        success=healthy,
        status="ok" if healthy else "error",
        db_latency_ms=latency_ms,
        data=HealthData(
            status=status,
            database=DatabaseHealth(healthy=latency_ms is not None, latency_ms=latency_ms),
            services={"api": "healthy", "writer": "healthy" if report.ready else "unhealthy"},
            problems=problems,
        ),
        timestamp=rfc3339(call.services.clock.now_ms()),
        request_id=call.request_id,
    )
    return Answer(encode(content), status=200 if healthy else 503)


async def _ping(call: Call) -> float | None:
    """Milliseconds that a read takes; None where it fails."""
    try:
        async with asyncio.timeout(_PING_TIMEOUT_S):
            seconds: float = await call.read(call.services.health.ping_database)
    except (CostdError, TimeoutError):
        return None
    return round(seconds * 1000, 3)


async def tracking_health(call: Call) -> object:
    """How well records get in and on to the hub: the buffer, freshness and what went wrong."""
    report = call.services.health.report()
    link: LinkReport | None = await call.read(call.services.link.report)
    unforwarded = call.services.link.problem()
    freshness = call.services.reports.freshness(call.caller)
    return call.envelope(
        TrackingHealth(
            status="unhealthy" if not report.ready else "degraded" if unforwarded else "healthy",
            buffer=_buffer(report, link, call.services.clock.now_ms()),
            hub=None if link is None else _hub(link),
            data_freshness=freshness.overall,
            last_updated=None if freshness.newest_ms is None else rfc3339(freshness.newest_ms),
            providers={
                provider: ProviderFreshness(rfc3339(newest_ms), word)
                for provider, (newest_ms, word) in freshness.providers.items()
            },
            errors=TrackingErrors(
                failed_commits=report.errors,
                rejected_records=report.rejected,
                last_error=report.last_error or None,
            ),
            problems=[*report.problems, *filter(None, [unforwarded])],
        )
    )


def _buffer(report: HealthReport, link: LinkReport | None, now_ms: int) -> Buffer:
    oldest_ms = None if link is None else link.oldest_unforwarded_ms
    return Buffer(
        size=report.queued_records,
        bytes=report.queued_bytes,
        capacity=report.queue_max_records,
        capacity_bytes=report.queue_max_bytes,
        unforwarded=0 if link is None else link.unforwarded_records,
        oldest_unforwarded=_moment(oldest_ms),
        oldest_unforwarded_seconds=None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
        last_flush=_moment(report.last_commit_ms if link is None else link.acknowledged_ms),
    )


def _hub(link: LinkReport) -> HubHealth:
    return HubHealth(
        address=link.address or None,
        state=link.state,
        connected_since=_moment(link.connected_ms),
        last_error=link.last_error or None,
        last_error_at=_moment(link.last_error_ms),
        source=link.source or None,
        organization=link.organization or None,
        version=link.hub_version or None,
        clock_skew_ms=link.clock_skew_ms,
        watermark=link.watermark,
        last_heard=_moment(link.heard_ms),
        sealed_bytes=link.sealed_bytes,
        quarantined=link.quarantined,
        lost=link.lost,
    )


def _moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


async def metrics(call: Call) -> object:
    """Everything Prometheus sees."""
    return Answer(await call.read(call.services.metrics.render), content_type=METRICS_TYPE)
