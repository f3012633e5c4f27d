"""Alerts to a webhook: JSON, signed as Standard Webhooks says, so that receivers can use a library for it.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. Signed is
`id.timestamp.body` by HMAC-SHA256; the timestamp keeps a post that somebody overheard from being sent again later, the
id one that was delivered from being taken twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

import msgspec

from costd.alert_settings import Alerts
from costd.clock import Clock
from costd.domain.alerting import WEBHOOK, Alert, headline
from costd.services.alert_channel import NotAccepted
from costd.wire.alert_body import alert_fields
from costd.wire.outbound.posting import line_of, post
from costd.wire.web.answers import rfc3339

#: Secrets in the standard's form are base64 after this.
SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
TYPE = "budget.alert"
TEST_TYPE = "budget.alert.test"


class Webhook:
    """The channel "webhook"."""

    name = WEBHOOK

    def __init__(self, settings: Alerts, clock: Clock) -> None:
        assert settings.webhook_url is not None
        self._url = settings.webhook_url
        self._secret = settings.webhook_secret
        self._secret_file = settings.webhook_secret_file
        self._ca: Path | None = settings.ca
        self._timeout_s = settings.timeout_s
        self._clock = clock

    def send(self, alert: Alert) -> None:
        """Post it; NotAccepted unless it was answered 2xx."""
        body = msgspec.json.encode(
            {
                "type": TEST_TYPE if alert.is_test else TYPE,
                "timestamp": rfc3339(alert.at_ms),
                "text": headline(alert),
                "data": {"id": alert.id} if alert.is_test else alert_fields(alert),
            }
        )
        timestamp = str(self._clock.now_ms() // 1000)
        headers = {
            "webhook-id": alert.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._key(), alert.id, timestamp, body),
        }
        post(self._url, body, headers, self._ca, self._timeout_s)

    def _key(self) -> bytes:
        if self._secret_file is None:
            return key_of(self._secret or "")
        return key_of(line_of(self._secret_file, "alerts.webhook_secret_file"))


def signature(key: bytes, id_: str, timestamp: str, body: bytes) -> str:
    """What `webhook-signature` says."""
    digest = hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_of(secret: str) -> bytes:
    """The bytes to sign with; NotAccepted where what follows the prefix is no base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise NotAccepted(f"the webhook's secret begins with {SECRET_PREFIX}, and what follows is no base64") from None
