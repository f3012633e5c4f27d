"""How a window stands: limit = available + held + settled - overshoot, exactly. Amounts are nano-USD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from costd.domain.window import Window
from costd.domain.window_key import WindowKey


class Holding(NamedTuple):
    """What a source has of a window, in one epoch or in all: `bound_nano` is granted and not given back."""

    source: str
    bound_nano: int
    settled_nano: int

    @property
    def charge_nano(self) -> int:
        """What the window is charged with for it."""
        return max(self.bound_nano, self.settled_nano)


class Holder(NamedTuple):
    """What one source has of a window: its name, "" for this daemon itself."""

    source: str
    bound_nano: int
    settled_nano: int
    held_nano: int


class WindowStanding(NamedTuple):
    """A window's figures. Forecast and exhaustion are None where they are not known, or not within the window.

    `reserved_nano` is what calls under way have reserved at this daemon, and part of `held_nano`. With `is_partial`
    the figures are a source's own: its hub knows of the others.
    """

    key: WindowKey
    window: Window
    limit_nano: int
    settled_nano: int
    reserved_nano: int
    held_nano: int
    available_nano: int
    overshoot_nano: int
    holders: Sequence[Holder] = ()
    forecast_nano: int | None = None
    exhausted_in_s: int | None = None
    is_partial: bool = False

    @property
    def charged_nano(self) -> int:
        """What is spent or held."""
        return self.settled_nano + self.held_nano


def stand(
    key: WindowKey, window: Window, limit_nano: int, own_nano: int, reserved_nano: int, holdings: Iterable[Holding]
) -> WindowStanding:
    """How a window stands: `own_nano` was settled here, less what corrections lowered, `reserved_nano` is so here.

    Corrections are of anybody's records; where they come to more than what was settled here, this daemon has nothing.
    """
    by_source: dict[str, list[Holding]] = {}
    for holding in holdings:
        by_source.setdefault(holding.source, []).append(holding)
    holders = [_holder(source, found) for source, found in by_source.items()]
    settled_nano = own_nano + sum(holder.settled_nano for holder in holders)
    held_nano = reserved_nano + sum(holder.held_nano for holder in holders)
    left_nano = limit_nano - settled_nano - held_nano
    here_nano = max(0, own_nano)
    own = Holder("", here_nano + reserved_nano, here_nano, reserved_nano)
    return WindowStanding(
        key,
        window,
        limit_nano,
        settled_nano,
        reserved_nano,
        held_nano,
        available_nano=max(0, left_nano),
        overshoot_nano=max(0, -left_nano),
        holders=[*([own] if own.bound_nano else []), *holders],
    )


def _holder(source: str, found: Sequence[Holding]) -> Holder:
    settled_nano = sum(holding.settled_nano for holding in found)
    held_nano = sum(holding.charge_nano for holding in found) - settled_nano
    return Holder(source, sum(holding.bound_nano for holding in found), settled_nano, held_nano)
