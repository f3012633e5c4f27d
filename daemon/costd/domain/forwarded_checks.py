"""Which records of a forwarded range a hub cannot take: looked for column by column, as hardly any are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.forwarding import Range
from costd.domain.money import MAX_RECORD_NANO
from costd.domain.price_rule import MAX_MS
from costd.domain.units import MAX_QUANTITY, MAX_UNITS
from costd.domain.usage import MAX_LATENCY_MS

#: Not known, in the columns of costs and latencies.
UNKNOWN = -1
#: Texts are checked where they come in; what is longer than all tags together never was.
MAX_TEXT = 16 * 1024

_EXTRA = "extra: is not what costd writes"


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
    found.update((events.seq[at], _EXTRA) for at, text in events.extra.items() if not _is_extra(text))
    if refused := _refused_series(held, foreign):
        found.update((events.seq[at], refused[place]) for at, place in enumerate(events.series) if place in refused)
    return found


def _refused_series(held: Range, foreign: frozenset[int]) -> dict[int, str]:
    """{position: why} of the series whose records cannot be taken."""
    found: dict[int, str] = {}
    for place, series in enumerate(held.series):
        if any(len(text) > MAX_TEXT for text in series[1:]):
            found[place] = f"series: a text is longer than {MAX_TEXT} characters"
        elif series.org_id in foreign:
            name = held.organizations[series.org_id][:64]
            found[place] = f'organization: "{name}" is none of this source\'s at the hub'
    return found


def _is_extra(text: str) -> bool:
    """Whether this is what records have that few do; what a newer release adds to it stays."""
    try:
        said, end = _read(text)
    except (ValueError, RecursionError):
        return False
    if type(said) is not dict or end != len(text) or end > MAX_TEXT:
        return False
    for name, value in said.items():
        is_fit = _FIT.get(name)
        if is_fit is not None and not is_fit(value):
            return False
    return "\\u" not in text or _can_be_written(said)


def _no_number(word: str) -> object:
    raise ValueError(word)


#: json.loads without its ways of finding the encoding, which cost more than the reading.
_read = json.JSONDecoder(parse_constant=_no_number).raw_decode


def _can_be_written(said: object) -> bool:
    """Whether its texts are made of characters: half a surrogate pair, escaped, is none."""
    try:
        json.dumps(said, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text(said: object) -> bool:
    return isinstance(said, str)


def _are_texts(said: object) -> bool:
    return isinstance(said, dict) and all(isinstance(value, str) for value in said.values())


def _are_units(said: object) -> bool:
    if not isinstance(said, dict) or len(said) > MAX_UNITS or not _are_texts(said):
        return False
    try:
        return all(0 <= Decimal(quantity) <= MAX_QUANTITY for quantity in said.values())
    except InvalidOperation:
        return False


def _is_list(said: object) -> bool:
    return isinstance(said, list) and all(map(_is_text, said))


_FIT = {"job": _is_text, "status": _is_text, "context": _are_texts, "unrated": _is_list, "units": _are_units}


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
