"""Budgets as Prometheus sees them: how their windows stand, what became of preflights, slices and alerts.

Gauges are read when Prometheus asks, as they are then; what is not known has no series. There may be very many windows
(one for each user, say), so the series of a metric are capped, and what is beyond is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from costd.domain.money import usd_text
from costd.metrics.counters import Counter, Histogram
from costd.metrics.exposition import family, label_text

#: A check in memory takes microseconds; one that waits for the disk milliseconds, for the hub up to its patience.
_CHECK_SECONDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 10.0,
)  # fmt: skip
#: A hub nearby answers in milliseconds.
_SLICE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_LABELS = ("org", "budget", "value")


class BudgetReading(NamedTuple):
    """A window of a budget as it stands; amounts in nano-USD, None where this daemon cannot know.

    `budget` is its name, `value` that of its `each`. A sidecar that has a hub knows what it recorded, reserved and
    holds itself, but not what is left.
    """

    org: str
    budget: str
    value: str
    limit_nano: int
    settled_nano: int
    reserved_nano: int
    held_nano: int
    available_nano: int | None
    overshoot_nano: int | None
    forecast_nano: int | None
    exhausted_in_s: int | None
    resets_ms: int | None


class BudgetReadings(NamedTuple):
    """The windows to show, how many others there are, and how many budgets are in force."""

    windows: Sequence[BudgetReading]
    beyond: int
    hard: int
    soft: int


class ReservationReadings(NamedTuple):
    """Calls that have money reserved, how many may, and how many let it expire since the start."""

    open: int
    capacity: int
    expired: int


class AlertReadings(NamedTuple):
    """Deliveries that wait, by channel, and when the oldest of their alerts was found (UTC milliseconds)."""

    waiting: Mapping[str, int]
    oldest_ms: int | None


NO_BUDGETS = BudgetReadings((), 0, 0, 0)


class BudgetMetrics:
    """What is counted about budgets. Safe to call from any thread; nothing here waits or raises."""

    def __init__(self) -> None:
        self._checks = Histogram(
            "costd_preflight_duration_seconds", "Time from a preflight's question to its answer.", _CHECK_SECONDS
        )
        self._preflights = Counter("costd_preflights", "Preflights answered.", ("decision", "reason"))
        self._slices = Counter("costd_slice_requests", "Requests to the hub for money of budgets.", ("outcome",))
        self._slice_seconds = Histogram(
            "costd_slice_request_seconds", "Time until the hub answered such a request.", _SLICE_SECONDS
        )
        self._lent = Counter("costd_hub_slice_requests", "Requests of sources for money of budgets.", ("outcome",))
        self._fired = Counter("costd_alerts_fired", "Alerts of budgets.", ("kind",))
        self._deliveries = Counter("costd_alert_deliveries", "Attempts to deliver an alert.", ("channel", "outcome"))

    def preflight(self, deny_reason: str, seconds: float) -> None:
        """A preflight was answered: allowed, or denied for a reason; `seconds` after it was asked."""
        self._preflights.add(("deny", deny_reason) if deny_reason else ("allow", ""), 1)
        self._checks.observe(seconds)

    def slices_asked(self, outcome: str, seconds: float) -> None:
        """At a sidecar: the hub was asked for money. "answered", "refused" (by the hub) or "failed" (out of reach)."""
        self._slices.add((outcome,), 1)
        if outcome != "failed":
            self._slice_seconds.observe(seconds)

    def slices_told(self, outcome: str) -> None:
        """At a hub: a source asked for money. "answered", "awaiting", "new_epoch" or "refused"."""
        self._lent.add((outcome,), 1)

    def alert_fired(self, kind: str) -> None:
        """An alert is on disk: "settled" or "forecast"."""
        self._fired.add((kind,), 1)

    def alert_tried(self, channel: str, *, accepted: bool) -> None:
        """A channel was tried."""
        self._deliveries.add((channel, "accepted" if accepted else "failed"), 1)

    def families(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for held in vars(self).values():
            yield held.family()


def reservation_families(now: ReservationReadings) -> Iterator[Metric]:
    """Reservations of calls under way."""
    yield GaugeMetricFamily("costd_reservations_open", "Calls that have money reserved.", value=now.open)
    yield GaugeMetricFamily("costd_reservations_capacity", "Calls that may have money reserved.", value=now.capacity)
    yield CounterMetricFamily(
        "costd_reservations_expired", "Reservations that were never settled nor released.", value=now.expired
    )


def alert_gauges(now: AlertReadings) -> Iterator[Metric]:
    """Alerts on their way out."""
    waiting = GaugeMetricFamily(
        "costd_alerts_undelivered", "Alerts that a channel has not accepted.", labels=["channel"]
    )
    for channel, count in sorted(now.waiting.items()):
        waiting.add_metric((channel,), count)
    yield waiting
    oldest = GaugeMetricFamily(
        "costd_oldest_undelivered_alert_timestamp_seconds",
        "When the oldest of them was found; absent while none waits.",
    )
    if now.oldest_ms is not None:
        oldest.add_metric((), now.oldest_ms / 1000)
    yield oldest


def expose(now: BudgetReadings) -> Iterator[bytes]:
    """The gauges of budgets in Prometheus' text format, in pieces."""
    shown = [(label_text(_LABELS, (window.org, window.budget, window.value)), window) for window in now.windows]
    for name, text, value_of in _GAUGES:
        yield from family(name, "gauge", text, _lines(name, shown, value_of))
    kinds = (f'costd_budgets{{kind="{kind}"}} {count}\n' for kind, count in (("hard", now.hard), ("soft", now.soft)))
    yield from family("costd_budgets", "gauge", "Budgets in force.", kinds)
    overflow = "costd_budget_overflow"
    text = "Windows of budgets that have no series of their own."
    yield from family(overflow, "gauge", text, [f"{overflow} {now.beyond}\n"])


def _lines(
    name: str, shown: Iterable[tuple[str, BudgetReading]], value_of: Callable[[BudgetReading], str | None]
) -> Iterator[str]:
    for labels, window in shown:
        value = value_of(window)
        if value is not None:
            yield f"{name}{{{labels}}} {value}\n"


def _usd(nano: int | None) -> str | None:
    return None if nano is None else usd_text(nano)


def _utilization(window: BudgetReading) -> str | None:
    if window.available_nano is None or not window.limit_nano:
        return None
    return f"{(window.settled_nano + window.held_nano) / window.limit_nano:.6g}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value}"


_GAUGES: tuple[tuple[str, str, Callable[[BudgetReading], str | None]], ...] = (
    ("costd_budget_limit_usd", "The amount of a budget.", lambda window: _usd(window.limit_nano)),
    ("costd_budget_settled_usd", "What was spent in its present window.", lambda window: _usd(window.settled_nano)),
    ("costd_budget_reserved_usd", "What calls under way have reserved.", lambda window: _usd(window.reserved_nano)),
    (
        "costd_budget_held_usd",
        "What is set aside and not spent: reserved here, or with sources.",
        lambda window: _usd(window.held_nano),
    ),
    ("costd_budget_available_usd", "What is left.", lambda window: _usd(window.available_nano)),
    ("costd_budget_overshoot_usd", "What was spent past the limit.", lambda window: _usd(window.overshoot_nano)),
    ("costd_budget_utilization_ratio", "What is spent or held, as a share of the limit.", _utilization),
    (
        "costd_budget_forecast_usd",
        "What will be spent when the window ends, at the pace of late.",
        lambda window: _usd(window.forecast_nano),
    ),
    (
        "costd_budget_exhaustion_seconds",
        "Until nothing is left, at the pace of late; absent where the window ends before.",
        lambda window: _seconds(window.exhausted_in_s),
    ),
    (
        "costd_budget_reset_timestamp_seconds",
        "When the window ends; absent where it never does.",
        lambda window: _seconds(None if window.resets_ms is None else window.resets_ms / 1000),
    ),
)
