"""The records of a forwarded range on their way into the hub's ledger: what is new, what another source had brought."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import compress
from typing import Any, NamedTuple

from costd.domain.forwarding import Events, PriceSource, Range
from costd.domain.series import Series
from costd.store.column_sums import add_columns
from costd.store.commit import Commit
from costd.store.ledger import EVENT_COLUMNS, INTO_EVENT
from costd.store.price_sources import source_id
from costd.store.requests import INTO_REQUEST, find_requests
from costd.store.rows import insert_rows

_CONFLICT = "request id: was used for another record at another source"
_BATCH_CONFLICT = "batch id: was used for another batch at another source"


@dataclass(slots=True)
class Fates:
    """What became of records, by their numbers in the source's sequence; `kept` is how many are new here."""

    duplicates: set[int] = field(default_factory=set)
    unfit: dict[int, str] = field(default_factory=dict)
    kept: int = 0

    @property
    def out(self) -> frozenset[int]:
        """What is not to be taken over."""
        return frozenset(self.duplicates | self.unfit.keys())


class _Columns(NamedTuple):
    """Records that are new, as column sums take them."""

    series: Sequence[Series]
    place: Sequence[int]
    at_ms: Sequence[int]
    charged_ms: Sequence[int | None]
    counts: tuple[Sequence[int], ...]
    cost_nano: Sequence[int | None]
    latency_ms: Sequence[int | None]
    unrated: frozenset[int]
    rare: Mapping[int, tuple[tuple[str, int | Decimal], ...]]


def apply_records(
    commit: Commit,
    held: Range,
    places: Sequence[tuple[int, int]],
    orgs: Mapping[str, int],
    reasons: Mapping[int, str],
    taken: set[int],
    known: Sequence[range] = (),
    *,
    carefully: bool = False,
) -> Fates:
    """Add what is new of a range's records, but those that are unfit for a reason.

    `places` lead from the source's numbers to those here, `taken` are numbers whose records are here already. In
    commits that are `known`, nothing is added: only duplicates are looked for. Done `carefully`, one by one, what the
    database refuses is unfit as well; otherwise that raises.
    """
    fates = Fates()
    _find_repeated(commit, held, orgs, taken, fates)
    fates.unfit.update((seq, why) for seq, why in reasons.items() if seq not in taken and seq not in fates.duplicates)
    out = taken | fates.duplicates | fates.unfit.keys() | {held.events.seq[at] for at in held.events.taken_back}
    for numbers in known:
        fates.unfit = {seq: why for seq, why in fates.unfit.items() if seq not in numbers}
        out.update(numbers)
    there = _mapper(places)
    events = held.events if not out else _only(held.events, [seq not in out for seq in held.events.seq])
    if events.seq:
        refused = _insert(commit, held, events, orgs, there, carefully=carefully)
        if refused:
            fates.unfit.update(refused)
            out.update(refused)
            events = _only(events, [seq not in refused for seq in events.seq])
        _add_up(commit, held, events, orgs)
    fates.kept = len(events.seq)
    _insert_requests(commit, held, orgs, out, there)
    _insert_batches(commit, held, orgs, out, there)
    return fates


def _find_repeated(commit: Commit, held: Range, orgs: Mapping[str, int], taken: set[int], fates: Fates) -> None:
    """Records whose request id, or whose batch's id, another source has brought before."""
    names = held.organizations
    here = [orgs.get(name, 0) for name in names]
    keys = {(here[org], request_id): (seq, mark) for seq, org, request_id, mark in held.requests if here[org]}
    entries = _held_entries(commit, held)
    for key, request in find_requests(commit.connection, keys).items():
        seq, mark = keys[key]
        if seq in taken or seq in entries:
            continue
        if request.fingerprint == mark:
            fates.duplicates.add(seq)
        else:
            fates.unfit[seq] = _CONFLICT
    for batch in held.batches:
        held_mark = _held_batch(commit, orgs.get(names[batch.org]), batch.batch_id)
        records = [seq for seq in range(batch.seq + 1, batch.seq + batch.added + 1) if seq not in taken]
        if held_mark is None or not records:
            continue
        if held_mark == batch.fingerprint:
            fates.duplicates.update(records)
        else:
            fates.unfit.update(dict.fromkeys(records, _BATCH_CONFLICT))
    fates.unfit = {seq: why for seq, why in fates.unfit.items() if seq not in fates.duplicates}


def _held_entries(commit: Commit, held: Range) -> frozenset[int]:
    """The numbers of month entries that are here themselves: what came again is no duplicate of another source's."""
    by_id = "SELECT 1 FROM month_entry WHERE id = ?"
    return frozenset(each.seq for each in held.entries if commit.connection.execute(by_id, (each.id,)).fetchone())


def _held_batch(commit: Commit, org_id: int | None, batch_id: bytes | str) -> bytes | None:
    """The fingerprint of a batch that is here; None where there is none of that id."""
    row = commit.connection.execute(
        "SELECT fingerprint FROM record_batch WHERE org_id = ? AND batch_id = ?", (org_id, batch_id)
    ).fetchone()
    return row[0] if row else None


def _mapper(places: Sequence[tuple[int, int]]) -> Callable[[Sequence[int]], list[int]]:
    """From numbers there to numbers here."""
    if len({here - first for first, here in places}) == 1:
        offset = places[0][1] - places[0][0]
        return lambda seqs: [seq + offset for seq in seqs]
    firsts = [first for first, _ in places]
    offsets = [here - first for first, here in places]
    return lambda seqs: [seq + offsets[bisect_right(firsts, seq) - 1] for seq in seqs]


def _only(events: Events, keep: Sequence[bool]) -> Events:
    old_to_new = {old: new for new, old in enumerate(compress(range(len(keep)), keep))}
    return Events(
        list(compress(events.seq, keep)),
        list(compress(events.at_ms, keep)),
        list(compress(events.charged_ms, keep)) if events.charged_ms else (),
        list(compress(events.series, keep)),
        tuple(list(compress(column, keep)) for column in events.counts),
        list(compress(events.cost_nano, keep)),
        list(compress(events.source, keep)),
        list(compress(events.latency_ms, keep)),
        {old_to_new[at]: text for at, text in events.extra.items() if at in old_to_new},
        frozenset(),
    )


def _insert(
    commit: Commit,
    held: Range,
    events: Events,
    orgs: Mapping[str, int],
    there: Callable[[Sequence[int]], list[int]],
    *,
    carefully: bool,
) -> dict[int, str]:
    """Store records; {number: why} of those that the database refused, where they are stored carefully."""
    _, numbers = _series(commit, held, events, orgs)
    sources = [None, *(_source(commit, source) for source in held.sources)]
    extras: list[str | None] = [None] * len(events.seq)
    for at, text in events.extra.items():
        extras[at] = text
    rows = zip(
        there(events.seq),
        events.at_ms,
        [charged or None for charged in events.charged_ms] or [None] * len(events.seq),
        [numbers[at] for at in events.series],
        *events.counts,
        _known(events.cost_nano),
        [sources[at] for at in events.source],
        _known(events.latency_ms),
        extras,
        strict=True,
    )
    if carefully:
        return _insert_one_by_one(commit, events.seq, rows)
    insert_rows(commit.connection, INTO_EVENT, EVENT_COLUMNS, list(rows))
    return {}


def _insert_one_by_one(commit: Commit, seqs: Sequence[int], rows: Iterable[tuple[Any, ...]]) -> dict[int, str]:
    refused: dict[int, str] = {}
    statement = f"{INTO_EVENT} VALUES (?{', ?' * (EVENT_COLUMNS - 1)})"
    for seq, row in zip(seqs, rows, strict=True):
        try:
            commit.connection.execute(statement, row)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            refused[seq] = f"the ledger does not take it: {error}"
    return refused


def _add_up(commit: Commit, held: Range, events: Events, orgs: Mapping[str, int]) -> None:
    """Add records to the sums of their hours."""
    series, numbers = _series(commit, held, events, orgs)
    unrated, rare = _rare(events.extra)
    every = [series.get(at, held.series[at]) for at in range(len(held.series))]
    costs, latencies = _known(events.cost_nano), _known(events.latency_ms)
    charged = [charged_ms or None for charged_ms in events.charged_ms]
    columns = _Columns(every, events.series, events.at_ms, charged, events.counts, costs, latencies, unrated, rare)
    add_columns(commit, columns, numbers)


def _series(
    commit: Commit, held: Range, events: Events, orgs: Mapping[str, int]
) -> tuple[dict[int, Series], dict[int, int]]:
    """The series that records are of, and their numbers here, by their positions in the range."""
    series = {at: _here(held.series[at], held.organizations, orgs) for at in set(events.series)}
    return series, {at: commit.ledger.intern(commit, each, is_own=False) for at, each in series.items()}


def _known(column: Sequence[int]) -> list[int | None]:
    """A column in which below zero means that it is not known."""
    return [value if value >= 0 else None for value in column]


def _here(series: Series, names: Sequence[str], orgs: Mapping[str, int]) -> Series:
    return series._replace(org_id=orgs[names[series.org_id]])


def _source(commit: Commit, source: PriceSource) -> int:
    """The number here of a price source; a table that this ledger does not have is not referred to."""
    digest = source.digest or None
    if digest is not None:
        known = commit.connection.execute("SELECT 1 FROM price_table WHERE digest = ?", (digest,)).fetchone()
        digest = digest if known else None
    return source_id(commit, source.kind, source.version, digest)


def _rare(
    extras: Mapping[int, str],
) -> tuple[frozenset[int], dict[int, tuple[tuple[str, int | Decimal], ...]]]:
    """Which records have units without a rate, and which units without a column."""
    unrated: set[int] = set()
    rare: dict[int, tuple[tuple[str, int | Decimal], ...]] = {}
    for at, text in extras.items():
        if '"units"' not in text and '"unrated"' not in text:
            continue
        said: Mapping[str, Any] = json.loads(text)
        if said.get("unrated"):
            unrated.add(at)
        units = said.get("units")
        if units:
            rare[at] = tuple((name, Decimal(quantity)) for name, quantity in units.items())
    return frozenset(unrated), rare


def _insert_requests(
    commit: Commit,
    held: Range,
    orgs: Mapping[str, int],
    out: set[int],
    there: Callable[[Sequence[int]], list[int]],
) -> None:
    """The request ids of records that are new; those of month entries go with them."""
    not_here = out | {entry.seq for entry in held.entries}
    new = [each for each in held.requests if each.seq not in not_here] if not_here else held.requests
    if not new:
        return
    seqs, places, request_ids, marks = zip(*new, strict=True)
    here = {at: orgs[name] for at, name in enumerate(held.organizations) if name in orgs}
    rows = list(zip(there(seqs), [here[place] for place in places], request_ids, marks, strict=True))
    insert_rows(commit.connection, INTO_REQUEST, 4, rows)


def _insert_batches(
    commit: Commit,
    held: Range,
    orgs: Mapping[str, int],
    out: set[int],
    there: Callable[[Sequence[int]], list[int]],
) -> None:
    """The ids of batches that are new."""
    names = held.organizations
    for batch in held.batches:
        org_id = orgs.get(names[batch.org])
        if org_id is None or batch.seq in out:
            continue
        if _held_batch(commit, org_id, batch.batch_id) is None:
            commit.connection.execute(
                "INSERT INTO record_batch (seq, org_id, batch_id, fingerprint, records, answer) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *there([batch.seq]),
                    org_id,
                    batch.batch_id,
                    batch.fingerprint,
                    batch.records,
                    batch.answer or None,
                ),
            )
