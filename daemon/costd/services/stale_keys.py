"""How long the hub's keys are accepted while the hub is not heard of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from costd.clock import Clock
from costd.sections import Sync
from costd.services.access import Access


class StaleKeys:
    """Watches the age of a sidecar's copy of its hub's keys."""

    def __init__(self, access: Access, clock: Clock, sync: Sync, heard_ms: Callable[[], int | None]) -> None:
        """`heard_ms` is when the hub was last heard of, UTC milliseconds, None if never."""
        self._access = access
        self._clock = clock
        self._sync = sync
        self._heard_ms = heard_ms

    def beat(self) -> None:
        """Look whether the copy is too old, and have its keys refused while it is; called every second or so."""
        if self._sync.stale_keys == "refuse":
            self._access.doubt_hub_keys(self._doubt())

    def _doubt(self) -> str:
        heard_ms = self._heard_ms()
        if heard_ms is None or self._clock.now_ms() - heard_ms <= self._sync.max_age * 1_000:
            return ""
        since = datetime.fromtimestamp(heard_ms // 1_000, UTC)
        return (
            f"this key is the hub's, and the hub has not been heard of since {since:%Y-%m-%d %H:%M:%S} UTC: "
            'longer than sync.max_age, and sync.stale_keys is "refuse"'
        )
