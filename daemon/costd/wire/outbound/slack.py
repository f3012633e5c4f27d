"""Alerts to a channel of Slack, or of what takes the same posts (Mattermost, Rocket.Chat, Discord's `/slack`).

Form: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and its escaping of text.
"""

from __future__ import annotations

import msgspec

from costd.addresses import Url
from costd.alert_settings import Alerts
from costd.domain.alerting import SLACK, Alert, details, headline
from costd.services.alert_channel import NotAccepted
from costd.wire.outbound.posting import line_of, post

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_FILE = "alerts.slack_url_file"


class Slack:
    """The channel "slack"."""

    name = SLACK

    def __init__(self, settings: Alerts) -> None:
        self._url = settings.slack_url
        self._url_file = settings.slack_url_file
        self._ca = settings.ca
        self._timeout_s = settings.timeout_s

    def send(self, alert: Alert) -> None:
        """Post it; NotAccepted unless it was answered 2xx."""
        rest = "\n".join(f"{name}: {text}" for name, text in details(alert))
        body = msgspec.json.encode({"text": _escaped(f"{headline(alert)}\n{rest}")})
        post(self._address(), body, {}, self._ca, self._timeout_s)

    def _address(self) -> str:
        if self._url_file is None:
            return self._url or ""
        try:
            return Url().read(line_of(self._url_file, _FILE), is_text=True)
        except ValueError:  # what is in it is not repeated
            raise NotAccepted(f"the file of {_FILE} must hold a URL") from None


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(char, char) for char in text)
