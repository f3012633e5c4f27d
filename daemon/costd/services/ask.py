"""What tills are asked before a call, what they answer, and what they remember of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.series import Series
from costd.domain.units import Quantity
from costd.domain.usage import Usage
from costd.services.funding import Waitable
from costd.services.live_window import Noted

#: (organization, request id in its stored form)
RequestName = tuple[int, bytes | str]


class Ask(NamedTuple):
    """A call that wants to be made: what it may cost (None: nobody knows), and at what time it is charged.

    `amount_nano` is what is to be reserved for it: `cost_nano`, or a little where that is nothing.
    """

    name: RequestName
    series: Series
    estimate: Usage
    amount_nano: int | None
    cost_nano: int | None
    at_ms: int


class Held:
    """What is remembered with a reservation, no more than is needed: there may be very many.

    `shared`, `units` and `job` are what the caller said of the call, `shared` one object for all that say the same.
    """

    __slots__ = ("at_ms", "cost_nano", "job", "shared", "units")

    def __init__(self, ask: Ask, shared: tuple[object, ...]) -> None:
        self.at_ms = ask.at_ms
        self.cost_nano = ask.cost_nano
        self.shared = shared
        self.units = ask.estimate.units
        self.job = ask.estimate.job

    def is_of(self, estimate: Usage) -> bool:
        """Whether this was reserved for a call of the same content; a count of zero says nothing."""
        if self.shared != estimate.shared() or self.job != estimate.job:
            return False
        return self.units == estimate.units or _counted(self.units) == _counted(estimate.units)


class Verdict(NamedTuple):
    """Whether a call may be made: "" or why not, and the budget that says so or is the tightest.

    `repeated` is what was reserved before, where the same was asked again. `warning` is a sentence for people, or "".
    """

    deny_reason: str
    noted: Noted | None
    repeated: Held | None = None
    warning: str = ""


class Pause(NamedTuple):
    """Something has to happen first: what is to be waited for, and whether that is the hub's to do."""

    waitable: Waitable
    is_hubs: bool


def _counted(units: Sequence[tuple[str, Quantity]]) -> list[tuple[str, Quantity]]:
    return [(name, amount) for name, amount in units if amount]
