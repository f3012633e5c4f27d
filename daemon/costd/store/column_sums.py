"""Records by columns added up by hour and series, as rollups take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, Protocol

from costd.domain.series import Series
from costd.store.commit import Commit

HOUR_MS = 3_600_000


class Columns(Protocol):
    """Records by columns, all equally long. `place` is each record's place in `series`.

    A cost or a latency is None where it is not known. `unrated` are positions of records with a unit that has no rate,
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
    sums: dict[tuple[int, int], list[Any]] = {}
    for key, *row in zip(_hours_and_series(batch), *batch.counts, batch.cost_nano, batch.latency_ms, strict=False):
        held = sums.get(key)
        if held is None:
            sums[key] = [row]
        else:
            held.append(row)
    unrated = _unrated_by_key(batch)
    for (hour, at), rows in sums.items():
        if len(rows) == 1 and not unrated:
            _add_one_to_rollup(commit, hour, numbers[at], batch.series[at], rows[0])
            continue
        inputs, outputs, reads, writes, reasoning, costs, latencies = zip(*rows, strict=True)
        series = batch.series[at]
        priced = [cost for cost in costs if cost is not None]
        timed = [latency for latency in latencies if latency is not None]
        records = len(rows)
        amounts = (
            records,
            records if series.status == "error" else 0,
            sum(inputs),
            sum(outputs),
            sum(reads),
            sum(writes),
            sum(reasoning),
            sum(priced),
            records - len(priced),
            unrated.get((hour, at), 0),
            sum(timed),
            len(timed),
        )
        commit.add_to_rollup(hour, numbers[at], series, amounts, timed)
    _note_the_rest(commit, batch, numbers)


def _add_one_to_rollup(commit: Commit, hour: int, number: int, series: Series, row: Sequence[Any]) -> None:
    """The same for the only record of its hour and series, as most are where there are many series."""
    in_, out, read, write, reasoning, cost, latency = row
    error = 1 if series.status == "error" else 0
    unpriced = 1 if cost is None else 0
    timed = () if latency is None else (latency,)
    amounts = (1, error, in_, out, read, write, reasoning, cost or 0, unpriced, 0, latency or 0, len(timed))
    commit.add_to_rollup(hour, number, series, amounts, timed)


def _hours_and_series(batch: Columns) -> Iterable[tuple[int, int]]:
    first, last = min(batch.at_ms) // HOUR_MS, max(batch.at_ms) // HOUR_MS
    if first == last:
        return zip(repeat(first), batch.place, strict=False)
    return zip([at_ms // HOUR_MS for at_ms in batch.at_ms], batch.place, strict=True)


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
