"""LiteLLM's price file, `model_prices_and_context_window.json`, as a compiled price table and a report of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from costd.domain.units import UnitRegistry


class Remark(NamedTuple):
    """One thing to say about an entry: `field` is the file's price field, "" where the whole entry is meant."""

    model: str
    field: str
    reason: str


class ImportReport(NamedTuple):
    """What a file held. `entries` = `imported` + len(`unpriced`) + len(`refused`).

    `imported` entries are models of the table, `partly` of them lack something (see `not_understood`). `unpriced` are
    the keys of entries without any price, `refused` entries with prices of which nothing can be used. `assumed` are
    rates that the file leaves open and that follow from its others. `hidden` are other names (a key without its
    provider's prefix) that another entry holds at another price: they lead to that one. `unknown_fields` counts the
    price fields that nothing here knows, by name.
    """

    entries: int
    imported: int
    partly: int
    unpriced: tuple[str, ...]
    refused: tuple[Remark, ...]
    not_understood: tuple[Remark, ...]
    assumed: tuple[Remark, ...]
    hidden: tuple[Remark, ...]
    unknown_fields: Mapping[str, int]


class Compiled(NamedTuple):
    """A table that `PriceTable` reads, and the report of how it came about."""

    body: bytes
    report: ImportReport


def compile_file(raw: bytes, version: str, units: UnitRegistry) -> Compiled:
    """Compile the bytes of a LiteLLM price file.

    `version` becomes the table's; `units` are the list's, to which the table adds units of its own. The same input
    always gives the same bytes. Raises Invalid (field "file") where the bytes are no such file: no JSON (with line and
    column), no object, no entry with a price.
    """
    raise NotImplementedError
