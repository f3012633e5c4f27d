"""The road to the hub as commands show it."""

from __future__ import annotations

import time

from costd.cli.moments import iso_or_none
from costd.v1 import source_pb2

#: What each state says to people.
_STATES = {"off": "off: nothing forwards, as no daemon runs here that has a hub", "refused": "refused by the hub"}
#: A clock that is off by more than this is worth a word.
_SKEW_MS = 5_000


def described(hub: source_pb2.HubLink) -> dict[str, object]:
    """For JSON; what has not happened is null."""
    return {
        "address": hub.address or None,
        "state": hub.state,
        "connected_since": iso_or_none(hub.connected_ms),
        "unforwarded_records": hub.unforwarded_records,
        "oldest_unforwarded": iso_or_none(hub.oldest_unforwarded_ms),
        "oldest_unforwarded_seconds": _age_s(hub.oldest_unforwarded_ms),
        "sealed_bytes": hub.sealed_bytes,
        "last_error": hub.last_error or None,
        "last_error_at": iso_or_none(hub.last_error_ms),
        "source": hub.source or None,
        "organization": hub.organization or None,
        "hub_version": hub.hub_version or None,
        "clock_skew_ms": hub.clock_skew_ms,
        "watermark": hub.watermark,
        "last_heard": iso_or_none(hub.heard_ms),
        "last_acknowledged": iso_or_none(hub.acknowledged_ms),
        "quarantined": hub.quarantined,
        "lost": hub.lost,
    }


def pairs(hub: source_pb2.HubLink) -> list[tuple[str, str]]:
    """For people: names and values, a line each."""
    since = iso_or_none(hub.connected_ms)
    age_s = _age_s(hub.oldest_unforwarded_ms)
    waiting = f"{hub.unforwarded_records:,} records" + (f", the oldest for {age_s:,.0f} s" if age_s is not None else "")
    known = f"{hub.source} of {hub.organization}" if hub.source else "not known yet"
    state = _STATES.get(hub.state, hub.state) + (f" since {since}" if since else "")
    shown = [
        ("hub", f"{hub.address}, {state}" if hub.address else state),
        ("known there as", known),
        ("not forwarded", waiting),
        ("acknowledged", iso_or_none(hub.acknowledged_ms) or "nothing yet"),
    ]
    if hub.last_error:
        shown.append(("last error", f"{hub.last_error} ({iso_or_none(hub.last_error_ms)})"))
    if hub.hub_version:
        shown.append(("hub's version", hub.hub_version))
    if abs(hub.clock_skew_ms) > _SKEW_MS:
        way = "behind" if hub.clock_skew_ms > 0 else "ahead of"
        shown.append(("clock", f"{abs(hub.clock_skew_ms) / 1000:,.1f} s {way} the hub's: mend it"))
    if hub.quarantined:
        shown.append(("set aside", f"{hub.quarantined:,} records (`costd quarantine list`)"))
    if hub.lost:
        shown.append(("lost", f"{hub.lost:,} numbers of this ledger's sequence, which the hub will never get"))
    return shown


def _age_s(moment_ms: int) -> float | None:
    return round(max(0.0, time.time() - moment_ms / 1000), 3) if moment_ms else None
