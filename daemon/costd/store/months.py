"""Month entries: bills, subscriptions and totals that come by the month, beside the records of single calls."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

from costd.domain.errors import Conflict
from costd.store.commit import Commit
from costd.store.requests import Stored, find_requests, stored_request_id


@dataclass(frozen=True, slots=True)
class MonthEntry:
    """One entry as its sender described it; money in nano-USD, None where nothing was said.

    `kind` is "cost", "tokens" or "manual"; `details` keeps every optional field as it was sent.
    """

    kind: str
    service: str
    year: int
    month: int
    project: str = "Production"
    product: str = "default"
    amount_nano: int | None = None
    tokens_used: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MonthTotal:
    """The entries of one provider in one month, added up."""

    provider: str
    service: str
    entries: int
    cost_nano: int
    tokens: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int


def insert_month_entry(
    commit: Commit, org_id: int, key_id: str, entry: MonthEntry, provider: str, request_id: str, fingerprint: bytes
) -> Stored:
    """Store an entry once per request id; Conflict when that id stood for other content."""
    if request_id:
        key = (org_id, stored_request_id(request_id))
        earlier = find_requests(commit.connection, [key]).get(key)
        if earlier is not None:
            if earlier.fingerprint != fingerprint:
                raise Conflict
            return Stored(commit.public_id(earlier.seq), earlier.seq, duplicate=True)
    seq = commit.take_seq()
    if request_id:
        commit.connection.execute(
            "INSERT INTO request (seq, org_id, request_id, fingerprint) VALUES (?, ?, ?, ?)",
            (seq, org_id, stored_request_id(request_id), fingerprint),
        )
    commit.connection.execute(
        "INSERT INTO month_entry (seq, id, org_id, key_id, kind, service, provider, project, product, year, month, "
        "cost_nano, tokens, input_tokens, output_tokens, cached_tokens, details) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            commit.event_id(seq).to_bytes(16, "big"),
            org_id,
            key_id,
            entry.kind,
            entry.service,
            provider,
            entry.project,
            entry.product,
            entry.year,
            entry.month,
            entry.amount_nano or 0,
            entry.tokens_used or 0,
            entry.input_tokens or 0,
            entry.output_tokens or 0,
            entry.cached_tokens or 0,
            json.dumps(entry.details, default=str),
        ),
    )
    commit.heard_of(org_id, provider, commit.now_ms)
    return Stored(commit.event_id(seq), seq, duplicate=False)


def month_totals(connection: sqlite3.Connection, org_id: int, first: int, last: int) -> list[MonthTotal]:
    """Entries by provider for the months `first` to `last`, each counted as year * 12 + month - 1."""
    # Money is summed in two halves: no sum of allowed entries can overflow 64 bits then.
    rows = connection.execute(
        "SELECT provider, max(service), count(*), sum(cost_nano / 1000000000), sum(cost_nano % 1000000000), "
        "sum(tokens), sum(input_tokens), sum(output_tokens), sum(cached_tokens) FROM month_entry "
        "WHERE org_id = ? AND year * 12 + month - 1 BETWEEN ? AND ? GROUP BY provider ORDER BY provider",
        (org_id, first, last),
    )
    return [
        MonthTotal(provider, service, entries, usd * 1_000_000_000 + nano, tokens, input_, output, cached)
        for provider, service, entries, usd, nano, tokens, input_, output, cached in rows
    ]
