"""Which records of a forwarded range a hub cannot take: looked for column by column, as hardly any are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.forwarding import Range
from costd.domain.money import MAX_RECORD_NANO
from costd.domain.price_rule import MAX_MS
from costd.domain.units import MAX_QUANTITY
from costd.domain.usage import MAX_LATENCY_MS

#: Not known, in the columns of costs and latencies.
UNKNOWN = -1


def unfit(held: Range, foreign: frozenset[int]) -> dict[int, str]:
    """{number: why} of the records that are out of bounds, or of an organization (by position) that is not theirs."""
    events = held.events
    found: dict[int, str] = {}
    for name, column in zip(COUNT_COLUMNS, events.counts, strict=True):
        for at in _outside(column, 0, MAX_QUANTITY):
            found[events.seq[at]] = f"{name}: {column[at]} is not between 0 and {MAX_QUANTITY}"
    for name, column, high in (
        ("cost", events.cost_nano, MAX_RECORD_NANO),
        ("latency", events.latency_ms, MAX_LATENCY_MS),
    ):
        for at in _outside(column, UNKNOWN, high):
            found[events.seq[at]] = f"{name}: {column[at]} is not between 0 and {high}"
    for at in (*_outside(events.at_ms, 0, MAX_MS), *_outside(events.charged_ms, 0, MAX_MS)):
        found[events.seq[at]] = "time: is not between 1970 and 2200"
    if foreign:
        for at, place in enumerate(events.series):
            org = held.series[place].org_id
            if org in foreign:
                found[events.seq[at]] = (
                    f'organization: "{held.organizations[org][:64]}" is none of this source\'s at the hub'
                )
    return found


def runs(reasons: dict[int, str]) -> Iterable[tuple[int, int, str]]:
    """Neighbouring numbers with one reason, as (first, last, reason)."""
    first = last = 0
    said = ""
    for number in sorted(reasons):
        if said and number == last + 1 and reasons[number] == said:
            last = number
            continue
        if said:
            yield first, last, said
        first = last = number
        said = reasons[number]
    if said:
        yield first, last, said


def _outside(column: Sequence[int], low: int, high: int) -> Iterable[int]:
    if not column or (min(column) >= low and max(column) <= high):
        return ()
    return [at for at, value in enumerate(column) if not low <= value <= high]
