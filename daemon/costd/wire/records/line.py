"""A line of a file of records: the fields it may have, their other names, and both formats read into one struct."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct, json

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.errors import Invalid
from costd.domain.series import TAG_SEPARATOR
from costd.wire.decoding import decode, decoder
from costd.wire.records import form
from costd.wire.web.fields import CountIn, Tags, Text, TimeIn, UnitsIn, UsdIn

#: Other names of fields, as HTTP records have them.
ALIASES = {
    "request_id": "id",
    "timestamp": "time",
    "user_external_id": "user",
    "project_external_id": "project",
    "job_external_id": "job",
    "feature_tags": "tags",
}
_NUMBER = re.compile(r"[0-9]{1,13}(\.[0-9]{1,30})?\Z", re.ASCII)


class Line(Struct, gc=False):
    """What a line says, before it is known whether it makes sense. Fields that are not here are ignored."""

    id: Text | None = None
    request_id: Text | None = None
    time: TimeIn = None
    timestamp: TimeIn = None
    source_app: Text | None = None
    team: Text | None = None
    project: Text | None = None
    project_external_id: Text | None = None
    product: Text | None = None
    user: Text | None = None
    user_external_id: Text | None = None
    provider: Text | None = None
    model: Text | None = None
    prompt_key: Text | None = None
    prompt_version: Text | int | None = None
    tags: Tags | None = None
    feature_tags: Tags | None = None
    endpoint: Text | None = None
    status: Text | None = None
    job: Text | None = None
    job_external_id: Text | None = None
    latency_ms: CountIn = None
    units: UnitsIn | None = None
    usage: dict[str, Any] | None = None
    price_context: dict[str, Text] | None = None
    service_tier: Text | None = None
    cost_usd: UsdIn = None
    cost_source: Text | None = None
    currency: Text | None = None


_LINE: json.Decoder[Line] = decoder(Line)


def line_of_json(raw: bytes) -> Line:
    """A line of JSON; raises Invalid."""
    return decode(_LINE, raw, "it")


class Header:
    """The names of the columns of a CSV file, and how to read a row under them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raise Invalid for names that cannot be the columns of records."""
        known = {*form.CSV_COLUMNS, *Line.__struct_fields__} - {"units", "usage"}
        found = [name.strip() for name in names]
        twice = next((name for at, name in enumerate(found) if name and name in found[:at]), None)
        if twice is not None:
            raise Invalid("", f'the header names the column "{twice}" twice')
        for field in ("id", "time", "model"):
            others = [alias for alias, name in ALIASES.items() if name == field]
            if not {field, *others} & {*found}:
                raise Invalid("", f"the header has no column {' or '.join([field, *others])}")
        self._width = len(found)
        self._columns = [
            (at, name, _READERS.get(name, _text)) for at, name in enumerate(found) if name in known - {*COUNT_COLUMNS}
        ]
        self._counts = [(at, name) for at, name in enumerate(found) if name in COUNT_COLUMNS]

    def line(self, cells: Sequence[str]) -> Line:
        """The line that a row says; raises Invalid."""
        if len(cells) != self._width:
            raise Invalid("", f"has {len(cells)} cells; the header has {self._width}")
        said: dict[str, Any] = {name: read(cells[at], name) for at, name, read in self._columns if cells[at]}
        units = said.pop("other_units", {})
        for at, name in self._counts:
            if cells[at]:
                if name in units:
                    raise Invalid("other_units", f"names {name}, which has a column")
                units[name] = _number(cells[at], name)
        return Line(units=units, **{name: value for name, value in said.items() if name in _FIELDS})


_FIELDS = frozenset(Line.__struct_fields__)


def _text(cell: str, _name: str) -> str:
    return form.unguarded(cell)


def _number(cell: str, name: str) -> int | Decimal:
    if not _NUMBER.match(cell):
        raise Invalid(name, "must be a number such as 12 or 12.5, from 0 to 10^12")
    return Decimal(cell) if "." in cell else int(cell)


def _moment(cell: str, name: str) -> str | int | Decimal:
    return _number(cell, name) if _NUMBER.match(cell) else cell


def _tags(cell: str, _name: str) -> list[str]:
    return form.unguarded(cell).split(TAG_SEPARATOR)


def _pairs(cell: str, name: str) -> Mapping[str, str]:
    return form.split(form.unguarded(cell), name)


def _units(cell: str, name: str) -> Mapping[str, int | Decimal]:
    return {unit: _number(amount, f"{name}.{unit}") for unit, amount in _pairs(cell, name).items()}


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "tags": _tags,
    "feature_tags": _tags,
    "price_context": _pairs,
    "other_units": _units,
    "latency_ms": _number,
    "time": _moment,
    "timestamp": _moment,
}
