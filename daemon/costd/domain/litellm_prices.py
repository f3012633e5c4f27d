"""LiteLLM's price file, `model_prices_and_context_window.json`, as a compiled price table and a report of it.

The table is of the format that costd.store.price_compiler documents. Each entry becomes one model, found by its key as
written and by the key without its provider in front. docs/prices.md says which field becomes which unit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from costd.domain.errors import Invalid
from costd.domain.litellm.entry import EntryPrices, read_entry
from costd.domain.litellm.fields import OWN_UNITS
from costd.domain.litellm.providers import other_name, provider_id
from costd.domain.price_table import FORMAT
from costd.domain.units import UnitRegistry

SOURCE = "litellm"
#: An entry that explains the file and prices nothing.
_SAMPLE = "sample_spec"
#: Longer than any name a caller can send.
_MAX_NAME = 256


class Remark(NamedTuple):
    """One thing to say about an entry: `field` is the file's price field, "" where the whole entry is meant."""

    model: str
    field: str
    reason: str


class ImportReport(NamedTuple):
    """What a file held. `entries` = `imported` + len(`unpriced`) + len(`refused`).

    `imported` entries are models of the table, `partly` of them lack something (see `not_understood`). `unpriced` are
    the keys of entries without any price, `refused` entries with prices of which nothing can be used. `free` are the
    keys of imported entries whose every price is zero, which LiteLLM also writes where it knows none. `assumed` are
    prices that the file leaves open, and what they were taken to be. `hidden` are other names (a key without its
    provider in front) that another entry holds at another price: they lead to that one. `unknown_fields` counts the
    fields that have to do with money and that nothing here knows, by name. `units` are those of the table's prices.
    """

    entries: int
    imported: int
    partly: int
    unpriced: tuple[str, ...]
    refused: tuple[Remark, ...]
    free: tuple[str, ...]
    not_understood: tuple[Remark, ...]
    assumed: tuple[Remark, ...]
    hidden: tuple[Remark, ...]
    unknown_fields: Mapping[str, int]
    units: tuple[str, ...]


class Compiled(NamedTuple):
    """A table that `PriceTable` reads, and the report of how it came about."""

    body: bytes
    report: ImportReport


def compile_file(raw: bytes, version: str, units: UnitRegistry) -> Compiled:
    """Compile the bytes of a LiteLLM price file.

    `version` becomes the table's; `units` are the list's, to which the table's header adds those of its own. The same
    input always gives the same bytes. Raises Invalid (field "file") where the bytes are no such file: no JSON (it says
    where), no object, no entry with a price.
    """
    entries = _parse(raw)
    compiler = _Compiler(units)
    for key, entry in entries.items():
        if key != _SAMPLE:
            compiler.add(key, entry)
    if not compiler.imported:
        raise Invalid("file", "has no entry with a price: is it LiteLLM's model_prices_and_context_window.json?")
    return Compiled(compiler.body(version), compiler.report())


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise Invalid("file", f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise Invalid("file", f"is not JSON in UTF-8: byte {error.start}") from None
    except RecursionError:
        raise Invalid("file", "is nested too deeply") from None
    except (ValueError, ArithmeticError):
        raise Invalid("file", "has a number that is too large") from None
    if not isinstance(parsed, dict):
        raise Invalid("file", "must be a JSON object of models, as LiteLLM's model_prices_and_context_window.json is")
    return parsed


class _Compiler:
    """The table and the report while entries are added."""

    def __init__(self, units: UnitRegistry) -> None:
        self._units = units
        self._per = {name: unit.per for name, unit in units.units.items()}
        #: By provider: each key with its prices as JSON.
        self._models: dict[str, list[tuple[str, str]]] = {}
        self._used: set[str] = set()
        self._unpriced: list[str] = []
        self._refused: list[Remark] = []
        self._free: list[str] = []
        self._missed: list[Remark] = []
        self._assumed: list[Remark] = []
        self._hidden: list[Remark] = []
        self._unknown: Counter[str] = Counter()
        self._partly = 0
        self.imported = 0
        self._entries = 0

    def add(self, key: str, entry: object) -> None:
        """Read one entry."""
        self._entries += 1
        if not isinstance(entry, dict):
            self._refused.append(_remark(key, "", "is not an object"))
            return
        prices = read_entry(entry, self._per)
        self._unknown.update(map(_plain, prices.unknown))
        provider = entry.get("litellm_provider")
        if not prices.has_price:
            self._unpriced.append(_plain(key))
        elif prices.model is None:
            self._refuse(key, prices)
        elif not isinstance(provider, str) or not _is_name(provider):
            self._refused.append(_remark(key, "litellm_provider", "must name the provider"))
        elif not _is_name(key):
            self._refused.append(_remark(key, "", f"is not a name of at most {_MAX_NAME} characters"))
        else:
            self._keep(key, provider_id(provider), prices)

    def _refuse(self, key: str, prices: EntryPrices) -> None:
        reasons = [f"{field}: {reason}" for field, reason in prices.missed]
        reasons += [f"{field}: is not known" for field in prices.unknown]
        self._refused.append(_remark(key, "", "; ".join(reasons[:4])))

    def _keep(self, key: str, provider: str, prices: EntryPrices) -> None:
        self.imported += 1
        self._partly += bool(prices.missed or prices.unknown)
        self._missed += [_remark(key, field, reason) for field, reason in prices.missed]
        self._missed += [_remark(key, field, "is not known") for field in prices.unknown]
        self._assumed += [_remark(key, field, reason) for field, reason in prices.assumed]
        self._used |= prices.units
        if prices.is_free:
            self._free.append(key)
        self._models.setdefault(provider, []).append((key, _json(prices.model)))

    def body(self, version: str) -> bytes:
        """The table."""
        sections = {provider: self._section(provider) for provider in sorted(self._models)}
        providers: list[dict[str, Any]] = []
        start = 0
        for provider, section in sections.items():
            match: dict[str, Any] = {"provider_match": None, "model_match": None, "fallback": []}
            providers.append({"id": provider, "name": provider, **match, "start": start, "length": len(section)})
            start += len(section)
        listed = {name: [unit.per, dict(sorted(unit.dimensions))] for name, unit in self._units.units.items()}
        own = {unit: [1, {"family": unit}] for unit in sorted(self._used)}
        header = {
            "format": FORMAT,
            "library": SOURCE,
            "version": version,
            "units": own | {name: list(unit) for name, unit in OWN_UNITS.items()} | listed,
            "providers": providers,
        }
        return _json(header).encode() + b"\n" + b"".join(sections.values())

    def _section(self, provider: str) -> bytes:
        """The lines of one provider."""
        models = self._models[provider]
        owners = _owners([key for key, _ in models], provider)
        prices_of = dict(models)
        lines: list[str] = []
        for key, prices in models:
            names = [key.strip().lower()]
            if other := other_name(names[0], provider):
                owner = owners[other]
                if owner == key:
                    names.append(other)
                elif prices_of[owner] != prices:
                    self._hidden.append(Remark(key, "", f'"{other}" of {provider} is {owner}, at another price'))
            rule = ["=", names[0]] if len(names) == 1 else ["|", *(["=", name] for name in names)]
            model = _json({"id": key})[:-1] + "," + prices[1:]
            lines.append(f"{_json(rule)}\t{model}\n")
        return "".join(lines).encode()

    def report(self) -> ImportReport:
        """The report; ask for it after the body."""
        return ImportReport(
            entries=self._entries,
            imported=self.imported,
            partly=self._partly,
            unpriced=tuple(self._unpriced),
            refused=tuple(self._refused),
            free=tuple(self._free),
            not_understood=tuple(self._missed),
            assumed=tuple(self._assumed),
            hidden=tuple(self._hidden),
            unknown_fields=dict(sorted(self._unknown.items())),
            units=tuple(sorted(self._used)),
        )


def _is_name(text: str) -> bool:
    return 0 < len(text.strip()) <= _MAX_NAME and text.isprintable()


def _remark(model: str, field: str, reason: str) -> Remark:
    return Remark(_plain(model), _plain(field), _plain(reason))


def _plain(text: str) -> str:
    """A text of the file as it may be shown: a file can hold what no terminal and no encoding can."""
    return text[:_MAX_NAME] if text[:_MAX_NAME].isprintable() else ascii(text[:_MAX_NAME])


def _owners(keys: list[str], provider: str) -> dict[str, str]:
    """The key that each name leads to: the one written so, else the one with the provider's own id, else the first."""
    owners: dict[str, str] = {}
    for key in keys:
        owners.setdefault(key.strip().lower(), key)
    for key in sorted(keys, key=lambda each: not each.lower().startswith(f"{provider}/")):
        if other := other_name(key.strip().lower(), provider):
            owners.setdefault(other, key)
    return owners


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
