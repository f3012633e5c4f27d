"""History: whether a record that comes back as text is one the ledger holds, however it was sent at first.

What an export says of a record is not word for word what its caller sent: the provider is filled in, the time is said,
and a record without a request id comes back under its event id. So fingerprints differ, and contents are compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.ids import MAX_ORDINAL
from costd.domain.series import Series
from costd.store.price_sources import CALLER

#: Values looked up in one statement.
_LOOKUP = 500
#: What makes up a record's content; the key it was sent with does not.
_NAMES = tuple(name for name in Series._fields if name not in {"org_id", "key_id"})


class Content(NamedTuple):
    """What a record says: its series without the key, its time, counts, latency and what is rare about it.

    `own_nano` is its cost where that is the caller's own; other costs are the ledger's, and may be worked out anew.
    """

    facts: tuple[object, ...]
    own_nano: int | None


def content(
    series: Series, at_ms: int, counts: Sequence[int], latency_ms: int | None, extra: str | None, own_nano: int | None
) -> Content:
    """The content of a record that is about to be stored."""
    names = (getattr(series, name) for name in _NAMES)
    return Content((*names, at_ms, *counts, latency_ms, *_rare(extra)), own_nano)


def held_alike(connection: sqlite3.Connection, seqs: Mapping[int, int], said: Callable[[int], Content]) -> set[int]:
    """Those keys of {key: number} for which the record with that number says the same as `said(key)`.

    A cost that was the ledger's own may be the caller's now: an import that keeps costs says it so.
    """
    held: dict[int, Content] = {}
    for chunk in _chunks(seqs.values()):
        for seq, *facts, extra, own_nano in connection.execute(_CONTENTS.format(",".join("?" * len(chunk))), chunk):
            held[seq] = Content((*facts, *_rare(extra)), own_nano)
    return {key for key, seq in seqs.items() if seq in held and _is_same(held[seq], said(key))}


def caller_sources(connection: sqlite3.Connection) -> frozenset[int]:
    """The numbers of the price sources that are callers' own words."""
    return frozenset(row[0] for row in connection.execute("SELECT id FROM price_source WHERE kind = ?", (CALLER,)))


def _is_same(held: Content, said: Content) -> bool:
    return held.facts == said.facts and held.own_nano in {None, said.own_nano}


def find_event_ids(connection: sqlite3.Connection, org_id: int, ids: Collection[bytes]) -> dict[bytes, int]:
    """{id: number} of those ids that are event ids of the organization's."""
    split = {each: int.from_bytes(each, "big") for each in ids}
    commits = {(number & ~MAX_ORDINAL).to_bytes(16, "big") for number in split.values()}
    first_seqs: dict[bytes, int] = {}
    for chunk in _chunks(commits):
        marks = ",".join("?" * len(chunk))
        first_seqs.update(connection.execute(f"SELECT id, first_seq FROM ledger_commit WHERE id IN ({marks})", chunk))
    if not first_seqs:
        return {}
    asked: dict[int, bytes] = {}
    for each, number in split.items():
        first_seq = first_seqs.get((number & ~MAX_ORDINAL).to_bytes(16, "big"))
        if first_seq is not None:
            asked[first_seq + (number & MAX_ORDINAL)] = each
    found: dict[bytes, int] = {}
    for numbers in _chunks(asked):
        sql = _EVENTS_OF.format(",".join("?" * len(numbers)))
        # The number must be the commit's own: another commit may begin before it.
        for seq, first_seq in connection.execute(sql, (org_id, *numbers)):
            each = asked[seq]
            if first_seqs[(split[each] & ~MAX_ORDINAL).to_bytes(16, "big")] == first_seq:
                found[each] = seq
    return found


def _rare(extra: str | None) -> tuple[object, ...]:
    """What an event's extra says of its content: all but the units that its price had no rate for."""
    if extra is None:
        return ("", "", {}, {})
    said: Mapping[str, Any] = json.loads(extra)
    units = {name: Decimal(amount) for name, amount in said.get("units", {}).items()}
    return said.get("job", ""), said.get("status", ""), said.get("context", {}), units


def _chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(values)
    return (listed[start : start + _LOOKUP] for start in range(0, len(listed), _LOOKUP))


_CONTENTS = (
    f"SELECT e.seq, {', '.join(f's.{name}' for name in _NAMES)}, e.at_ms, e.input_tokens, e.output_tokens, "
    "e.cache_read_tokens, e.cache_write_tokens, e.reasoning_tokens, e.latency_ms, "
    f"e.extra, CASE p.kind WHEN '{CALLER}' THEN e.cost_nano END "
    "FROM event e JOIN series s ON s.id = e.series_id LEFT JOIN price_source p ON p.id = e.price_source_id "
    "WHERE e.seq IN ({})"
)
_EVENTS_OF = (
    "SELECT e.seq, (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq) FROM event e "
    "JOIN series s ON s.id = e.series_id WHERE s.org_id = ? AND e.seq IN ({})"
)
