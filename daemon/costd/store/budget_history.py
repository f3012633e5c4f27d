"""What had been recorded in the windows of a budget before it was made: counted from rollups, and from events."""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.budget import Budget
from costd.domain.window_key import WindowKey


class Opened(NamedTuple):
    """A budget whose windows begin with what had been recorded in them before: {window: (its end, nano-USD)}."""

    budget: Budget
    windows: dict[WindowKey, tuple[int, int]]
