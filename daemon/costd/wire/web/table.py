"""The table of all routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costd.wire.web import costs, ingest, pages, records, tokens, usage
from costd.wire.web import dashboard_structs as dashboard
from costd.wire.web import ingest_structs as ingest_types
from costd.wire.web import usage_structs as types
from costd.wire.web.alerts import alert_routes
from costd.wire.web.answers import Answer, Envelope
from costd.wire.web.api_keys import api_key_routes
from costd.wire.web.audit_logs import audit_routes
from costd.wire.web.budgets import budget_routes
from costd.wire.web.openapi import document
from costd.wire.web.price_routes import price_routes
from costd.wire.web.prompts import prompt_routes
from costd.wire.web.proxy_endpoints import proxy_endpoint_routes
from costd.wire.web.read_routes import read_routes
from costd.wire.web.route import JSON, JSON_LINES, Call, Route
from costd.wire.web.sources import source_routes

#: Every path under /v1 also answers under this prefix.
ALIAS = "/cost-tracker"


def routes(*, metrics_open: bool) -> list[Route]:
    """Every route of the daemon, aliases included; with `metrics_open`, /metrics needs no key."""
    preflight_record = _preflight_record()
    aliases = [replace(route, path=ALIAS + route.path) for route in preflight_record]
    table = [
        *preflight_record,
        *aliases,
        *_ingest(),
        *_dashboard(),
        *read_routes(),
        *price_routes(),
        *budget_routes(),
        *source_routes(),
        *proxy_endpoint_routes(),
        *api_key_routes(),
        *audit_routes(),
        *prompt_routes(),
        *alert_routes(),
        *_pages(metrics_open=metrics_open),
    ]
    return [*table, _openapi(table)]


def _preflight_record() -> list[Route]:
    names = usage.FIELD_NAMES
    return [
        Route("GET", "/v1/health", usage.health, "Whether records can be taken", types.HealthAnswer),
        Route(
            "POST",
            "/v1/preflight",
            usage.preflight,
            "Price a call about to be made and say whether it may be made",
            types.PreflightAnswer,
            role="ingest",
            body=types.PreflightBody,
            field_names={**names, "units": "estimated_units"},
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/release",
            usage.release,
            "Let go of what a preflight reserved for a call that will not be made",
            types.ReleaseAnswer,
            role="ingest",
            body=types.ReleaseBody,
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/usage/record",
            usage.record,
            "Record what one call used",
            types.RecordAnswer,
            role="ingest",
            body=types.RecordBody,
            field_names=names,
            idempotent=True,
            records=True,
        ),
        Route(
            "POST",
            "/v1/usage/records",
            records.records,
            "Record several calls, each with its own outcome",
            types.RecordsAnswer,
            role="ingest",
            body=list[types.RecordBody],
            raw_body=True,
            body_types=(JSON, JSON_LINES),
            field_names=names,
            idempotent=True,
            records=True,
        ),
        Route(
            "POST",
            "/v1/users/upsert",
            usage.upsert_user,
            "Create or update a user",
            types.UserAnswer,
            role="ingest",
            body=types.UserBody,
        ),
        Route(
            "POST",
            "/v1/projects/upsert",
            usage.upsert_project,
            "Register or update a project",
            types.ProjectAnswer,
            role="ingest",
            body=types.ProjectBody,
        ),
    ]


def _ingest() -> list[Route]:
    return [
        Route("GET", "/api/ingest", ingest.about, "What the ingest endpoint takes", ingest_types.IngestAbout),
        Route(
            "POST",
            "/api/ingest",
            ingest.ingest,
            "Store a month's cost or tokens of a service",
            ingest_types.IngestAnswer,
            role="ingest",
            body=ingest.Entry,
            raw_body=True,
            field_names=ingest.FIELD_NAMES,
            idempotent=True,
            records=True,
        ),
        Route(
            "POST",
            "/api/ingest/generate-key",
            ingest.generate_key,
            "Make an API key",
            ingest_types.NewKeyAnswer,
            role="admin",
            body=ingest_types.NewKeyBody,
            field_names={"name": "keyName"},
        ),
    ]


def _dashboard() -> list[Route]:
    return [
        Route(
            "POST",
            "/api/tokens/track",
            tokens.track,
            "Record what one call used",
            Envelope[dashboard.Tracked],
            role="ingest",
            body=dashboard.TrackBody,
            field_names=tokens.FIELD_NAMES,
            idempotent=True,
            records=True,
        ),
        Route(
            "GET",
            "/api/tokens",
            tokens.tokens,
            "The tokens of a period by provider and model",
            Envelope[dashboard.Tokens],
            role="read",
            query=dashboard.BillingPeriodQuery,
        ),
        Route(
            "GET",
            "/api/costs/all",
            costs.all_costs,
            "Every provider's costs in a month",
            Envelope[dashboard.AllCosts],
            role="read",
            query=dashboard.MonthQuery,
        ),
        Route(
            "POST",
            "/api/costs/manual",
            costs.add_manual,
            "Store a month's cost entered by hand",
            Envelope[dashboard.Manual],
            role="ingest",
            body=dashboard.ManualBody,
            field_names=costs.MANUAL_NAMES,
            idempotent=True,
            records=True,
        ),
        Route(
            "GET",
            "/api/costs/{provider}",
            costs.provider_costs,
            "One provider's costs in a month",
            Envelope[dashboard.ProviderCosts],
            role="read",
            query=dashboard.MonthQuery,
        ),
        Route(
            "GET",
            "/api/tracking-health",
            pages.tracking_health,
            "How well records get in",
            Envelope[dashboard.TrackingHealth],
            role="read",
        ),
    ]


def _pages(*, metrics_open: bool) -> list[Route]:
    return [
        Route("GET", "/api/health", pages.health, "The daemon's health", dashboard.Health),
        Route(
            "GET",
            "/metrics",
            pages.metrics,
            "Metrics in Prometheus' text format",
            role=None if metrics_open else "read",
            content_type=pages.METRICS_TYPE,
        ),
    ]


def _openapi(table: list[Route]) -> Route:
    content = b""

    async def openapi(_: Call) -> object:
        return Answer(content)

    route = Route("GET", "/openapi.json", openapi, "This document", dict[str, Any])
    content = document([*table, route])
    return route
