"""Moments as people write them (7d, 2026-11-01, ISO 8601) and as commands print them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from costd.domain.errors import ConfigError

_AGO = re.compile(r"([0-9]{1,6})\s*(m|h|d|w)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_ALLOWED = 'must be a time back from now ("24h", "7d"), a UTC date ("2026-11-01") or ISO 8601 with a time'


def read_moment(text: str, now_ms: int, flag: str, *, end_of_day: bool = False) -> int:
    """The UTC milliseconds that `text` means.

    A date is its first moment or, with `end_of_day`, the first of the day after: dates are inclusive. ISO 8601 without
    a zone is UTC. Raises ConfigError naming `flag`.
    """
    text = text.strip()
    try:
        if match := _AGO.fullmatch(text.lower()):
            return max(0, now_ms - _ms(int(match[1]) * _UNITS[match[2]]))
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text) + timedelta(days=end_of_day)
            return _epoch_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
        moment = datetime.fromisoformat(text)
        return _epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ConfigError(flag, text, _ALLOWED) from None


def iso(at_ms: int) -> str:
    """`2026-11-22T05:14:00Z`, with milliseconds where there are any."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    fraction = f".{at_ms % 1000:03d}" if at_ms % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def iso_or_none(at_ms: int) -> str | None:
    """As `iso`; None for 0, which is how the wire says never."""
    return iso(at_ms) if at_ms else None


def _epoch_ms(moment: datetime) -> int:
    return _ms(moment - datetime(1970, 1, 1, tzinfo=UTC))


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
