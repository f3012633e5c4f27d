"""Every error costd raises on purpose.

CostdError
├── Refused                 the caller's request is not carried out
│   ├── Invalid             a field is wrong: names it and what is allowed
│   ├── Unauthenticated     no key, or one that is unknown or revoked
│   ├── Forbidden           the key may not do this
│   ├── NotFound
│   ├── Conflict            the same request id came with other content
│   ├── TooLarge            the body or message is over the limit
│   ├── RateLimited         over a configured rate; carries retry_after_s
│   ├── Overloaded          the write queue is full; carries retry_after_s
│   ├── OutOfSpace          the disk has no room; carries retry_after_s
│   └── Unavailable         shutting down, or the storage does not answer; carries retry_after_s
└── SetupError              the daemon or a command cannot start or go on
    ├── ConfigError         a setting is wrong: names it, its value and what is allowed
    ├── DataFolderHeld      another process holds the data folder
    ├── DaemonUnreachable   no daemon answers at that address
    └── DamagedDatabase     the database cannot be trusted; says the way out
"""

from __future__ import annotations

from typing import ClassVar


class CostdError(Exception):
    """Something costd could not do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.args[0])


class Refused(CostdError):
    """The request was refused."""


class Invalid(Refused):
    """The request is not valid."""

    def __init__(self, field: str, reason: str) -> None:
        """Say that `field` is wrong and why; `reason` reads on from the field's name ("must be …")."""
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def renamed(self, field: str) -> Invalid:
        """The same refusal under the name this field has on another surface."""
        return Invalid(field, self.reason)


class Unauthenticated(Refused):
    """A valid key is needed: send it as "Authorization: Bearer KEY" or "X-API-Key: KEY"."""


class Forbidden(Refused):
    """The key does not allow this."""

    def __init__(self, message: str | None = None, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotFound(Refused):
    """There is no such thing here."""


class Conflict(Refused):
    """This request id was already used with other content; nothing was recorded."""


class TooLarge(Refused):
    """The body is too large."""


class Retryable(Refused):
    """Not now: try again after a while."""

    default_retry_after_s: ClassVar[float] = 1.0

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = self.default_retry_after_s if retry_after_s is None else retry_after_s


class RateLimited(Retryable):
    """Too many requests."""


class Overloaded(Retryable):
    """More records are waiting to be written than the queue may hold; nothing was recorded."""


class OutOfSpace(Retryable):
    """The disk has no room for more records; nothing was recorded."""

    default_retry_after_s = 5.0


class Unavailable(Retryable):
    """The daemon cannot answer now."""

    default_retry_after_s = 2.0


class SetupError(CostdError):
    """costd cannot start."""


class ConfigError(SetupError):
    """A setting is wrong."""

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        """Name the setting as the user wrote it, its value, and what is allowed."""
        super().__init__(f"{setting} = {value!r}: {allowed}")
        self.setting = setting


class DataFolderHeld(SetupError):
    """Another process holds the data folder."""


class DaemonUnreachable(SetupError):
    """No daemon answers."""


class DamagedDatabase(SetupError):
    """The database is damaged."""
