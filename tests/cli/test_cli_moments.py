"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from costd.cli.moments import iso, iso_or_none, read_moment
from costd.domain.errors import ConfigError

NOW_MS = int(datetime(2026, 11, 22, 5, 14, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", "2026-11-22T04:44:00Z"),
        ("24h", "2026-11-21T05:14:00Z"),
        ("7d", "2026-11-15T05:14:00Z"),
        ("2w", "2026-11-08T05:14:00Z"),
        ("999999w", "1970-01-01T00:00:00Z"),
        (" 7D ", "2026-11-15T05:14:00Z"),
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T12:30", "2026-11-01T12:30:00Z"),
        ("2026-11-01T12:30:00.250Z", "2026-11-01T12:30:00.250Z"),
        ("2026-11-01T12:30:00+02:00", "2026-11-01T10:30:00Z"),
    ],
)
def test_a_moment_is_read_as_utc(text: str, moment: str) -> None:
    assert iso(read_moment(text, NOW_MS, "--since")) == moment


def test_the_end_of_a_date_is_the_next_days_beginning() -> None:
    assert iso(read_moment("2026-11-30", NOW_MS, "--until", end_of_day=True)) == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "7", "7y", "-7d", "yesterday", "2026-13-01", "9999-12-31"])
def test_what_is_no_moment_names_its_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--until"):
        read_moment(text, NOW_MS, "--until", end_of_day=True)


def test_never_is_none() -> None:
    assert iso_or_none(0) is None
    assert iso_or_none(1) == "1970-01-01T00:00:00.001Z"
