"""The content of a forwarded batch read at the hub: everything in it is checked, as it came from another machine."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from operator import ge
from typing import Any

from costd.domain.errors import Invalid
from costd.domain.forwarding import (
    FORMAT,
    Adjustment,
    CatalogSaid,
    CommitSpan,
    Entry,
    Events,
    PriceSource,
    Range,
    RecordBatch,
    Request,
    Sealed,
)
from costd.domain.ids import MAX_ORDINAL, parse_uuid
from costd.domain.money import MAX_ENTRY_NANO, MAX_RECORD_NANO
from costd.domain.rollup import ROLLUP_AMOUNTS
from costd.domain.series import Series
from costd.domain.units import MAX_QUANTITY
from costd.v1 import hub_pb2
from costd.wire.forwarded.encode import COUNT_FIELDS, ENTRY_FIELDS, SERIES_FIELDS

#: What a batch may unfold to: fifty times what a full one does, so that a bomb is noticed and not filled in.
MAX_CONTENT_BYTES = 64 * 2**20
_UUID_BYTES = 16
#: Sums must not overflow, whoever forwards; an entry counts a whole of parts, a correction takes one cost for another.
_MAX_TOKENS = 4 * MAX_QUANTITY
_MAX_CHANGE = 2 * MAX_RECORD_NANO
_LAST_YEAR = 9_999
_ENTRY_TOKENS = ("tokens", "input_tokens", "output_tokens", "cached_tokens")
#: Beyond what the ledger can hold.
_MAX_INT = (1 << 63) - 1


def decode(batch: Sealed) -> Range:
    """What a batch holds; its last number may be ANY_END. Raises Invalid, naming what is wrong with it."""
    if not 1 <= batch.form <= FORMAT:
        raise Invalid("batch.format", f"is {batch.form}; this hub reads forms up to {FORMAT}: upgrade the hub first")
    content = _content(batch.content)
    orgs, series_count, sources = len(content.organizations), len(content.series), len(content.price_sources)
    commits = _commits(content.commits, batch)
    held = Range(
        batch.first,
        commits[-1].last,
        list(content.organizations),
        [_series(each, orgs) for each in content.series],
        [PriceSource(each.kind, each.version, each.table_digest) for each in content.price_sources],
        commits,
        _events(content.events, series_count, sources),
        _requests(content.events, orgs),
        [_batch(each, orgs) for each in content.record_batches],
        [_entry(each, orgs) for each in content.month_entries],
        [_adjustment(each, series_count, sources) for each in content.adjustments],
        [_said(each, orgs) for each in content.catalog_changes],
    )
    _check_numbers(held)
    return held


def _content(data: bytes) -> hub_pb2.ForwardContent:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, MAX_CONTENT_BYTES)
    except zlib.error:
        raise Invalid("batch.content", "cannot be decompressed") from None
    if unpacker.unconsumed_tail:
        raise Invalid("batch.content", f"unfolds to more than {MAX_CONTENT_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise Invalid("batch.content", "is cut short")
    try:
        return hub_pb2.ForwardContent.FromString(plain)
    except Exception:  # whatever the bytes do to the parser is their sender's mistake
        raise Invalid("batch.content", "cannot be decoded as costd.v1.ForwardContent") from None


def _commits(said: hub_pb2.ForwardCommits, batch: Sealed) -> list[CommitSpan]:
    """The commits, which lie without a gap between them and end the range."""
    ids = said.ids
    count = len(said.first)
    if len(ids) != count * _UUID_BYTES or len(said.items) != count or len(said.at_ms) != count or not count:
        raise Invalid("batch.content.commits", "must be columns of one length, and not empty")
    commits = [
        CommitSpan(first, int.from_bytes(ids[at * _UUID_BYTES : (at + 1) * _UUID_BYTES], "big"), items, at_ms)
        for at, (first, items, at_ms) in enumerate(zip(said.first, said.items, said.at_ms, strict=True))
    ]
    for commit in commits:
        if commit.id & MAX_ORDINAL or not 0 < commit.items <= MAX_ORDINAL:
            raise Invalid("batch.content.commits", "must have ids of costd's, and at least one item each")
    is_whole = all(earlier.last + 1 == later.first for earlier, later in pairwise(commits))
    if not is_whole or commits[0].first < batch.first or commits[-1].last != (batch.last or commits[-1].last):
        raise Invalid("batch.content.commits", f"must cover the range {batch.first} to {batch.last} without a gap")
    return commits


def _series(said: hub_pb2.ForwardSeries, orgs: int) -> Series:
    _check_place(said.organization, orgs, "series.organization")
    return Series(said.organization, *[getattr(said, name) for name in SERIES_FIELDS])


def _events(said: hub_pb2.ForwardEvents, series: int, sources: int) -> Events:
    seq = list(said.seq)
    columns = {name: list(getattr(said, name)) for name in _EVENT_COLUMNS}
    for name, column in columns.items():
        if len(column) != len(seq) and not (name == "charged_ms" and not column):
            raise Invalid(f"batch.content.events.{name}", f"has {len(column)} entries, but seq has {len(seq)}")
    _check_between(columns["series"], 0, series - 1, "series")
    _check_between(columns["price_source"], 0, sources, "price_source")
    if len(said.extra_at) != len(said.extra):
        raise Invalid("batch.content.events.extra", "must be as long as extra_at")
    _check_between(said.extra_at, 0, len(seq) - 1, "extra_at")
    return Events(
        seq,
        columns["at_ms"],
        columns["charged_ms"],
        columns["series"],
        tuple(columns[name] for name in COUNT_FIELDS),
        columns["cost_nano_usd"],
        columns["price_source"],
        columns["latency_ms"],
        dict(zip(said.extra_at, said.extra, strict=True)),
        frozenset(said.taken_back),
    )


def _requests(said: hub_pb2.ForwardEvents, orgs: int) -> list[Request]:
    count, size = len(said.request_seq), said.fingerprint_bytes
    if len(said.fingerprints) != count * size or len(said.request_uuids) % _UUID_BYTES or (count and not size):
        raise Invalid("batch.content.events.fingerprints", "must be as many as request_seq, and ids 16 bytes each")
    ids: Sequence[bytes | str] = _pieces(said.request_uuids, _UUID_BYTES) or list(map(_stored_id, said.request_ids))
    places = list(said.request_organization) or [0] * count
    if len(ids) != count or len(places) != count:
        raise Invalid("batch.content.events.request_seq", "must be as long as the ids")
    _check_between(places, 0, orgs - 1, "request_organization")
    marks = _pieces(said.fingerprints, size)
    return list(map(Request._make, zip(said.request_seq, places, ids, marks, strict=True)))


def _pieces(data: bytes, size: int) -> list[bytes]:
    """Pieces of that size, which the data is a multiple of."""
    return [piece for (piece,) in struct.iter_unpack(f"{size}s", data)] if data else []


def _stored_id(text: str) -> bytes | str:
    number = parse_uuid(text)
    return text if number is None else number.to_bytes(_UUID_BYTES, "big")


def _batch(said: hub_pb2.ForwardRecordBatch, orgs: int) -> RecordBatch:
    _check_place(said.organization, orgs, "record_batches.organization")
    return RecordBatch(
        said.seq,
        said.organization,
        _stored_id(said.batch_id),
        said.fingerprint,
        said.records,
        said.answer,
        said.added,
    )


def _entry(said: hub_pb2.ForwardMonthEntry, orgs: int) -> Entry:
    _check_place(said.organization, orgs, "month_entries.organization")
    if len(said.id) != _UUID_BYTES:
        raise Invalid("batch.content.month_entries.id", "must be 16 bytes")
    for name, value, low, high in (
        ("month", said.month, 1, 12),
        ("year", said.year, 0, _LAST_YEAR),
        ("cost_nano_usd", said.cost_nano_usd, 0, MAX_ENTRY_NANO),
        *((name, getattr(said, name), 0, _MAX_TOKENS) for name in _ENTRY_TOKENS),
    ):
        if not low <= value <= high:
            raise Invalid(f"batch.content.month_entries.{name}", f"is {value}, not between {low} and {high}")
    return Entry(said.seq, said.id, said.organization, tuple(getattr(said, name) for name in ENTRY_FIELDS))


def _adjustment(said: hub_pb2.ForwardAdjustment, series: int, sources: int) -> Adjustment:
    _check_place(said.series, series, "adjustments.series")
    _check_place(said.price_source, sources + 1, "adjustments.price_source")
    if len(said.amounts) != len(ROLLUP_AMOUNTS):
        raise Invalid("batch.content.adjustments.amounts", f"must be {len(ROLLUP_AMOUNTS)} numbers")
    if any(abs(amount) > _MAX_CHANGE for amount in said.amounts):
        raise Invalid("batch.content.adjustments.amounts", f"must be at most {_MAX_CHANGE} either way")
    units = [(name, _quantity(text)) for name, text in _object(said.units, "adjustments.units").items()]
    return Adjustment(
        said.seq,
        said.event_id,
        said.at_ms,
        said.series,
        said.kind,
        list(said.amounts),
        units,
        said.price_source,
        said.reason,
        said.actor,
    )


def _said(said: hub_pb2.ForwardCatalogChange, orgs: int) -> CatalogSaid:
    _check_place(said.organization, orgs, "catalog_changes.organization")
    values = _object(said.values, "catalog_changes.values")
    if not all(value is None or isinstance(value, str) for value in values.values()):
        raise Invalid("batch.content.catalog_changes.values", "must be texts or null")
    return CatalogSaid(
        said.seq, said.organization, said.kind, said.source_app, said.id, values, said.registers, said.at_ms
    )


def _object(text: str, field: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text) if text else {}
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Invalid(f"batch.content.{field}", "must be a JSON object")
    return said


def _quantity(text: object) -> Decimal:
    try:
        quantity = Decimal(str(text))
    except InvalidOperation:
        quantity = Decimal("NaN")
    if not quantity.is_finite():
        raise Invalid("batch.content.adjustments.units", "must be numbers")
    return quantity


def _check_numbers(held: Range) -> None:
    """Every item has a number of the range, and records, requests and batches one of a commit's; events ascend."""
    seq = held.events.seq
    if any(map(ge, seq, seq[1:])):
        raise Invalid("batch.content.events.seq", "must ascend")
    numbers = [seq[0], seq[-1]] if seq else []
    inside = [*(item.seq for item in held.batches), *(item.seq + item.added for item in held.batches)]
    for number in [*numbers, *inside]:
        if not held.commits[0].first <= number <= held.last:
            raise Invalid("batch.content", f"holds the number {number}, which is in no commit of the batch")
    numbers = [item.seq for items in (held.requests, held.entries, held.adjustments, held.catalog) for item in items]
    if numbers and (min(numbers) < held.first or max(numbers) > held.last):
        raise Invalid("batch.content", f"holds numbers outside of its range: {min(numbers)} to {max(numbers)}")


def _check_between(column: Sequence[int], low: int, high: int, name: str) -> None:
    if column and (min(column) < low or max(column) > high):
        raise Invalid(f"batch.content.events.{name}", f"must be between {low} and {high}")


def _check_place(place: int, count: int, name: str) -> None:
    if place >= count:
        raise Invalid(f"batch.content.{name}", f"is position {place} of {count}")


_EVENT_COLUMNS = ("at_ms", "charged_ms", "series", *COUNT_FIELDS, "cost_nano_usd", "price_source", "latency_ms")
