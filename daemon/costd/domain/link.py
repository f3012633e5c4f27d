"""The road to the hub as a sidecar sees it: whether it is open, and what still waits at this end."""

from __future__ import annotations

from typing import NamedTuple

CONNECTING = "connecting"
CONNECTED = "connected"
REFUSED = "refused"
AWAY = "away"


class LinkReport(NamedTuple):
    """The state of the road; times in UTC milliseconds, None where it has not happened.

    `state` is CONNECTING (since the start), CONNECTED, REFUSED (the hub does not take the key, or takes this sidecar
    for another) or AWAY. `clock_skew_ms` is how far this clock is behind the hub's. `watermark` is the number up to
    which the ledger is at the hub, `acknowledged_ms` when the hub last moved it.
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
