"""The present burn: how fast each window is being spent in these minutes, as commits charge it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from costd.clock import Clock
from costd.domain.forecast import Pace
from costd.domain.window_key import WindowKey
from costd.store.charges import WindowCharge

#: What was spent fades from the burn with this time constant: a stop shows within minutes, one call does not stand for
#: all that follow.
FADES_IN_S = 300.0
#: About 200 bytes each; those that were charged longest ago are forgotten first.
MAX_WINDOWS = 10_000


class Burn:
    """Told of what is charged in the writer's thread; asked from any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: What was spent, faded up to a moment of the clock that never steps back; charged longest ago first.
        self._spent: dict[WindowKey, tuple[float, float]] = {}

    def note(self, charges: Sequence[WindowCharge]) -> None:
        """A commit has charged these windows."""
        now_s = self._clock.monotonic_s()
        for charge in charges:
            if charge.added_nano > 0:
                key = charge.place.key
                held = self._spent.pop(key, None)
                self._spent[key] = (charge.added_nano + (0.0 if held is None else _faded(held, now_s)), now_s)
        while len(self._spent) > MAX_WINDOWS:
            del self._spent[next(iter(self._spent))]

    def of(self, key: WindowKey) -> Pace | None:
        """How fast a window is being spent; None where nothing was lately."""
        held = self._spent.get(key)
        spent_nano = 0 if held is None else round(_faded(held, self._clock.monotonic_s()))
        return Pace(spent_nano, round(FADES_IN_S * 1000)) if spent_nano > 0 else None


def _faded(held: tuple[float, float], now_s: float) -> float:
    spent, at_s = held
    return spent * math.exp((at_s - now_s) / FADES_IN_S)
