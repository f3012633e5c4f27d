"""Reads records from lines: every field checked as the ledger will check it, every mistake named with its field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.money import MAX_RECORD_NANO, parse_usd
from costd.domain.provider_usage import tier_context, units_from_provider
from costd.domain.units import Quantity, UnitRegistry
from costd.domain.usage import HISTORY_FROM_MS, MAX_LATENCY_MS, SUCCESS, Usage, check_string, check_text
from costd.store.price_sources import CALLER
from costd.wire.records.line import ALIASES, Line
from costd.wire.web.fields import check_currency, rounded_of, units_of
from costd.wire.web.moments import parse_timestamp

#: As of every record that comes in: a clock may be a little ahead.
FUTURE_MS = 300_000
#: Combinations of dimensions remembered once they were checked.
MAX_REMEMBERED = 20_000
_MAX_CONTEXT = 16
_MAX_COST_TEXT = 40
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?\Z", re.ASCII)
#: Of 2026-01-02T03:04:05.678Z.
_CANONICAL_LENGTH = 24

#: What checks of the domain call a field, and its name here.
_FIELDS = {"feature_tags": "tags"}


class Said(NamedTuple):
    """One record, checked. `shared` is what it has in common with others, the same object for equal ones."""

    id: str
    at_ms: int
    shared: Usage
    units: Mapping[str, Quantity]
    job: str
    latency_ms: int | None
    own_nano: int | None


class Reader:
    """Makes records of lines."""

    def __init__(self, units: UnitRegistry, now_ms: int, *, keep_costs: bool) -> None:
        """`keep_costs` takes every cost for the caller's own, wherever it came from."""
        self._units = units
        self._latest_ms = now_ms + FUTURE_MS
        self._keep_costs = keep_costs
        self._shared: dict[tuple[object, ...], Usage] = {}
        self._minutes: dict[str, int] = {}

    def record(self, line: Line) -> Said:
        """The record a line says; raises Invalid."""
        try:
            return self._record(line)
        except Invalid as refusal:
            raise refusal.renamed(_FIELDS.get(refusal.field, refusal.field)) from None

    def _record(self, line: Line) -> Said:
        id_ = line.id if line.request_id is None else _one(line, "id", "request_id")
        if not id_:
            raise Invalid("id", "is required: it is how a record is known when it comes again")
        check_string(id_, "id")
        job = line.job if line.job_external_id is None else _one(line, "job", "job_external_id")
        if job:
            check_string(job, "job")
        latency_ms = line.latency_ms if type(line.latency_ms) is int else rounded_of(line.latency_ms, "latency_ms")
        if latency_ms is not None and not 0 <= latency_ms <= MAX_LATENCY_MS:
            raise Invalid("latency_ms", f"must be between 0 and {MAX_LATENCY_MS}")
        units = self._units.canonical(_reported(line) if line.usage is not None else _units_of(line))
        self._units.check(units)
        return Said(id_, self._time(line), self._shared_of(line), units, job or "", latency_ms, self._own_cost(line))

    def _time(self, line: Line) -> int:
        said = line.time if line.timestamp is None else _one(line, "time", "timestamp")
        at_ms = self._canonical(said) if type(said) is str else None
        if at_ms is None:
            at_ms = parse_timestamp(said, "time")
        if at_ms is None:
            raise Invalid("time", "is required: when the call was made")
        if not HISTORY_FROM_MS <= at_ms <= self._latest_ms:
            raise Invalid("time", "must be between 2000 and five minutes from now")
        return at_ms

    def _canonical(self, text: str) -> int | None:
        """A moment as exports write it, None for any other form; a minute that many records are within is read once."""
        if len(text) != _CANONICAL_LENGTH or text[19] != "." or text[23] != "Z":
            return None
        seconds, ms = text[17:19], text[20:23]
        if not (seconds.isdigit() and ms.isdigit() and text.isascii() and seconds < "60"):
            return None
        start = self._minutes.get(text[:17])
        if start is None:
            if len(self._minutes) >= MAX_REMEMBERED:
                self._minutes.clear()
            start = parse_timestamp(f"{text[:17]}00Z", "time") or 0
            self._minutes[text[:17]] = start
        return start + int(seconds) * 1000 + int(ms)

    def _own_cost(self, line: Line) -> int | None:
        """The cost that is the caller's own: where it says so or says nothing, as in an HTTP record."""
        if line.cost_usd is None or line.cost_usd == "":
            return None
        check_currency(line.currency, "currency")
        if self._keep_costs or (line.cost_source or CALLER) == CALLER:
            return _usd(line.cost_usd)
        if type(line.cost_usd) is not str or not _AMOUNT.match(line.cost_usd):
            _usd(line.cost_usd)
        return None

    def _shared_of(self, line: Line) -> Usage:
        key = (
            line.source_app,
            line.model,
            line.user,
            line.user_external_id,
            line.project,
            line.project_external_id,
            line.team,
            line.product,
            line.provider,
            line.prompt_key,
            line.prompt_version,
            tuple(line.tags or ()),
            tuple(line.feature_tags or ()),
            line.endpoint,
            line.status,
            tuple(line.price_context.items()) if line.price_context else None,
            line.service_tier,
        )
        if line.usage is not None:  # which may say how the call was priced
            return _shared(line)
        shared = self._shared.get(key)
        if shared is None:
            if len(self._shared) >= MAX_REMEMBERED:
                self._shared.clear()
            shared = self._shared[key] = _shared(line)
        return shared


def _units_of(line: Line) -> Mapping[str, Quantity]:
    units = line.units or {}
    # Counts nearly always; whether they make sense is checked with the others.
    return units if all(type(count) is int for count in units.values()) else dict(units_of(units, "units"))


def _shared(line: Line) -> Usage:
    if not line.model:
        raise Invalid("model", "is required: the model as the provider names it")
    tags: Sequence[str] = _one(line, "tags", "feature_tags") or ()
    usage = Usage(
        source_app=line.source_app or "",
        model=line.model,
        units=(),
        user=_one(line, "user", "user_external_id") or "",
        project=_one(line, "project", "project_external_id") or "",
        team=line.team or "",
        product=line.product or "",
        provider=line.provider or "",
        prompt_key=line.prompt_key or "",
        prompt_version="" if line.prompt_version is None else str(line.prompt_version),
        tags=tuple(sorted(set(tags))),
        endpoint=line.endpoint or "",
        status=line.status or SUCCESS,
        context=_context(line),
    )
    check_text(usage)
    return usage


def _context(line: Line) -> tuple[tuple[str, str], ...]:
    """What selects a price variant: the explicit context over the service tier over the provider's report."""
    chosen = dict(units_from_provider(line.provider or "", line.usage)[1]) if line.usage is not None else {}
    if line.service_tier is not None:
        chosen.update(tier_context(line.service_tier))
    for name, value in (line.price_context or {}).items():
        check_string(name, "price_context")
        check_string(value, f"price_context.{name}")
        chosen[name] = value
    if len(chosen) > _MAX_CONTEXT:
        raise Invalid("price_context", f"must be at most {_MAX_CONTEXT} entries")
    return tuple(sorted(chosen.items()))


def _reported(line: Line) -> Mapping[str, Quantity]:
    """The units of a provider's own usage object."""
    assert line.usage is not None
    if line.units:
        raise Invalid("usage", "and units are both there; leave one of them out")
    if not line.provider:
        raise Invalid("provider", "is required with `usage`: it says how to read it")
    return units_from_provider(line.provider, line.usage)[0]


def _one(line: Line, name: str, alias: str) -> Any:
    """The value of a field under either of its names."""
    value, other = getattr(line, name), getattr(line, alias)
    if value is None:
        return other
    if other is not None and other != value:
        raise Invalid(alias, f"differs from {name}, which it is another name of")
    return value


def _usd(value: object) -> int:
    """An amount of USD, as exports write it (text) or as HTTP records have it (a number)."""
    if isinstance(value, str):
        plain = value.replace(".", "", 1)
        if not (plain.isascii() and plain.isdigit() and len(value) <= _MAX_COST_TEXT and value[0] != "."):
            raise Invalid("cost_usd", 'must be an amount in USD such as "0.0125"')
        return parse_usd(Decimal(value), "cost_usd")
    if type(value) is not int and not isinstance(value, Decimal):
        raise Invalid("cost_usd", "must be an amount in USD")
    return parse_usd(Decimal(value), "cost_usd", limit_nano=MAX_RECORD_NANO)


assert all(name in Line.__struct_fields__ for pair in ALIASES.items() for name in pair)
