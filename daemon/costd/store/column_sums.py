"""Records by columns added up by hour and series, as rollups take them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Protocol

from costd.domain.series import Series
from costd.store.commit import QUARTER_MS, Commit

HOUR_MS = 3_600_000


class Columns(Protocol):
    """Records by columns, all equally long. `place` is each record's place in `series`.

    A cost or a latency is None where it is not known. `charged_ms` is None where that is their time, and empty where it
    is for all of them. `unrated` are positions of records with a unit that has no rate,
    `rare` units without a column, by position.
    """

    @property
    def series(self) -> Sequence[Series]:
        """The series that places are of."""

    @property
    def place(self) -> Sequence[int]:
        """Each record's place in them."""

    @property
    def at_ms(self) -> Sequence[int]:
        """Their times."""

    @property
    def charged_ms(self) -> Sequence[int | None]:
        """When they were reserved."""

    @property
    def counts(self) -> tuple[Sequence[int], ...]:
        """What they used, of domain.batch.COUNT_COLUMNS."""

    @property
    def cost_nano(self) -> Sequence[int | None]:
        """What they cost."""

    @property
    def latency_ms(self) -> Sequence[int | None]:
        """How long they took."""

    @property
    def unrated(self) -> frozenset[int]:
        """Which have a unit without a rate."""

    @property
    def rare(self) -> Mapping[int, tuple[tuple[str, int | Decimal], ...]]:
        """Their units without a column."""


def add_columns(commit: Commit, batch: Columns, numbers: Mapping[int, int]) -> None:
    """Add records to rollups; `numbers` are those of the series, by their places."""
    unrated = _unrated_by_key(batch)
    for (hour, at), positions in _positions(batch).items():
        number, series, without_rate = numbers[at], batch.series[at], unrated.get((hour, at), 0)
        if len(positions) == 1:
            _add_one_to_rollup(commit, hour, number, series, batch, positions[0], without_rate)
            continue
        pick = itemgetter(*positions)
        costs, latencies = pick(batch.cost_nano), pick(batch.latency_ms)
        priced = [cost for cost in costs if cost is not None]
        timed = [latency for latency in latencies if latency is not None]
        records = len(positions)
        amounts = (
            records,
            records if series.status == "error" else 0,
            *[sum(pick(column)) for column in batch.counts],
            sum(priced),
            records - len(priced),
            without_rate,
            sum(timed),
            len(timed),
        )
        commit.add_to_rollup(hour, number, series, amounts, timed)
    _note_the_rest(commit, batch, numbers)
    if commit.charges is not None:
        _charge(commit, batch, numbers)


def _charge(commit: Commit, batch: Columns, numbers: Mapping[int, int]) -> None:
    """Charge records to budgets, those of a series and a quarter of an hour together."""
    times: Sequence[int] = batch.at_ms
    if batch.charged_ms:
        both = zip(batch.at_ms, batch.charged_ms, strict=True)
        times = [at_ms if charged_ms is None else charged_ms for at_ms, charged_ms in both]
    first = min(times) // QUARTER_MS
    if first == max(times) // QUARTER_MS:
        by_place: defaultdict[int, int] = defaultdict(int)
        for place, cost in zip(batch.place, batch.cost_nano, strict=True):
            if cost:
                by_place[place] += cost
        for place, cost in by_place.items():
            commit.charge(numbers[place], first * QUARTER_MS, cost)
        return
    by_quarter: defaultdict[tuple[int, int], int] = defaultdict(int)
    for place, time_ms, cost in zip(batch.place, times, batch.cost_nano, strict=True):
        if cost:
            by_quarter[place, time_ms // QUARTER_MS] += cost
    for (place, quarter), cost in by_quarter.items():
        commit.charge(numbers[place], quarter * QUARTER_MS, cost)


def _add_one_to_rollup(
    commit: Commit, hour: int, number: int, series: Series, batch: Columns, position: int, unrated: int
) -> None:
    """The same for the only record of its hour and series, as most are where there are many series."""
    cost, latency = batch.cost_nano[position], batch.latency_ms[position]
    error = 1 if series.status == "error" else 0
    unpriced = 1 if cost is None else 0
    timed = () if latency is None else (latency,)
    counts = [column[position] for column in batch.counts]
    amounts = (1, error, *counts, cost or 0, unpriced, unrated, latency or 0, len(timed))
    commit.add_to_rollup(hour, number, series, amounts, timed)


def _positions(batch: Columns) -> dict[tuple[int, int], list[int]]:
    """{(hour, place): positions of the records there}."""
    found: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    first, last = min(batch.at_ms) // HOUR_MS, max(batch.at_ms) // HOUR_MS
    if first != last:
        for position, (at_ms, place) in enumerate(zip(batch.at_ms, batch.place, strict=True)):
            found[at_ms // HOUR_MS, place].append(position)
        return found
    by_place: defaultdict[int, list[int]] = defaultdict(list)
    for position, place in enumerate(batch.place):
        by_place[place].append(position)
    return {(first, place): positions for place, positions in by_place.items()}


def _unrated_by_key(batch: Columns) -> dict[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = {}
    for at in batch.unrated:
        key = (batch.at_ms[at] // HOUR_MS, batch.place[at])
        counts[key] = counts.get(key, 0) + 1
    return counts


def _note_the_rest(commit: Commit, batch: Columns, numbers: Mapping[int, int]) -> None:
    for at, units in batch.rare.items():
        for unit, quantity in units:
            commit.add_unit_to_rollup(batch.at_ms[at] // HOUR_MS, numbers[batch.place[at]], unit, quantity)
    latest_ms = max(batch.at_ms)
    if latest_ms == min(batch.at_ms):
        for series in {batch.series[at] for at in numbers}:
            commit.heard_of(series.org_id, series.provider, latest_ms)
        return
    newest: dict[int, int] = {}
    for at, at_ms in zip(batch.place, batch.at_ms, strict=True):
        if at_ms > newest.get(at, 0):
            newest[at] = at_ms
    for at, at_ms in newest.items():
        commit.heard_of(batch.series[at].org_id, batch.series[at].provider, at_ms)
