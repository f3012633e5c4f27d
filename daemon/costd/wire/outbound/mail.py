"""Alerts by mail, through a server that takes mail for others (SMTP submission, RFC 6409)."""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate

from costd.alert_settings import STARTTLS, TLS, Alerts
from costd.clock import Clock
from costd.domain.alerting import EMAIL, Alert, details, headline
from costd.services.alert_channel import NotAccepted
from costd.wire.outbound.posting import line_of, ssl_reason, trust

_log = logging.getLogger(__name__)


class Mail:
    """The channel "email"."""

    name = EMAIL

    def __init__(self, settings: Alerts, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def send(self, alert: Alert) -> None:
        """Mail it to everybody; NotAccepted where the server takes it for nobody."""
        try:
            with self._connected() as server:
                self._log_in(server)
                refused = server.send_message(self._message(alert), self._settings.mail_from[0], self._settings.mail_to)
        except smtplib.SMTPException as error:
            raise NotAccepted(_refusal(error)) from None
        except ssl.SSLError as error:
            raise NotAccepted(f"the mail server cannot be trusted: {ssl_reason(error)}") from None
        except TimeoutError:
            raise NotAccepted(f"the mail server did not answer within {self._settings.timeout_s:g} s") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise NotAccepted(f"the mail server cannot be reached ({reason})") from None
        if refused:
            # Not tried again: those that it was taken for have it, and would get it again and again.
            _log.warning(
                "a mail was refused for some of its addresses",
                extra={"alert": alert.id, "addresses": ", ".join(sorted(refused))},
            )

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        place = (settings.smtp_host, settings.smtp_port)
        if settings.smtp_tls == TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(*place, timeout=settings.timeout_s, context=trust(settings.ca))
        else:
            server = smtplib.SMTP(*place, timeout=settings.timeout_s)
        with server:
            if settings.smtp_tls == STARTTLS:
                server.starttls(context=trust(settings.ca))
            yield server

    def _log_in(self, server: smtplib.SMTP) -> None:
        settings = self._settings
        if not settings.smtp_user:
            return
        password = settings.smtp_password or ""
        if settings.smtp_password_file is not None:
            password = line_of(settings.smtp_password_file, "alerts.smtp_password_file")
        server.login(settings.smtp_user, password)

    def _message(self, alert: Alert) -> EmailMessage:
        sender = self._settings.mail_from[0]
        message = EmailMessage()
        message["From"] = sender
        message["To"] = ", ".join(self._settings.mail_to)
        message["Subject"] = f"[costd] {headline(alert)}"
        message["Date"] = formatdate(self._clock.now_ms() / 1000)
        # The same for every attempt, so that a mail that came twice is known for what it is.
        message["Message-ID"] = f"<{alert.id}@{sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        lines = [headline(alert), "", *(f"{name + ':':<14}{text}" for name, text in details(alert))]
        message.set_content("\n".join(lines) + "\n")
        return message


def _refusal(error: smtplib.SMTPException) -> str:
    """What the server said, by its code: its words may repeat what it was sent."""
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"the mail server does not offer what is needed ({error})"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the mail server hung up"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the mail server refuses the login ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return f"the mail server refuses the addresses ({', '.join(map(str, codes))})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code}"
    return f"the mail server cannot be spoken to ({type(error).__name__})"
