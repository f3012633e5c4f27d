"""The routes of reports: statistics, aggregations and the usage log."""

from __future__ import annotations

from costd.wire.web import aggregation_structs as aggregated
from costd.wire.web import aggregations, stats, usage_log
from costd.wire.web import stats_structs as dashboard
from costd.wire.web import usage_log_structs as log
from costd.wire.web.answers import Envelope
from costd.wire.web.route import Route


def read_routes() -> list[Route]:
    """Every report but those of the dashboard's first hour, which stand beside what they report on."""
    return [*_statistics(), *_usage_log(), *_aggregations()]


def _statistics() -> list[Route]:
    return [
        Route(
            "GET",
            "/api/tokens/stats",
            stats.stats,
            "The current month so far, and where it is heading",
            Envelope[dashboard.Stats],
            role="read",
            query=dashboard.StatsQuery,
        ),
        Route(
            "GET",
            "/api/tokens/timeseries",
            stats.timeseries,
            "Tokens and cost by day",
            Envelope[dashboard.Timeseries],
            role="read",
            query=dashboard.TimeseriesQuery,
        ),
        Route(
            "GET",
            "/api/tokens/burn-rate",
            stats.burn_rate,
            "What is being spent in an hour and in a day",
            Envelope[dashboard.BurnRateData],
            role="read",
            query=dashboard.BurnRateQuery,
        ),
        Route(
            "GET",
            "/api/status",
            stats.status,
            "Which providers have been heard of, and when",
            Envelope[dashboard.Status],
            role="read",
        ),
    ]


def _usage_log() -> list[Route]:
    return [
        Route(
            "GET",
            "/api/usage",
            usage_log.page,
            "Single records, newest first",
            log.UsagePage,
            role="read",
            query=log.UsageListQuery,
        ),
        Route(
            "GET",
            "/api/usage/summary",
            usage_log.summary,
            "Records added up by model and by day",
            log.UsageSummaryAnswer,
            role="read",
            query=log.UsageQuery,
        ),
        Route("GET", "/api/usage/{id}", usage_log.detail, "One record in full", log.UsageDetail, role="read"),
    ]


def _aggregations() -> list[Route]:
    return [
        Route(
            "GET",
            "/api/aggregations/version-comparison",
            aggregations.version_comparison,
            "Cost of a prompt by version",
            aggregated.VersionComparison,
            role="read",
            query=aggregated.VersionQuery,
        ),
        *_by_dimension(),
    ]


def _by_dimension() -> list[Route]:
    return [
        Route(
            "GET",
            f"/api/aggregations/{name}",
            handler,
            summary,
            answer,
            role="read",
            query=aggregated.AggregationQuery,
        )
        for name, handler, summary, answer in (
            ("monthly", aggregations.monthly, "A period's cost", aggregated.Monthly),
            ("by-prompt", aggregations.by_prompt, "Cost by prompt", aggregated.ByPrompt),
            ("by-team", aggregations.by_team, "Cost by team", aggregated.ByTeam),
            ("by-tag", aggregations.by_tags, "Cost by feature tag", aggregated.ByTag),
            ("by-key", aggregations.by_key, "Cost by API key", aggregated.ByKey),
        )
    ]
