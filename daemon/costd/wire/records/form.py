"""The form of a record as text: its fields in order, and how CSV writes what has no form of its own there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.errors import Invalid

#: The dimensions of a record, in order; `tags` stand between the two.
NAMES = (
    "source_app",
    "workspace",
    "team",
    "project",
    "product",
    "user",
    "provider",
    "model",
    "prompt_key",
    "prompt_version",
)
#: The columns of CSV. JSON Lines have the same fields in the same order, with all units in one object, `units`.
CSV_COLUMNS = (
    "id",
    "time",
    *NAMES,
    "tags",
    "endpoint",
    "status",
    "job",
    "latency_ms",
    *COUNT_COLUMNS,
    "other_units",
    "price_context",
    "cost_usd",
    "cost_source",
    "price_version",
    "key_id",
)
JSONL, CSV = "jsonl", "csv"
FORMATS = (JSONL, CSV)

#: A cell that a spreadsheet would take for a formula, after any apostrophes that are there already.
_FORMULA = re.compile(r"'*[=+\-@]")
_SPECIAL = re.compile(r"[\\;=]")
_PIECE = re.compile(r"(?:[^\\;=]|\\.)*")


def guarded(text: str) -> str:
    """A cell no spreadsheet takes for a formula: an apostrophe more before what looks like one."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """What `guarded` made the cell of."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def joined(pairs: Iterable[tuple[str, str]]) -> str:
    r"""`name=value;name=value`, with a backslash before any of `\`, `;` and `=` in names and values."""
    return ";".join(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)


def split(cell: str, field: str) -> Mapping[str, str]:
    """What `joined` made the cell of; raises Invalid naming `field`."""
    found: dict[str, str] = {}
    at = 0
    while at < len(cell):
        name, at = _piece(cell, at)
        if cell[at : at + 1] != "=":
            raise Invalid(field, 'must be "name=value;name=value", with a backslash before ; = and \\ in either')
        value, at = _piece(cell, at + 1)
        if at < len(cell) and cell[at] != ";":
            raise Invalid(field, 'has "=" in a value; write "\\="')
        if name in found:
            raise Invalid(field, f'names "{name}" twice')
        found[name] = value
        at += 1
    return found


def plain(quantity: str) -> str:
    """A quantity as the shortest decimal number without an exponent: 1E-7 → 0.0000001, 1.50 → 1.5."""
    if quantity.isdigit():
        return quantity
    text = format(Decimal(quantity), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _piece(cell: str, at: int) -> tuple[str, int]:
    match = _PIECE.match(cell, at)
    assert match is not None
    return re.sub(r"\\(.)", r"\1", match[0]), match.end()
