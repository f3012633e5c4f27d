"""The alerts' part of AdminService and QueryService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Unavailable
from costd.v1 import alert_pb2 as pb

if TYPE_CHECKING:
    from costd.services.services import Services


class AlertsService:
    """Answers the calls that are about alerts."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def list_alerts(self, caller: Caller, request: pb.ListAlertsRequest) -> pb.ListAlertsResponse:
        """What budgets had to say."""
        raise Unavailable("not built yet")

    def test_alerts(self, caller: Caller, request: pb.TestAlertsRequest) -> pb.TestAlertsResponse:
        """Send a test by every way out."""
        raise Unavailable("not built yet")
