"""The section of the configuration that says where alerts go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from costd.addresses import Address, MailAddresses, Url
from costd.sections import Said
from costd.settings import Choice, FilePath, Seconds, Secret, Whole, Word

STARTTLS = "starttls"
TLS = "tls"
OFF = "off"


class Lack(NamedTuple):
    """What is wrong between two settings: the one that is there, and what it must be."""

    name: str
    allowed: str


@dataclass(frozen=True)
class Alerts:
    """Where alerts of budgets go: a webhook, a channel of Slack's kind, mail."""

    webhook_url: Annotated[
        str | None,
        Said(
            Url(),
            None,
            "Where alerts are posted, as JSON that is signed; no other address is ever followed to.",
            default_text="none",
            secret=True,
        ),
    ]
    webhook_secret: Annotated[
        str | None,
        Said(
            Secret(),
            None,
            "What the webhook's posts are signed with; better in the variable or in alerts.webhook_secret_file.",
            default_text="none",
            secret=True,
        ),
    ]
    webhook_secret_file: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "A file that holds that secret; read at every post, so that the secret can be replaced.",
            default_text="none",
        ),
    ]
    slack_url: Annotated[
        str | None,
        Said(
            Url(),
            None,
            "An incoming webhook of Slack, Mattermost or their like; whoever knows it may post there.",
            default_text="none",
            secret=True,
        ),
    ]
    slack_url_file: Annotated[
        Path | None, Said(FilePath(), None, "A file that holds that address, read at every post.", default_text="none")
    ]
    smtp_host: Annotated[str, Said(Word(256), "", "The mail server that takes mail for others.", default_text="none")]
    smtp_port: Annotated[int, Said(Whole(1, 65_535), 587, "Its port.")]
    smtp_tls: Annotated[
        str,
        Said(
            Choice((STARTTLS, TLS, OFF)),
            STARTTLS,
            "How the road to it is encrypted: by STARTTLS, from the first byte on (port 465), or not at all.",
        ),
    ]
    smtp_user: Annotated[str, Said(Word(256), "", "Whom to log in as there.", default_text="none")]
    smtp_password: Annotated[
        str | None,
        Said(
            Secret(1),
            None,
            "The password for it; better in the variable or in alerts.smtp_password_file.",
            default_text="none",
            secret=True,
        ),
    ]
    smtp_password_file: Annotated[
        Path | None, Said(FilePath(), None, "A file that holds that password, read at every mail.", default_text="none")
    ]
    mail_from: Annotated[
        tuple[str, ...],
        Said(MailAddresses(1), [], "The address that mail is from.", default_text="none"),
    ]
    mail_to: Annotated[
        tuple[str, ...],
        Said(MailAddresses(50), [], "The addresses that mail goes to.", default_text="none"),
    ]
    ca: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "Authorities (PEM) to trust the certificates of these by; read at every delivery.",
            default_text="the usual ones",
        ),
    ]
    timeout_s: Annotated[
        float, Said(Seconds(300), 10, "How long a delivery may take, in seconds, before it counts as failed.")
    ]

    @property
    def channels(self) -> tuple[str, ...]:
        """The ways out there are: "webhook", "slack", "email"."""
        found = (
            ("webhook", self.webhook_url is not None),
            ("slack", self.slack_url is not None or self.slack_url_file is not None),
            ("email", bool(self.smtp_host)),
        )
        return tuple(name for name, is_there in found if is_there)

    def lack(self) -> Lack | None:
        """What does not go together, if anything."""
        for value, file in (
            ("webhook_secret", "webhook_secret_file"),
            ("slack_url", "slack_url_file"),
            ("smtp_password", "smtp_password_file"),
        ):
            if getattr(self, value) is not None and getattr(self, file) is not None:
                return Lack(f"alerts.{file}", f"must not be given beside alerts.{value}")
        return self._lack_of_webhook() or self._lack_of_mail()

    def _lack_of_webhook(self) -> Lack | None:
        secret = next((name for name in ("webhook_secret", "webhook_secret_file") if getattr(self, name)), None)
        if self.webhook_url is not None and secret is None:
            allowed = (
                "must have a secret beside it that posts are signed with: COSTD_ALERTS_WEBHOOK_SECRET or "
                "--alerts-webhook-secret-file"
            )
            return Lack("alerts.webhook_url", allowed)
        if secret is not None and self.webhook_url is None:
            return Lack(f"alerts.{secret}", "must have alerts.webhook_url beside it")
        return None

    def _lack_of_mail(self) -> Lack | None:
        password = next((name for name in ("smtp_password", "smtp_password_file") if getattr(self, name)), None)
        if self.smtp_host:
            if not self.mail_from or not self.mail_to:
                return Lack("alerts.smtp_host", "must have alerts.mail_from and alerts.mail_to beside it")
        else:
            names = ("mail_from", "mail_to", "smtp_user", password or "mail_to")
            alone = next((name for name in names if getattr(self, name)), None)
            if alone is not None:
                return Lack(f"alerts.{alone}", "must have alerts.smtp_host beside it")
        if bool(self.smtp_user) != (password is not None):
            if password is None:
                return Lack("alerts.smtp_user", "must have a password beside it: alerts.smtp_password_file")
            return Lack(f"alerts.{password}", "must have alerts.smtp_user beside it")
        if self.smtp_user and self.smtp_tls == OFF and not Address(self.smtp_host, 0).is_loopback:
            return Lack("alerts.smtp_tls", "must not be off where a password goes to a server beyond loopback")
        return None
