"""Freshness: how long ago the newest record was made, in the words people read."""

from __future__ import annotations

from dataclasses import dataclass, field

from costd.domain.spend import UNKNOWN

FRESH = "fresh"
STALE = "stale"
VERY_STALE = "very_stale"
NO_DATA = "no_data"

_FRESH_MS = 15 * 60_000
_STALE_MS = 60 * 60_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """Overall and by provider: {provider: (newest record's time, word)}; times are UTC milliseconds."""

    overall: str
    newest_ms: int | None
    providers: dict[str, tuple[int, str]] = field(default_factory=dict)


def freshness_word(newest_ms: int | None, now_ms: int) -> str:
    """Fresh under 15 minutes, stale up to 60, very_stale beyond, no_data without any record."""
    if newest_ms is None:
        return NO_DATA
    age_ms = now_ms - newest_ms
    if age_ms < _FRESH_MS:
        return FRESH
    return STALE if age_ms <= _STALE_MS else VERY_STALE


def judge(newest_ms: dict[str, int], now_ms: int) -> Freshness:
    """The freshness of each provider and of all records, from their newest times; "" is shown as UNKNOWN."""
    named: dict[str, int] = {}
    for name, ms in newest_ms.items():
        named[name or UNKNOWN] = max(ms, named.get(name or UNKNOWN, 0))
    overall = max(named.values(), default=None)
    providers = {name: (ms, freshness_word(ms, now_ms)) for name, ms in sorted(named.items())}
    return Freshness(freshness_word(overall, now_ms), overall, providers)
