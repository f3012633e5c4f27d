"""The ledger between transactions, and how a group of drafts becomes rows and outcomes inside one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from costd.domain.errors import Conflict
from costd.domain.series import Series
from costd.domain.usage import SUCCESS
from costd.store.catalog_kinds import PROJECT, USER
from costd.store.catalog_log import first_seen
from costd.store.commit import INTO_FRESHNESS, RAISE_FRESHNESS, Commit
from costd.store.prompts import first_used
from costd.store.requests import INTO_REQUEST, Request, Stored, find_requests, stored_event, stored_request_id
from costd.store.rows import insert_rows

#: Series remembered with their numbers; one entry is about a kilobyte, so this bounds the cache to some 20 MB.
MAX_INTERNED = 20_000

#: Providers whose freshness is remembered: there are some fifty, but callers may invent them.
MAX_PROVIDERS = 1_000


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

    @property
    def last_seq(self) -> int:
        """The last number of the sequence that is on disk; may be read from any thread."""
        return self._next_seq - 1

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
            insert_rows(commit.connection, INTO_FRESHNESS, 3, rows, RAISE_FRESHNESS)

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
                    outcome = _repeated(commit, earlier, draft.fingerprint, fresh.get(earlier.seq))
                    outcomes.append(outcome)
                    if commit.charges is not None and isinstance(outcome, Stored):
                        commit.named.append(key)
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
            if commit.charges is not None:
                commit.named += [(org_id, request_id) for _, org_id, request_id, _ in requests]
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
        if commit.charges is not None and draft.cost_nano:
            commit.charge(series_id, draft.at_ms if draft.charged_ms is None else draft.charged_ms, draft.cost_nano)
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

    def intern(self, commit: Commit, series: Series, *, is_own: bool = True) -> int:
        """The number of `series`, given to it now if it is new.

        Whom a new one names comes into the catalog, unless it is of another ledger, which tells of them itself.
        """
        number = self._series.get(series)
        if number is not None:
            return number
        digest = blake2b(repr(tuple(series)).encode(), digest_size=16).digest()
        connection = commit.connection
        row = connection.execute("SELECT id FROM series WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            row = connection.execute(_INTO_SERIES, (digest, *series)).fetchone()
            if series.prompt_key:
                first_used(commit, series.org_id, series.prompt_key, series.prompt_version)
            if is_own:
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
        for kind, name in ((USER, series.user), (PROJECT, series.project)):
            if name:
                first_seen(commit, kind, (series.org_id, series.source_app, name))


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


def _is_error(status: str) -> int:
    return 1 if status == "error" else 0


def _repeated(commit: Commit, earlier: Request, fingerprint: bytes, draft: EventDraft | None) -> Stored | Conflict:
    """The outcome for a record whose request id is held already, on disk or (`draft`) earlier in this commit."""
    if draft is None:
        return stored_event(commit, earlier, fingerprint)
    if draft.fingerprint != fingerprint:
        return Conflict()
    return Stored(commit.event_id(earlier.seq), earlier.seq, True, draft.cost_nano, draft.series.provider, draft.at_ms)


EVENT_COLUMNS = 13
INTO_EVENT = (
    "INSERT INTO event (seq, at_ms, charged_ms, series_id, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, reasoning_tokens, cost_nano, price_source_id, latency_ms, extra)"
)
_INTO_SERIES = (
    f"INSERT INTO series (digest, {', '.join(Series._fields)}) VALUES (?{', ?' * len(Series._fields)}) RETURNING id"
)
