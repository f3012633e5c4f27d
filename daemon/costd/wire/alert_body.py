"""An alert as JSON: what `/api/alerts` lists and webhooks are sent."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from costd.domain.alerting import Alert
from costd.domain.window import FOREVER_MS
from costd.wire.web.answers import money, money_or_null, rfc3339


def alert_fields(alert: Alert) -> dict[str, Any]:
    """Its fields in JSON's types; amounts are exact numbers in USD."""
    end_ms = alert.window.end_ms
    return {
        "id": alert.id,
        "kind": alert.kind,
        "organization": alert.organization,
        "budget_id": alert.budget_id,
        "budget": alert.budget,
        "each": alert.each or None,
        "value": alert.value if alert.each else None,
        "threshold": Raw(alert.threshold.encode()),
        "settled_usd": money(alert.settled_nano),
        "limit_usd": money(alert.limit_nano),
        "forecast_usd": money_or_null(alert.forecast_nano),
        "window_start": rfc3339(alert.window.start_ms),
        "window_end": None if end_ms >= FOREVER_MS else rfc3339(end_ms),
        "at": rfc3339(alert.at_ms),
    }
