"""What a check of the doctor's found, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One check: `state` is OK, WARN or FAIL; `advice` says what to do, or is empty."""

    name: str
    state: str
    found: str
    advice: str = ""
