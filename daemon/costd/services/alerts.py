"""Alerts: found where budgets are decided, once for each window, threshold and kind; kept first, then delivered.

Windows are looked at when they were charged, once a second, and all of them once a minute, when budgets have changed,
and at the start: what a former process charged and did not look at is found then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from costd.clock import Clock
from costd.domain import forecast
from costd.domain.access import Caller
from costd.domain.alerting import FORECAST, SETTLED, Alert, Reached, headline, may_forecast, reached
from costd.domain.errors import CostdError, Invalid
from costd.domain.ids import public_id
from costd.domain.money import MOST_NANO
from costd.domain.usage import check_string
from costd.domain.window import TOTAL, Window
from costd.domain.window_key import WindowKey
from costd.services.alert_outbox import AlertOutbox
from costd.services.budgets import Budgets
from costd.store import alerts as store
from costd.store.alerts import AlertPage, Found
from costd.store.budget_rows import WindowRow, read_windows
from costd.store.budgets import StoredBudget
from costd.store.charges import WindowCharge
from costd.store.commit import Change
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.writer import Writer

BEAT_S = 1.0
EVERYTHING_S = 60.0
MAX_PAGE = 1_000
DEFAULT_PAGE = 100
_MAX_CURSOR_DIGITS = 18
_WRITE_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class Alerts:
    """Finds alerts and lists them. Elsewhere than at an authority nothing is found: there the hub does."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        metrics: Metrics,
        budgets: Budgets,
        outbox: AlertOutbox,
        *,
        is_authority: bool,
    ) -> None:
        self.outbox = outbox
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._budgets = budgets
        self._is_authority = is_authority
        self._lock = threading.Lock()
        self._charged: set[WindowKey] = set()
        self._next_everything_s = 0.0
        self._has_started = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="costd-alerts", daemon=True)
        if is_authority:
            budgets.watch(self._look_at_everything)

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look and to deliver."""
        self.outbox.start()
        if self._is_authority:
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop; what was charged since the last look is found at the next start."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self.outbox.stop(timeout_s)

    def charged(self, charges: Sequence[WindowCharge]) -> None:
        """A commit has charged windows; called in the writer's thread."""
        if self._is_authority:
            with self._lock:
                self._charged.update(charge.place.key for charge in charges)

    def _look_at_everything(self) -> None:
        self._next_everything_s = 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.beat()
            except CostdError as error:
                if not self._stop.is_set():
                    _log.warning("alerts could not be looked for or kept: %s", error)
            except Exception:
                _log.exception("alerts could not be looked for")
            self._stop.wait(BEAT_S)

    # -- looking -------------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Find what is due, and keep it; what could not be kept is found again."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            charged, self._charged = self._charged, set()
        is_everything = now_s >= self._next_everything_s
        if is_everything:
            self._next_everything_s = now_s + EVERYTHING_S
        try:
            found = [*self._of_all()] if is_everything else []
            found += self._of_charged(charged)
            if found:
                self._keep(found)
        except BaseException:
            with self._lock:
                self._charged |= charged
            if is_everything:
                self._look_at_everything()
            raise
        self._has_started |= is_everything

    def _of_charged(self, charged: set[WindowKey]) -> Iterator[Found]:
        """Of windows that were charged, whichever period they are of: by what was spent."""
        helds = {held.budget.id: held for held in self._budgets.all_in_force() if held.budget.thresholds}
        keys = [
            key for key in charged if key.budget_id in helds and key.revision == helds[key.budget_id].budget.revision
        ]
        if not keys:
            return
        with self._readers.snapshot() as connection:
            rows = read_windows(connection, keys)
        for key, row in rows.items():
            window = Window(key.start_ms, row.end_ms)
            yield from self._new(helds[key.budget_id], key, window, _settled_nano(row), None)

    def _of_all(self) -> Iterator[Found]:
        """Of every present window, by what was spent and by the forecast; at the start of the windows before, too."""
        for held in self._budgets.all_in_force():
            budget = held.budget
            if not budget.thresholds:
                continue
            now_ms = self._clock.now_ms()
            window = budget.windows().at(now_ms)
            before = None if budget.period == TOTAL or not window.start_ms else budget.windows().at(window.start_ms - 1)
            with self._readers.snapshot() as connection:
                settled = store.read_settled(connection, budget.id, budget.revision, window)
                earlier = store.read_settled(connection, budget.id, budget.revision, before) if before else {}
            yield from self._of_present(held, window, settled, earlier, now_ms)
            # Thresholds that were set after a window had ended say nothing of it.
            if before is not None and not self._has_started and before.end_ms > held.updated_ms:
                yield from self._of_past(held, before, earlier)

    def _of_present(
        self,
        held: StoredBudget,
        window: Window,
        settled: Mapping[str, int],
        earlier: Mapping[str, int],
        now_ms: int,
    ) -> Iterator[Found]:
        budget = held.budget
        for value, settled_nano in settled.items():
            key = WindowKey(budget.id, budget.revision, value, window.start_ms)
            before_nano = earlier.get(value)
            coming_nano = None
            if may_forecast(budget.period, window, now_ms):
                pace = forecast.pace_of(budget.period, window, settled_nano, before_nano, now_ms)
                coming_nano = forecast.forecast_nano(settled_nano, pace, window, now_ms)
            yield from self._new(held, key, window, settled_nano, coming_nano)

    def _of_past(self, held: StoredBudget, window: Window, settled: Mapping[str, int]) -> Iterator[Found]:
        for value, settled_nano in settled.items():
            key = WindowKey(held.budget.id, held.budget.revision, value, window.start_ms)
            yield from self._new(held, key, window, settled_nano, None)

    def _new(
        self, held: StoredBudget, key: WindowKey, window: Window, settled_nano: int, forecast_nano: int | None
    ) -> Iterator[Found]:
        """What a window has reached and was not told of."""
        budget = held.budget
        now = reached(budget, settled_nano, forecast_nano)
        if not now:
            return
        with self._readers.snapshot() as connection:
            fired = store.read_fired(connection, key)
        for threshold, kind in now:
            # Nobody needs the forecast of what they were told has happened, even where a correction took it back.
            if Reached(threshold, kind) in fired or (kind == FORECAST and Reached(threshold, SETTLED) in fired):
                continue
            now_ms = self._clock.now_ms()
            alert = Alert(
                public_id(now_ms),
                held.organization,
                budget.id,
                budget.name,
                budget.each,
                key.value,
                window,
                threshold,
                kind,
                now_ms,
                min(settled_nano, MOST_NANO),
                budget.amount_nano,
                # What does not fit into the database would keep every other alert out of it, time and again.
                None if forecast_nano is None else min(forecast_nano, MOST_NANO),
            )
            yield Found(key, budget.org_id, alert)

    def _keep(self, found: Sequence[Found]) -> None:
        channels = self.outbox.names
        change = Change(lambda commit: store.store_alerts(commit, found, channels))
        fired: list[Alert] = self._writer.submit(change).wait(_WRITE_TIMEOUT_S)
        for alert in fired:
            self._metrics.budgets.alert_fired(alert.kind)
            _log.warning("%s", headline(alert), extra=_extras(alert))
        self.outbox.wake()

    # -- listing -------------------------------------------------------------------------------------------------------

    def page(self, caller: Caller, budget: str, cursor: str, limit: int) -> AlertPage:
        """The organization's alerts, newest first, of one budget by its id or name, or "" for all.

        `cursor` is the next_cursor of an earlier page, "" for the first; `limit` is DEFAULT_PAGE where it is 0.
        """
        caller.require("read")
        check_string(budget, "budget")
        if not 0 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_CURSOR_DIGITS):
            raise Invalid("cursor", "must be the cursor of an earlier answer")
        with self._readers.snapshot() as connection:
            return store.list_alerts(
                connection, caller.org_id, budget, int(cursor) if cursor else None, limit or DEFAULT_PAGE
            )


def _settled_nano(row: WindowRow) -> int:
    return row.settled_nano - row.credited_nano + sum(account.settled_nano for account in row.accounts.values())


def _extras(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.id,
        "organization": alert.organization,
        "budget": alert.budget,
        "value": alert.value,
        "kind": alert.kind,
        "threshold": alert.threshold,
        "settled_nano_usd": alert.settled_nano,
        "limit_nano_usd": alert.limit_nano,
        "forecast_nano_usd": alert.forecast_nano,
    }
