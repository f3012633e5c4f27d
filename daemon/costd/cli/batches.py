"""Batches of records on their way in: columns over a dictionary of what the records have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from costd.domain.batch import COUNT_COLUMNS, UNKNOWN
from costd.domain.units import Quantity
from costd.domain.usage import Usage
from costd.v1 import usage_pb2
from costd.wire.records.form import plain
from costd.wire.records.reading import Said

#: Records in a batch: a transaction of some tens of milliseconds.
BATCH_RECORDS = 4_000
#: What the lines of a batch may weigh, roughly; a message of more than 4 MiB would be refused.
BATCH_BYTES = 2 * 1024 * 1024
#: Dictionary entries remembered as messages.
_MAX_REMEMBERED = 20_000

_COLUMNS = frozenset(COUNT_COLUMNS)
#: What has a form of 16 bytes in columns: canonical, so that it reads back as it was.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)


class Entry(NamedTuple):
    """A record, the number of its line, and how many bytes of the source it takes."""

    said: Said
    line: int
    size: int


class Prepared(NamedTuple):
    """A batch, with the line and the id of each of its records."""

    request: usage_pb2.RecordBatchRequest
    lines: list[int]
    ids: list[str]


def batches(entries: Iterable[Entry]) -> Iterator[Prepared]:
    """The records in batches, in their order; the same records make the same batches, with the same ids."""
    remembered: dict[Usage, usage_pb2.BatchSeries] = {}
    held: list[Entry] = []
    size = 0
    for entry in entries:
        held.append(entry)
        size += entry.size
        if len(held) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield _prepared(held, remembered)
            held, size = [], 0
    if held:
        yield _prepared(held, remembered)


def _prepared(held: list[Entry], remembered: dict[Usage, usage_pb2.BatchSeries]) -> Prepared:
    records = [entry.said for entry in held]
    request = usage_pb2.RecordBatchRequest(history=True)
    places: dict[int, int] = {}  # by identity: equal ones are mostly the same object, and hashing one costs
    for record in records:
        if id(record.shared) not in places:
            places[id(record.shared)] = len(places)
            request.series.append(_series(record.shared, remembered))
    _fill(request.columns, records, [places[id(record.shared)] for record in records])
    digest = blake2b(request.SerializeToString(deterministic=True), digest_size=16)
    request.batch_id = f"import-{digest.hexdigest()}"
    return Prepared(request, [entry.line for entry in held], [record.id for record in records])


def _fill(columns: usage_pb2.RecordColumns, records: list[Said], places: list[int]) -> None:
    columns.series.extend(places)
    columns.time_ms.extend([record.at_ms for record in records])
    cells = (
        columns.input_tokens,
        columns.output_tokens,
        columns.cache_read_tokens,
        columns.cache_write_tokens,
        columns.output_reasoning_tokens,
    )
    for name, column in zip(COUNT_COLUMNS, cells, strict=True):
        counts = [record.units.get(name, 0) for record in records]
        if any(counts):
            column.extend(counts)  # type: ignore[arg-type]  # these units are counted: the reader has checked it
    if any(record.latency_ms is not None for record in records):
        columns.latency_ms.extend([UNKNOWN if r.latency_ms is None else r.latency_ms for r in records])
    if any(record.own_nano is not None for record in records):
        columns.cost_nano_usd.extend([UNKNOWN if r.own_nano is None else r.own_nano for r in records])
    if any(record.job for record in records):
        columns.jobs.extend([record.job for record in records])
    ids = [record.id for record in records]
    if all(map(_UUID.match, ids)):
        columns.request_uuids = bytes.fromhex("".join(ids).replace("-", ""))
    else:
        columns.request_ids.extend(ids)
    for at, record in enumerate(records):
        if not record.units.keys() <= _COLUMNS:
            others = columns.other_units.add(record=at)
            others.units.extend(_quantity(*unit) for unit in record.units.items() if unit[0] not in _COLUMNS)


def _quantity(name: str, amount: Quantity) -> usage_pb2.Quantity:
    if isinstance(amount, int):
        return usage_pb2.Quantity(unit=name, count=amount)
    return usage_pb2.Quantity(unit=name, decimal=plain(str(amount)))


def _series(shared: Usage, remembered: dict[Usage, usage_pb2.BatchSeries]) -> usage_pb2.BatchSeries:
    message = remembered.get(shared)
    if message is None:
        if len(remembered) >= _MAX_REMEMBERED:
            remembered.clear()
        message = remembered[shared] = usage_pb2.BatchSeries(
            dimensions=usage_pb2.Dimensions(
                source_app=shared.source_app,
                provider=shared.provider,
                model=shared.model,
                user=shared.user,
                project=shared.project,
                team=shared.team,
                product=shared.product,
                prompt_key=shared.prompt_key,
                prompt_version=shared.prompt_version,
                tags=shared.tags,
                endpoint=shared.endpoint,
            ),
            status=shared.status,
            price_context=dict(shared.context),
        )
    return message
