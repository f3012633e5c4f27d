"""Which window of which budget: the name that every ledger gives it, at a source and at its hub alike."""

from __future__ import annotations

from typing import NamedTuple


class WindowKey(NamedTuple):
    """A window: its budget and revision, the value of the budget's `each` ("" where there is none), when it begins."""

    budget_id: str
    revision: int
    value: str
    start_ms: int
