"""A way out for alerts, as services see it."""

from __future__ import annotations

from typing import Protocol

from costd.domain.alerting import Alert


class NotAccepted(Exception):
    """An alert was not accepted: why, without any secret, and how long to wait where the other side said so."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """One way out; used by a thread of its own."""

    @property
    def name(self) -> str:
        """One of the domain's: WEBHOOK, SLACK or EMAIL."""

    def send(self, alert: Alert) -> None:
        """Deliver, within bounded time; NotAccepted where it was not accepted for certain."""
