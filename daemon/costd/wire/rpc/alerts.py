"""The alerts' part of AdminService and QueryService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.store.alerts import Listed
from costd.v1 import alert_pb2 as pb

if TYPE_CHECKING:
    from costd.services.services import Services


class AlertsService:
    """Answers the calls that are about alerts."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def list_alerts(self, caller: Caller, request: pb.ListAlertsRequest) -> pb.ListAlertsResponse:
        """What budgets had to say."""
        page = self._services.alerts.page(caller, request.budget, request.cursor, request.limit)
        return pb.ListAlertsResponse(alerts=map(_message, page.alerts), next_cursor=page.next_cursor)

    def test_alerts(self, caller: Caller, request: pb.TestAlertsRequest) -> pb.TestAlertsResponse:
        """Send a test by every way out; answered once each has accepted it, or has not."""
        now_ms = self._services.clock.now_ms()
        return pb.TestAlertsResponse(
            deliveries=[
                pb.AlertDelivery(
                    channel=tried.channel, attempts=1, delivered_ms=0 if tried.error else now_ms, error=tried.error
                )
                for tried in self._services.alerts.outbox.test(caller)
            ]
        )


def _message(listed: Listed) -> pb.Alert:
    alert = listed.alert
    return pb.Alert(
        id=alert.id,
        budget_id=alert.budget_id,
        budget=alert.budget,
        value=alert.value,
        window_start_ms=alert.window.start_ms,
        window_end_ms=alert.window.end_ms,
        threshold=alert.threshold,
        kind=alert.kind,
        at_ms=alert.at_ms,
        settled_nano_usd=alert.settled_nano,
        limit_nano_usd=alert.limit_nano,
        forecast_nano_usd=alert.forecast_nano,
        deliveries=[
            pb.AlertDelivery(
                channel=delivery.channel,
                attempts=delivery.attempts,
                delivered_ms=delivery.delivered_ms or 0,
                next_ms=delivery.next_ms or 0,
                error=delivery.error,
            )
            for delivery in listed.deliveries
        ],
    )
