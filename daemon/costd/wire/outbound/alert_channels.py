"""The ways out for alerts that the settings name."""

from __future__ import annotations

from costd.alert_settings import Alerts
from costd.clock import Clock
from costd.domain.alerting import EMAIL, SLACK, WEBHOOK
from costd.services.alert_channel import Channel


def build_channels(settings: Alerts, clock: Clock) -> list[Channel]:
    """Each of them; none is spoken to yet."""
    made: list[Channel] = []
    if WEBHOOK in settings.channels:
        from costd.wire.outbound.webhook import Webhook  # noqa: PLC0415 - only where it is needed, here and below

        made.append(Webhook(settings, clock))
    if SLACK in settings.channels:
        from costd.wire.outbound.slack import Slack  # noqa: PLC0415

        made.append(Slack(settings))
    if EMAIL in settings.channels:
        from costd.wire.outbound.mail import Mail  # noqa: PLC0415

        made.append(Mail(settings, clock))
    return made
