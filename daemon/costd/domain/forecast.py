"""Forecasts: what a window will have cost at its end, and when nothing will be left of its limit.

The rule: the pace is what was spent over the length of one whole window, up to now: what the present one has cost, and
of the one before it the share that its end takes up in that time, as if it had been spent evenly. So a month that has
just begun is expected to be like the last, and as it goes on it speaks more and more for itself. Where there was no
window before, the pace is that of the present one, measured over a 24th of its length at least: a first call in the
first minute of a month says nothing of the month. The forecast is what was spent, and the pace until the window's end;
nothing is carried over it.

What will be left of the limit is asked of the same pace, or of what is being spent at present where that is more.
"""

from __future__ import annotations

from typing import NamedTuple

from costd.domain.money import round_half_even
from costd.domain.window import TOTAL, Window

_LEAST_SHARE = 24


class Pace(NamedTuple):
    """So much in so long: nano-USD, and milliseconds above 0."""

    spent_nano: int
    over_ms: int

    def is_faster(self, other: Pace) -> bool:
        """Whether this is more in the same time."""
        return self.spent_nano * other.over_ms > other.spent_nano * self.over_ms


def pace_of(period: str, window: Window, settled_nano: int, before_nano: int | None, now_ms: int) -> Pace | None:
    """How fast a window is being spent; `before_nano` is what the one before it came to, None where there was none.

    None for a window without an end, which has no length to measure by.
    """
    if period == TOTAL:
        return None
    length_ms = window.end_ms - window.start_ms
    elapsed_ms = min(max(now_ms - window.start_ms, 0), length_ms)
    if before_nano is None:
        return Pace(max(settled_nano, 0), max(elapsed_ms, length_ms // _LEAST_SHARE, 1))
    carried_nano = round_half_even(max(before_nano, 0) * (length_ms - elapsed_ms), length_ms)
    return Pace(max(settled_nano, 0) + carried_nano, length_ms)


def forecast_nano(settled_nano: int, pace: Pace | None, window: Window, now_ms: int) -> int | None:
    """What will be settled when the window ends; None where that is not known."""
    if pace is None:
        return None
    remaining_ms = max(window.end_ms - now_ms, 0)
    return settled_nano + round_half_even(pace.spent_nano * remaining_ms, pace.over_ms)


def exhausted_in_s(available_nano: int, pace: Pace | None, window: Window, now_ms: int) -> int | None:
    """Whole seconds until nothing is available; None where that is not before the window's end, or not known."""
    if available_nano <= 0:
        return 0
    if pace is None or pace.spent_nano <= 0:
        return None
    in_ms = available_nano * pace.over_ms // pace.spent_nano
    return None if in_ms >= window.end_ms - now_ms else in_ms // 1000
