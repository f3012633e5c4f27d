"""A transaction of the ledger in the making: its id and numbers, its rollups, and the changes made in it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from costd.domain.days import month_of_hour
from costd.domain.forwarding import CommitSpan
from costd.domain.ids import new_commit_id
from costd.domain.money import NANO_PER_USD, round_half_even
from costd.domain.rollup import ROLLUP_AMOUNTS, AdjustmentCounts, Sums
from costd.domain.series import Series
from costd.store.rows import insert_rows

if TYPE_CHECKING:
    from costd.store.budget_history import Opened
    from costd.store.charges import WindowCharge

MICRO = 1_000_000
#: Windows of budgets begin on quarters of an hour, in every zone there is.
QUARTER_MS = 900_000

#: A source and its epoch, whose records these are; None for our own.
Holder = tuple[int, bytes] | None


class Change(NamedTuple):
    """Any other write: runs in a savepoint of its own, so that its failure is nobody else's."""

    apply: Callable[[Commit], Any]
    #: Called with the outcome once it is on disk, whether or not anybody still waits; quick, must not raise.
    after: Callable[[Any], None] | None = None
    #: Control writes may use the reserve of disk when records may not.
    control: bool = True
    #: What is few by itself and must go on while callers are turned away is let into a full queue: forwarding, above
    #: all, which is what makes room again at a hub, and what revokes keys.
    bounded: bool = True


class Remembered(Protocol):
    """What a commit asks of what is known between commits (see costd.store.ledger.Ledger)."""

    totalled: tuple[int, int]

    def intern(self, commit: Commit, series: Series, *, is_own: bool = True) -> int:
        """The number of a series; one that is not our own tells of its users and projects by itself."""

    def lags(self, org_id: int, provider: str, newest_ms: int) -> bool:
        """Whether the stored freshness of a provider is too far behind."""


class Charge(NamedTuple):
    """What budgets are charged with: a series' cost in a quarter of an hour; below zero where it was lowered."""

    holder: Holder
    series_id: int
    quarter: int
    cost_nano: int


class Mark(NamedTuple):
    """How far a commit has come: its present id and numbers, and what it has collected for budgets."""

    id: int
    first_seq: int
    next_seq: int
    proof_id: int
    charges: int
    named: int
    steps: int


class Commit:
    """One transaction of the ledger in the making: its id, its numbers, and what it sums to.

    Where it takes over whole commits of other ledgers, which keep their ids, what it has of its own lies in pieces
    around them, each with an id.
    """

    def __init__(self, connection: sqlite3.Connection, ledger: Remembered, first_seq: int, now_ms: int) -> None:
        self.connection = connection
        self.ledger = ledger
        self.id = new_commit_id(now_ms)
        self.now_ms = now_ms
        self.first_seq = first_seq
        self.next_seq = first_seq
        #: The id of a row that is in the database exactly if this transaction is.
        self.proof_id = self.id
        #: Records that came by other ways than drafts and batches, by (door, outcome).
        self.tally: Counter[tuple[str, str]] = Counter()
        self.sums: dict[tuple[int, int], Sums] = {}
        self.units: dict[tuple[int, int, str], int] = {}
        #: What corrections add to rollups: apart from what records do, because counters show only those.
        self.corrected: dict[tuple[int, int], list[int]] = {}
        self.adjustments = AdjustmentCounts()
        self.interned: list[Series] = []
        self.newest: dict[tuple[int, str], int] = {}
        #: What may belong elsewhere now, as (kind, organization, application or "", id) of the catalog.
        self.catalog_said: set[tuple[str, int, str, str]] = set()
        #: The last rollup (hour, series) that is in the totals already: what is added up to it must go there as well.
        self.totalled = ledger.totalled
        #: What budgets are charged with, in the order it came; None where nothing asks for it.
        self.charges: list[Charge] | None = None
        #: The request ids (in their stored form) of records that are on disk with this commit, new or repeated.
        self.named: list[tuple[int, bytes | str]] = []
        #: Done once all records and changes are in: for what must know every record of the commit.
        self.at_end: list[Callable[[Commit], None]] = []
        #: What was written of it, and windows that were begun with what had been recorded before.
        self.window_charges: list[WindowCharge] = []
        self.opened: list[Opened] = []
        self._holder: Holder = None

    def take_seq(self) -> int:
        """The next number of the ledger's sequence."""
        seq = self.next_seq
        self.next_seq += 1
        return seq

    def take_seqs(self, count: int) -> int:
        """The next `count` numbers of the ledger's sequence; the first of them."""
        seq = self.next_seq
        self.next_seq += count
        return seq

    def adopt(self, spans: Sequence[CommitSpan], received_ms: int) -> list[tuple[int, int]]:
        """Take over commits of another ledger whole, each under its own id: (its first number there, and here).

        They count as received at `received_ms`.
        """
        if not spans:
            return []
        self._end_piece()
        places = []
        rows = []
        for span in spans:
            here = self.take_seqs(span.items)
            places.append((span.first, here))
            rows.append((here, span.id.to_bytes(16, "big"), received_ms, span.items))
        insert_rows(self.connection, _INTO_COMMIT, 4, rows)
        self.proof_id = spans[-1].id
        self.id = new_commit_id(self.now_ms)
        self.first_seq = self.next_seq
        return places

    def mark(self) -> Mark:
        """Where the commit stands; for rewind()."""
        charges = 0 if self.charges is None else len(self.charges)
        return Mark(self.id, self.first_seq, self.next_seq, self.proof_id, charges, len(self.named), len(self.at_end))

    def rewind(self, mark: Mark) -> None:
        """Forget the numbers taken and the charges made since the mark, after its savepoint was rolled back."""
        self.id, self.first_seq, self.next_seq, self.proof_id, charges, named, steps = mark
        if self.charges is not None:
            del self.charges[charges:]
        del self.named[named:]
        del self.at_end[steps:]

    def public_id(self, seq: int) -> int:
        """The public id of any item, of this commit or one before it."""
        return self.event_id(seq) if seq >= self.first_seq else event_id_of(self.connection, seq)

    def event_id(self, seq: int) -> int:
        """The public id of the item that this commit numbered `seq`."""
        return self.id + (seq - self.first_seq)

    @contextmanager
    def held_by(self, source_id: int, epoch: bytes) -> Iterator[None]:
        """What is charged meanwhile was recorded at a source, in this epoch of it."""
        self._holder = (source_id, epoch)
        try:
            yield
        finally:
            self._holder = None

    def charge(self, series_id: int, charged_ms: int, cost_nano: int) -> None:
        """Note what budgets are charged with, below zero for a correction; only where `charges` are collected."""
        assert self.charges is not None
        self.charges.append(Charge(self._holder, series_id, charged_ms // QUARTER_MS, cost_nano))

    def series_of(self, series_id: int) -> Series:
        """The series with this number."""
        sql = f"SELECT {', '.join(Series._fields)} FROM series WHERE id = ?"
        return Series(*self.connection.execute(sql, (series_id,)).fetchone())

    def heard_of(self, org_id: int, provider: str, at_ms: int) -> None:
        """Note that `provider` ("" where none is known) was heard of at this time."""
        if at_ms > self.newest.get((org_id, provider), 0):
            self.newest[org_id, provider] = at_ms

    def add_to_rollup(
        self, hour: int, series_id: int, series: Series, amounts: Sequence[int], latencies_ms: Sequence[int] = ()
    ) -> None:
        """Add `amounts` (ROLLUP_AMOUNTS) to the rollup of this hour and series; latencies are for the metrics."""
        held = self.sums.get((hour, series_id))
        if held is None:
            self.sums[hour, series_id] = Sums(series_id, series, list(amounts), list(latencies_ms))
        else:
            held.amounts[:] = map(int.__add__, held.amounts, amounts)
            held.latencies_ms.extend(latencies_ms)

    def add_unit_to_rollup(self, hour: int, series_id: int, unit: str, quantity: int | Decimal) -> None:
        """Add a quantity of a unit without a column to its rollup, in millionths, half-even."""
        key = (hour, series_id, unit)
        self.units[key] = self.units.get(key, 0) + micro_units(quantity)

    def correct_rollup(self, hour: int, series_id: int, amounts: Sequence[int]) -> None:
        """Add the `amounts` of a correction, which may be below zero, to the rollup of this hour and series."""
        held = self.corrected.setdefault((hour, series_id), [0] * len(ROLLUP_AMOUNTS))
        held[:] = map(int.__add__, held, amounts)

    def seal(self) -> None:
        """Write the rollups and the commit's own row."""
        if self.sums:
            self._add_to_rollups([(*key, *split_cost(sums.amounts)) for key, sums in self.sums.items()])
        if self.corrected:
            rows = [(*key, *split_cost(amounts)) for key, amounts in self.corrected.items()]
            self._add_to_rollups(rows)
            insert_rows(self.connection, _INTO_SERIES_ADJUSTED, 14, [row[1:] for row in rows], ADD_AMOUNTS)
        if self.units:
            unit_rows = [(*key, *divmod(micro, MICRO)) for key, micro in self.units.items()]
            insert_rows(self.connection, _INTO_ROLLUP_UNIT, 5, unit_rows, _ADD_ROLLUP_UNIT)
        self._end_piece()
        stale = [(org, name, ms) for (org, name), ms in self.newest.items() if self.ledger.lags(org, name, ms)]
        if stale:
            insert_rows(self.connection, INTO_FRESHNESS, 3, stale, RAISE_FRESHNESS)

    def _end_piece(self) -> None:
        """Write the row of what was numbered since the last adopted commit."""
        if self.next_seq > self.first_seq:
            row = (self.first_seq, self.id.to_bytes(16, "big"), self.now_ms, self.next_seq - self.first_seq)
            insert_rows(self.connection, _INTO_COMMIT, 4, [row])
            self.proof_id = self.id

    def _add_to_rollups(self, rows: list[tuple[int, ...]]) -> None:
        """Add rows of (hour, series_id, amounts) to hours, and to what folded hours are in already."""
        insert_rows(self.connection, _INTO_ROLLUP, 15, rows, ADD_AMOUNTS)
        late = [row for row in rows if row[:2] <= self.totalled]
        insert_rows(self.connection, _INTO_SERIES_TOTAL, 14, [row[1:] for row in late], ADD_AMOUNTS)
        late_days = [(row[0] // 24, *row[1:]) for row in late]
        insert_rows(self.connection, _INTO_ROLLUP_DAY, 15, late_days, ADD_AMOUNTS)
        late_months = [(month_of_hour(row[0]), *row[1:]) for row in late]
        insert_rows(self.connection, _INTO_ROLLUP_MONTH, 15, late_months, ADD_AMOUNTS)


def event_id_of(connection: sqlite3.Connection, seq: int) -> int:
    """The public id of the item numbered `seq`."""
    first_seq, commit_id = connection.execute(
        "SELECT first_seq, id FROM ledger_commit WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return int.from_bytes(commit_id, "big") + (seq - int(first_seq))


def micro_units(quantity: int | Decimal) -> int:
    """A quantity in millionths, half-even."""
    if isinstance(quantity, int):
        return quantity * MICRO
    numerator, denominator = quantity.as_integer_ratio()
    return round_half_even(numerator * MICRO, denominator)


def split_cost(amounts: Sequence[int]) -> tuple[int, ...]:
    """ROLLUP_AMOUNTS as the columns of sums, where the cost is whole USD and nano-USD, the latter never below zero."""
    requests, errors, in_, out, read, write, reasoning, cost_nano, unpriced, unrated, latency_ms, timed = amounts
    usd, nano = divmod(cost_nano, NANO_PER_USD)
    return requests, errors, in_, out, read, write, reasoning, usd, nano, unpriced, unrated, latency_ms, timed


_ROLLUP_SUMS = tuple(name for name in ROLLUP_AMOUNTS if name != "cost_nano")
#: The columns of sums in rollups and totals.
AMOUNT_COLUMNS = (
    "requests, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, "
    "cost_usd, cost_nano, unpriced, unrated, latency_ms, timed"
)
_INTO_COMMIT = "INSERT INTO ledger_commit (first_seq, id, at_ms, items)"
_INTO_ROLLUP = f"INSERT INTO rollup (hour, series_id, {AMOUNT_COLUMNS})"
_INTO_ROLLUP_MONTH = f"INSERT INTO rollup_month (month, series_id, {AMOUNT_COLUMNS})"
_INTO_ROLLUP_DAY = f"INSERT INTO rollup_day (day, series_id, {AMOUNT_COLUMNS})"
_INTO_SERIES_ADJUSTED = f"INSERT INTO series_adjusted (series_id, {AMOUNT_COLUMNS})"
_INTO_SERIES_TOTAL = f"INSERT INTO series_total (series_id, {AMOUNT_COLUMNS})"
ADD_AMOUNTS = (
    " ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _ROLLUP_SUMS)
    + f", cost_usd = cost_usd + excluded.cost_usd + (cost_nano + excluded.cost_nano) / {NANO_PER_USD}"
    + f", cost_nano = (cost_nano + excluded.cost_nano) % {NANO_PER_USD}"
)
_INTO_ROLLUP_UNIT = "INSERT INTO rollup_unit (hour, series_id, unit, whole, micro)"
_ADD_ROLLUP_UNIT = (
    f" ON CONFLICT DO UPDATE SET whole = whole + excluded.whole + (micro + excluded.micro) / {MICRO}"
    f", micro = (micro + excluded.micro) % {MICRO}"
)
INTO_FRESHNESS = "INSERT INTO provider_freshness (org_id, provider, newest_ms)"
RAISE_FRESHNESS = " ON CONFLICT DO UPDATE SET newest_ms = max(newest_ms, excluded.newest_ms)"
