"""A range of a sidecar's sequence as the content of a forwarded batch: form 1, zlib over ForwardContent."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from decimal import Decimal

from costd.domain.forwarding import Adjustment, CatalogSaid, Entry, Events, Range, RecordBatch, Request
from costd.domain.ids import uuid_text
from costd.v1 import hub_pb2

#: Records shrink to a third at the fastest level, and by little more at the others.
_LEVEL = 1
_UUID_BYTES = 16


def encode(held: Range) -> bytes:
    """The content of a batch."""
    content = hub_pb2.ForwardContent(
        organizations=held.organizations,
        series=[_series(each) for each in held.series],
        price_sources=[
            hub_pb2.ForwardPriceSource(kind=source.kind, version=source.version, table_digest=source.digest)
            for source in held.sources
        ],
        commits=hub_pb2.ForwardCommits(
            first=[commit.first for commit in held.commits],
            ids=b"".join([commit.id.to_bytes(_UUID_BYTES, "big") for commit in held.commits]),
            items=[commit.items for commit in held.commits],
            at_ms=[commit.at_ms for commit in held.commits],
        ),
        record_batches=[_batch(batch) for batch in held.batches],
        month_entries=[_entry(entry) for entry in held.entries],
        adjustments=[_adjustment(each) for each in held.adjustments],
        catalog_changes=[_said(each) for each in held.catalog],
    )
    _fill_events(content.events, held.events)
    _fill_requests(content.events, held.requests)
    return zlib.compress(content.SerializeToString(), _LEVEL)


def _series(series: Sequence[object]) -> hub_pb2.ForwardSeries:
    org, *names = series
    return hub_pb2.ForwardSeries(organization=org, **dict(zip(SERIES_FIELDS, names, strict=True)))  # type: ignore[arg-type]


def _fill_events(target: hub_pb2.ForwardEvents, events: Events) -> None:
    target.seq.extend(events.seq)
    target.at_ms.extend(events.at_ms)
    target.charged_ms.extend(events.charged_ms)
    target.series.extend(events.series)
    for name, column in zip(COUNT_FIELDS, events.counts, strict=True):
        getattr(target, name).extend(column)
    target.cost_nano_usd.extend(events.cost_nano)
    target.price_source.extend(events.source)
    target.latency_ms.extend(events.latency_ms)
    target.extra_at.extend(events.extra)
    target.extra.extend(events.extra.values())
    target.taken_back.extend(sorted(events.taken_back))


def _fill_requests(target: hub_pb2.ForwardEvents, requests: Sequence[Request]) -> None:
    if not requests:
        return
    seqs, orgs, ids, marks = zip(*requests, strict=True)
    target.request_seq.extend(seqs)
    if any(orgs):
        target.request_organization.extend(orgs)
    if all(type(each) is bytes for each in ids):
        target.request_uuids = b"".join(ids)
    else:
        target.request_ids.extend(map(_id_text, ids))
    target.fingerprint_bytes = len(marks[0])
    target.fingerprints = b"".join(marks)


def _id_text(request_id: bytes | str) -> str:
    return uuid_text(int.from_bytes(request_id, "big")) if isinstance(request_id, bytes) else request_id


def _batch(batch: RecordBatch) -> hub_pb2.ForwardRecordBatch:
    return hub_pb2.ForwardRecordBatch(
        seq=batch.seq,
        organization=batch.org,
        batch_id=_id_text(batch.batch_id),
        fingerprint=batch.fingerprint,
        records=batch.records,
        answer=batch.answer,
        added=batch.added,
    )


def _entry(entry: Entry) -> hub_pb2.ForwardMonthEntry:
    values = dict(zip(ENTRY_FIELDS, entry.values, strict=True))
    return hub_pb2.ForwardMonthEntry(seq=entry.seq, id=entry.id, organization=entry.org, **values)  # type: ignore[arg-type]


def _adjustment(each: Adjustment) -> hub_pb2.ForwardAdjustment:
    return hub_pb2.ForwardAdjustment(
        seq=each.seq,
        event_id=each.event_id,
        at_ms=each.at_ms,
        series=each.series,
        kind=each.kind,
        amounts=each.amounts,
        units=_units_text(each.units),
        price_source=each.source,
        reason=each.reason,
        actor=each.actor,
    )


def _units_text(units: Sequence[tuple[str, Decimal]]) -> str:
    return json.dumps({name: str(quantity) for name, quantity in units}) if units else ""


def _said(said: CatalogSaid) -> hub_pb2.ForwardCatalogChange:
    return hub_pb2.ForwardCatalogChange(
        seq=said.seq,
        organization=said.org,
        kind=said.kind,
        source_app=said.source_app,
        id=said.id,
        values=json.dumps(said.values, ensure_ascii=False, separators=(",", ":")),
        registers=said.registers,
        at_ms=said.at_ms,
    )


#: The message's names of a series' dimensions, in Series' order.
SERIES_FIELDS = tuple(field.name for field in hub_pb2.ForwardSeries.DESCRIPTOR.fields if field.name != "organization")
#: Its names of the counts that have columns, in their order.
COUNT_FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
#: Its names of a month entry's values, in the order of Entry.values.
ENTRY_FIELDS = (
    "key_id",
    "kind",
    "service",
    "provider",
    "project",
    "product",
    "year",
    "month",
    "cost_nano_usd",
    "tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "details",
)
