"""The road to the hub as a sidecar sees it: whether it is open, and what still waits at this end."""

from __future__ import annotations

from typing import NamedTuple

CONNECTING = "connecting"
CONNECTED = "connected"
REFUSED = "refused"
AWAY = "away"
OFF = "off"
#: Of a source only, at its hub.
NEVER = "never"
FORGOTTEN = "forgotten"


class LinkBroken(Exception):
    """The road to the hub cannot be used now: why, in words.

    `refused` where the hub does not take this sidecar, `retry_after_s` where it said when to come again. `reason` is
    one word for metrics.
    """

    def __init__(
        self, message: str, *, reason: str = "away", refused: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.refused = refused
        self.retry_after_s = retry_after_s


class LinkReport(NamedTuple):
    """The state of the road; times in UTC milliseconds, None where it has not happened.

    `state` is CONNECTING (since the start), CONNECTED, REFUSED (the hub does not take the key, or takes this sidecar
    for another), AWAY, or OFF (the ledger belongs to a hub, and nothing forwards it). `clock_skew_ms` is how far this
    clock is behind the hub's. `watermark` is the number up to which the ledger is at the hub, `acknowledged_ms` when
    the hub last moved it. The last error stays when it is over.
    """

    address: str
    state: str = CONNECTING
    connected_ms: int | None = None
    unforwarded_records: int = 0
    oldest_unforwarded_ms: int | None = None
    sealed_bytes: int = 0
    last_error: str = ""
    last_error_ms: int | None = None
    source: str = ""
    organization: str = ""
    hub_version: str = ""
    clock_skew_ms: int = 0
    watermark: int = 0
    heard_ms: int | None = None
    acknowledged_ms: int | None = None
    quarantined: int = 0
    lost: int = 0
