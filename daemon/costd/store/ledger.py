"""The ledger's writing half: turns a group of drafts into rows, rollups and outcomes inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from costd.domain.errors import Conflict
from costd.domain.ids import new_commit_id, parse_uuid
from costd.domain.money import NANO_PER_USD, round_half_even
from costd.domain.rollup import ROLLUP_AMOUNTS, Sums
from costd.domain.series import Series
from costd.domain.usage import SUCCESS
from costd.store.rows import insert_rows

#: Series remembered with their numbers; one entry is about a kilobyte, so this bounds the cache to some 20 MB.
MAX_INTERNED = 20_000

#: Providers whose freshness is remembered: there are some fifty, but callers may invent them.
MAX_PROVIDERS = 1_000

MICRO = 1_000_000


class EventDraft(NamedTuple):
    """One record, ready to be stored. `units` without a column are in `rare`; `extra` is JSON or None."""

    series: Series
    at_ms: int
    charged_ms: int | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int | None
    price_source_id: int | None
    latency_ms: int | None
    extra: str | None
    rare: tuple[tuple[str, int | Decimal], ...]
    unrated: bool
    request_id: str
    fingerprint: bytes
    door: str


class Stored(NamedTuple):
    """Where a record is: its event id, and whether it was there before (then also what was answered first)."""

    event_id: int
    seq: int
    duplicate: bool
    cost_nano: int | None = None
    provider: str = ""
    at_ms: int = 0


class Request(NamedTuple):
    """A request id that is already held: what it stood for, and the number of the item it made."""

    fingerprint: bytes
    seq: int


class Change(NamedTuple):
    """Any other write: runs in a savepoint of its own, so that its failure is nobody else's."""

    apply: Callable[[Commit], Any]
    #: Called with the outcome once it is on disk, whether or not anybody still waits; quick, must not raise.
    after: Callable[[Any], None] | None = None
    #: Control writes may use the reserve of disk when records may not.
    control: bool = True


class Commit:
    """One transaction of the ledger in the making: its id, its numbers, and what it sums to."""

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger, first_seq: int, now_ms: int) -> None:
        self.connection = connection
        self.ledger = ledger
        self.id = new_commit_id(now_ms)
        self.now_ms = now_ms
        self.first_seq = first_seq
        self.next_seq = first_seq
        self.sums: dict[tuple[int, int], Sums] = {}
        self.units: dict[tuple[int, int, str], int] = {}
        self.interned: list[Series] = []
        self.newest: dict[tuple[int, str], int] = {}
        #: The last rollup (hour, series) that is in the totals already: what is added up to it must go there as well.
        self.totalled = ledger.totalled

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

    def public_id(self, seq: int) -> int:
        """The public id of any item, of this commit or one before it."""
        return self.event_id(seq) if seq >= self.first_seq else event_id_of(self.connection, seq)

    def event_id(self, seq: int) -> int:
        """The public id of the item that this commit numbered `seq`."""
        return self.id + (seq - self.first_seq)

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

    def seal(self) -> None:
        """Write the rollups and the commit's own row."""
        if self.sums:
            rows = [(*key, *_split_cost(sums.amounts)) for key, sums in self.sums.items()]
            insert_rows(self.connection, _INTO_ROLLUP, 15, rows, ADD_AMOUNTS)
            late = [row for row in rows if row[:2] <= self.totalled]
            insert_rows(self.connection, _INTO_SERIES_TOTAL, 14, [row[1:] for row in late], ADD_AMOUNTS)
            late_days = [(row[0] // 24, *row[1:]) for row in late]
            insert_rows(self.connection, _INTO_ROLLUP_DAY, 15, late_days, ADD_AMOUNTS)
        if self.units:
            unit_rows = [(*key, *divmod(micro, MICRO)) for key, micro in self.units.items()]
            insert_rows(self.connection, _INTO_ROLLUP_UNIT, 5, unit_rows, _ADD_ROLLUP_UNIT)
        if self.next_seq > self.first_seq:
            self.connection.execute(
                "INSERT INTO ledger_commit (first_seq, id, at_ms, items) VALUES (?, ?, ?, ?)",
                (self.first_seq, self.id.to_bytes(16, "big"), self.now_ms, self.next_seq - self.first_seq),
            )
        stale = [(org, name, ms) for (org, name), ms in self.newest.items() if self.ledger.lags(org, name, ms)]
        if stale:
            insert_rows(self.connection, _INTO_FRESHNESS, 3, stale, _RAISE_FRESHNESS)


class Ledger:
    """What the writer knows of the ledger between commits: the next number and the interned series."""

    #: The stored freshness of a provider may lag this far behind the one in memory: it spares most commits a write.
    FRESHNESS_LAG_MS = 10_000

    def __init__(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(
            "SELECT first_seq + items FROM ledger_commit ORDER BY first_seq DESC LIMIT 1"
        ).fetchone()
        self._next_seq: int = row[0] if row else 1
        self._series: dict[Series, int] = {}
        self.newest: dict[tuple[int, str], int] = {
            (org, provider): newest_ms
            for org, provider, newest_ms in connection.execute(
                "SELECT * FROM provider_freshness ORDER BY newest_ms DESC LIMIT ?", (MAX_PROVIDERS,)
            )
        }
        self._stored_newest = dict(self.newest)
        self.totalled: tuple[int, int] = connection.execute(
            "SELECT totalled_hour, totalled_series_id FROM ledger_state"
        ).fetchone()

    def begin(self, connection: sqlite3.Connection, now_ms: int) -> Commit:
        """Start a commit on a connection that is already inside its transaction."""
        return Commit(connection, self, self._next_seq, now_ms)

    def committed(self, commit: Commit) -> None:
        """Take over what a commit did, once it is on disk."""
        self._next_seq = commit.next_seq
        self.totalled = commit.totalled
        for key, ms in commit.newest.items():
            if self.lags(*key, ms):
                self._stored_newest[key] = ms
            if ms > self.newest.get(key, 0):
                self.newest[key] = ms
        if len(self.newest) > MAX_PROVIDERS:
            self._forget_old_providers()

    def _forget_old_providers(self) -> None:
        """Keep the half that was heard of last."""
        kept = sorted(self.newest, key=self.newest.__getitem__, reverse=True)[: MAX_PROVIDERS // 2]
        self._stored_newest = {key: self._stored_newest[key] for key in kept if key in self._stored_newest}
        # Replaced, never emptied: readers in other threads hold on to the one they have.
        self.newest = {key: self.newest[key] for key in kept}

    def abandoned(self, commit: Commit) -> None:
        """Forget what a commit that was rolled back had put into the caches."""
        for series in commit.interned:
            self._series.pop(series, None)

    def lags(self, org_id: int, provider: str, newest_ms: int) -> bool:
        """Whether the stored freshness is too far behind `newest_ms`."""
        return newest_ms >= self._stored_newest.get((org_id, provider), -self.FRESHNESS_LAG_MS) + self.FRESHNESS_LAG_MS

    def store_freshness(self, commit: Commit) -> None:
        """Bring the stored freshness up to the one in memory; for a clean stop."""
        rows = [(*key, ms) for key, ms in self.newest.items()]
        if rows:
            insert_rows(commit.connection, _INTO_FRESHNESS, 3, rows, _RAISE_FRESHNESS)

    def write(self, commit: Commit, drafts: Sequence[EventDraft]) -> list[Stored | Conflict]:
        """Store `drafts`; an outcome for each, in order."""
        keys = [(d.series.org_id, stored_request_id(d.request_id)) if d.request_id else None for d in drafts]
        asked = {key for key in keys if key is not None}
        known = find_requests(commit.connection, asked) if asked else {}
        fresh: dict[int, EventDraft] = {}
        outcomes: list[Stored | Conflict] = []
        events: list[tuple[Any, ...]] = []
        requests: list[tuple[Any, ...]] = []
        for draft, key in zip(drafts, keys, strict=True):
            seq = commit.next_seq
            if key is not None:
                earlier = known.get(key)
                if earlier is not None:
                    outcomes.append(_repeated(commit, earlier, draft.fingerprint, fresh.get(earlier.seq)))
                    continue
                known[key] = Request(draft.fingerprint, seq)
                fresh[seq] = draft
                requests.append((seq, *key, draft.fingerprint))
            commit.take_seq()
            events.append(self._row(commit, seq, draft))
            outcomes.append(Stored(commit.event_id(seq), seq, duplicate=False))
        if events:
            insert_rows(commit.connection, INTO_EVENT, EVENT_COLUMNS, events)
        if requests:
            insert_rows(commit.connection, INTO_REQUEST, 4, requests)
        return outcomes

    def _row(self, commit: Commit, seq: int, draft: EventDraft) -> tuple[Any, ...]:
        series = draft.series
        series_id = self.intern(commit, series)
        hour = draft.at_ms // 3_600_000
        latencies_ms = () if draft.latency_ms is None else (draft.latency_ms,)
        commit.add_to_rollup(hour, series_id, series, draft_amounts(draft), latencies_ms)
        for unit, quantity in draft.rare:
            commit.add_unit_to_rollup(hour, series_id, unit, quantity)
        commit.heard_of(series.org_id, series.provider, draft.at_ms)
        return (
            seq,
            draft.at_ms,
            draft.charged_ms,
            series_id,
            draft.input_tokens,
            draft.output_tokens,
            draft.cache_read_tokens,
            draft.cache_write_tokens,
            draft.reasoning_tokens,
            draft.cost_nano,
            draft.price_source_id,
            draft.latency_ms,
            draft.extra,
        )

    def intern(self, commit: Commit, series: Series) -> int:
        """The number of `series`, given to it now if it is new."""
        number = self._series.get(series)
        if number is not None:
            return number
        digest = blake2b(repr(tuple(series)).encode(), digest_size=16).digest()
        connection = commit.connection
        row = connection.execute("SELECT id FROM series WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            row = connection.execute(_INTO_SERIES, (digest, *series)).fetchone()
            self._first_seen(commit, series)
        if len(self._series) >= MAX_INTERNED:
            # The older half goes: cheaper than keeping an order of use, and each is one indexed read away.
            for old in list(self._series)[: MAX_INTERNED // 2]:
                del self._series[old]
        self._series[series] = row[0]
        commit.interned.append(series)
        return int(row[0])

    def _first_seen(self, commit: Commit, series: Series) -> None:
        """Put the user and the project of a new series into the catalog, unless they are there."""
        now = commit.now_ms
        for table, name in (("catalog_user", series.user), ("catalog_project", series.project)):
            if not name:
                continue
            key = (series.org_id, series.source_app, name)
            where = "org_id = ? AND source_app = ? AND external_id = ?"
            if commit.connection.execute(f"SELECT 1 FROM {table} WHERE {where}", key).fetchone():
                continue
            registered = ", registered" if table == "catalog_project" else ""
            commit.connection.execute(
                f"INSERT INTO {table} (org_id, source_app, external_id, created_ms, updated_ms, seq{registered}) "
                f"VALUES (?, ?, ?, ?, ?, ?{', 0' if registered else ''})",
                (*key, now, now, commit.take_seq()),
            )


def find_requests(
    connection: sqlite3.Connection, keys: Iterable[tuple[int, bytes | str]]
) -> dict[tuple[int, bytes | str], Request]:
    """{(org, id): request} of those request ids that are already held."""
    by_org: dict[int, list[bytes | str]] = {}
    for org_id, request_id in keys:
        by_org.setdefault(org_id, []).append(request_id)
    found: dict[tuple[int, bytes | str], Request] = {}
    for org_id, ids in by_org.items():
        for start in range(0, len(ids), _LOOKUP_ROWS):
            chunk = ids[start : start + _LOOKUP_ROWS]
            # Padded with NULLs, which match nothing, to a power of two: few distinct statements to prepare.
            width = 1 << (len(chunk) - 1).bit_length()
            marks = ",".join("?" * width)
            sql = f"SELECT request_id, fingerprint, seq FROM request WHERE org_id = ? AND request_id IN ({marks})"
            for request_id, fingerprint, seq in connection.execute(
                sql, (org_id, *chunk, *[None] * (width - len(chunk)))
            ):
                found[org_id, request_id] = Request(fingerprint, seq)
    return found


def event_id_of(connection: sqlite3.Connection, seq: int) -> int:
    """The public id of the item numbered `seq`."""
    first_seq, commit_id = connection.execute(
        "SELECT first_seq, id FROM ledger_commit WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return int.from_bytes(commit_id, "big") + (seq - int(first_seq))


def stored_request_id(request_id: str) -> bytes | str:
    """The form a request id is kept in: 16 bytes for a canonical UUID, its text for anything else."""
    number = parse_uuid(request_id)
    return request_id if number is None else number.to_bytes(16, "big")


def shown_request_id(stored: bytes | str | None) -> str:
    """The request id as its caller sent it; "" for none."""
    if isinstance(stored, bytes):
        digits = stored.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return stored or ""


def draft_amounts(draft: EventDraft) -> tuple[int, ...]:
    """What one record adds to its rollup, in the order of ROLLUP_AMOUNTS."""
    return (
        1,
        0 if draft.series.status == SUCCESS else _is_error(draft.series.status),
        draft.input_tokens,
        draft.output_tokens,
        draft.cache_read_tokens,
        draft.cache_write_tokens,
        draft.reasoning_tokens,
        draft.cost_nano or 0,
        1 if draft.cost_nano is None else 0,
        1 if draft.unrated else 0,
        draft.latency_ms or 0,
        0 if draft.latency_ms is None else 1,
    )


def micro_units(quantity: int | Decimal) -> int:
    """A quantity in millionths, half-even."""
    if isinstance(quantity, int):
        return quantity * MICRO
    numerator, denominator = quantity.as_integer_ratio()
    return round_half_even(numerator * MICRO, denominator)


def _is_error(status: str) -> int:
    return 1 if status == "error" else 0


def _split_cost(amounts: Sequence[int]) -> tuple[int, ...]:
    cost = ROLLUP_AMOUNTS.index("cost_nano")
    return (*amounts[:cost], *divmod(amounts[cost], NANO_PER_USD), *amounts[cost + 1 :])


def stored_event(commit: Commit, request: Request, fingerprint: bytes) -> Stored | Conflict:
    """The first answer to a request that is held, or Conflict where it stood for other content."""
    if request.fingerprint != fingerprint:
        return Conflict()
    row = commit.connection.execute(
        "SELECT e.cost_nano, s.provider, e.at_ms FROM event e JOIN series s ON s.id = e.series_id WHERE e.seq = ?",
        (request.seq,),
    ).fetchone()
    return Stored(commit.public_id(request.seq), request.seq, True, *(row or ()))


def _repeated(commit: Commit, earlier: Request, fingerprint: bytes, draft: EventDraft | None) -> Stored | Conflict:
    """The outcome for a record whose request id is held already, on disk or (`draft`) earlier in this commit."""
    if draft is None:
        return stored_event(commit, earlier, fingerprint)
    if draft.fingerprint != fingerprint:
        return Conflict()
    return Stored(commit.event_id(earlier.seq), earlier.seq, True, draft.cost_nano, draft.series.provider, draft.at_ms)


_LOOKUP_ROWS = 512

EVENT_COLUMNS = 13
INTO_EVENT = (
    "INSERT INTO event (seq, at_ms, charged_ms, series_id, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, reasoning_tokens, cost_nano, price_source_id, latency_ms, extra)"
)
INTO_REQUEST = "INSERT INTO request (seq, org_id, request_id, fingerprint)"
_INTO_SERIES = (
    f"INSERT INTO series (digest, {', '.join(Series._fields)}) VALUES (?{', ?' * len(Series._fields)}) RETURNING id"
)
_ROLLUP_SUMS = tuple(name for name in ROLLUP_AMOUNTS if name != "cost_nano")
#: The columns of sums in rollups and totals.
AMOUNT_COLUMNS = (
    "requests, errors, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, "
    "cost_usd, cost_nano, unpriced, unrated, latency_ms, timed"
)
_INTO_ROLLUP = f"INSERT INTO rollup (hour, series_id, {AMOUNT_COLUMNS})"
_INTO_ROLLUP_DAY = f"INSERT INTO rollup_day (day, series_id, {AMOUNT_COLUMNS})"
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
_INTO_FRESHNESS = "INSERT INTO provider_freshness (org_id, provider, newest_ms)"
_RAISE_FRESHNESS = " ON CONFLICT DO UPDATE SET newest_ms = max(newest_ms, excluded.newest_ms)"
