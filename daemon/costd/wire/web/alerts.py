"""`/api/alerts`: what budgets had to say."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from costd.services.alerts import MAX_PAGE
from costd.store.alerts import AlertPage, Delivery, Listed
from costd.wire.alert_body import alert_fields
from costd.wire.web.answers import Envelope, Number, Usd, rfc3339
from costd.wire.web.fields import Text
from costd.wire.web.route import Call, Route


class AlertsQuery(Struct, frozen=True):
    """Which alerts: of one budget by its id or name, and from where on."""

    budget: Text | None = None
    cursor: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] | None = None


class AlertDelivery(Struct, frozen=True):
    """How far a way out has come: "webhook", "slack" or "email"."""

    channel: str
    attempts: int
    delivered: str | None
    next: str | None
    error: str | None


class Alert(Struct, frozen=True):
    """An alert; `threshold` is a share of the limit, `kind` "settled" or "forecast"."""

    id: str
    kind: str
    organization: str
    budget_id: str
    budget: str
    each: str | None
    value: str | None
    threshold: Number
    settled_usd: Usd
    limit_usd: Usd
    forecast_usd: Usd | None
    window_start: str
    window_end: str | None
    at: str
    deliveries: list[AlertDelivery]


class AlertList(Struct, frozen=True):
    """Alerts, newest first; `next_cursor` is null where there are no more."""

    alerts: list[Alert]
    next_cursor: str | None


async def list_alerts(call: Call) -> object:
    """The organization's alerts, newest first."""
    asked: AlertsQuery = call.query
    page: AlertPage = await call.read(
        call.services.alerts.page, call.caller, asked.budget or "", asked.cursor or "", asked.limit or 0
    )
    return call.envelope(AlertList([_alert(listed) for listed in page.alerts], page.next_cursor or None))


def alert_routes() -> list[Route]:
    """Alerts are listed."""
    return [
        Route(
            "GET",
            "/api/alerts",
            list_alerts,
            "What budgets had to say, newest first",
            Envelope[AlertList],
            role="read",
            query=AlertsQuery,
        )
    ]


def _alert(listed: Listed) -> Alert:
    return Alert(**alert_fields(listed.alert), deliveries=[_delivery(delivery) for delivery in listed.deliveries])


def _delivery(delivery: Delivery) -> AlertDelivery:
    return AlertDelivery(
        delivery.channel,
        delivery.attempts,
        None if delivery.delivered_ms is None else rfc3339(delivery.delivered_ms),
        None if delivery.next_ms is None else rfc3339(delivery.next_ms),
        delivery.error or None,
    )
