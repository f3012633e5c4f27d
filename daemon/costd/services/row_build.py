"""A batch that came as rows: every row through the steps of a single record, then side by side as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costd.domain.access import Caller
from costd.domain.errors import Forbidden, Invalid, Refused
from costd.domain.usage import TimeLimits, Usage
from costd.services.column_build import check_source_app, refused_record
from costd.services.metering import Metering
from costd.store.batches import ColumnBatch, RefusedRecord
from costd.store.ledger import EventDraft
from costd.store.requests import stored_request_id


class Rows(NamedTuple):
    """A batch as rows: a usage for each record, or why it could not even be read."""

    batch_id: str
    fingerprint: bytes
    usages: Sequence[Usage | Refused]
    history: bool = False


def rows_as_columns(metering: Metering, caller: Caller, rows: Rows, door: str, limits: TimeLimits) -> ColumnBatch:
    """The rows as columns, with those that are refused."""
    refused: list[RefusedRecord] = []
    drafts: list[tuple[int, EventDraft]] = []
    for record, usage in enumerate(rows.usages):
        try:
            if isinstance(usage, Refused):
                raise usage
            check_source_app(caller, usage, history=rows.history)
            drafts.append((record, metering.draft(caller, usage, door, limits)[0]))
        except (Invalid, Forbidden) as refusal:
            refused.append(refused_record(record, refusal, None if isinstance(usage, Refused) else usage))
    series = list(dict.fromkeys(draft.series for _, draft in drafts))
    places = {each: at for at, each in enumerate(series)}
    only = [draft for _, draft in drafts]
    has_ids = any(draft.request_id for draft in only)
    return ColumnBatch(
        org_id=caller.org_id,
        batch_id=rows.batch_id,
        fingerprint=rows.fingerprint,
        sent=len(rows.usages),
        series=series,
        positions=[record for record, _ in drafts],
        place=[places[draft.series] for draft in only],
        at_ms=[draft.at_ms for draft in only],
        counts=tuple(list(column) for column in zip(*(draft[3:8] for draft in only), strict=True)) or ((),) * 5,
        cost_nano=[draft.cost_nano for draft in only],
        source_id=[draft.price_source_id for draft in only],
        latency_ms=[draft.latency_ms for draft in only],
        extra=[draft.extra for draft in only],
        unrated=frozenset(at for at, draft in enumerate(only) if draft.unrated),
        rare={at: draft.rare for at, draft in enumerate(only) if draft.rare},
        request_ids=[stored_request_id(draft.request_id) for draft in only] if has_ids else None,
        fingerprints=[draft.fingerprint for draft in only] if has_ids else None,
        refused=refused,
        door=door,
        history=rows.history,
        charged_ms=[draft.charged_ms for draft in only] if any(draft.charged_ms for draft in only) else (),
    )
