"""Prices as files and JSON have them: what `costd prices list --json` prints and `prices set --file` takes."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from costd.cli.moments import iso, iso_or_none, read_moment
from costd.domain.errors import ConfigError, Invalid
from costd.domain.price_form import (
    decimal_text,
    per_of,
    read_context,
    read_multiplier,
    read_rates,
    shown_rate,
    text_for,
)
from costd.domain.price_rule import MIN_MS, PriceRule, check_rule
from costd.v1 import prices_pb2

ALWAYS = "always"
#: A list of ten thousand prices has three; what is longer is no list of prices.
MAX_FILE_BYTES = 64 * 1024 * 1024

#: Where the name does not say it: a table of TOML begins with a bracket and a letter, or with two.
_JSON_START = re.compile(r"\s*(\{|\[\s*[\]{])")

#: What `costd prices list --json` tells beside the price itself; of no meaning to `set`.
HISTORY = ("id", "created", "created_by", "created_by_name", "removed", "removed_by", "removed_by_name")
_SAID = (
    "model", "provider", "org", "when", "usd_per_mtok", "usd_each", "multiplier", "free", "from", "until", "note",
)  # fmt: skip


def described(price: prices_pb2.Price) -> dict[str, Any]:
    """A price as an entry."""
    per_mtok: dict[str, object] = {}
    each: dict[str, object] = {}
    for rate in price.rates:
        per = per_of(rate.unit)
        (each if per == 1 else per_mtok)[rate.unit] = _rate_entry(rate, per)
    return {
        "id": price.id,
        "model": price.model,
        "provider": price.provider,
        "org": price.org,
        "when": dict(sorted(price.when.items())),
        "usd_per_mtok": per_mtok,
        "usd_each": each,
        "multiplier": price.multiplier if price.HasField("multiplier") else None,
        "from": from_text(price.from_ms),
        "until": iso(price.until_ms) if price.HasField("until_ms") else None,
        "note": price.note,
        "created": iso(price.created_ms),
        "created_by": price.created_by,
        "created_by_name": price.created_by_name,
        "removed": iso_or_none(price.removed_ms),
        "removed_by": price.removed_by,
        "removed_by_name": price.removed_by_name,
    }


def from_text(from_ms: int) -> str:
    """A moment from which on a price holds."""
    return ALWAYS if from_ms == MIN_MS else iso(from_ms)


def read_from(text: str, now_ms: int, flag: str) -> int:
    """What people wrote for it: a moment, or "always". Raises ConfigError naming `flag`."""
    return MIN_MS if text.strip().lower() == ALWAYS else read_moment(text, now_ms, flag)


def _rate_entry(rate: prices_pb2.UnitPrice, per: int) -> object:
    if not rate.tiers:
        return text_for(rate.usd, per)
    above = {str(tier.above_input_tokens): text_for(tier.usd, per) for tier in rate.tiers}
    return {"base": text_for(rate.usd, per), "above": above}


def message(rule: PriceRule, org: str, from_ms: int | None) -> prices_pb2.NewPrice:
    """A price to be set, as a message."""
    return prices_pb2.NewPrice(
        model=rule.model,
        provider=rule.provider,
        org=org,
        rates=[_unit_price(unit, rate) for unit, rate in rule.rates.items()],
        multiplier=None if rule.multiplier is None else decimal_text(*rule.multiplier),
        when=dict(rule.context),
        from_ms=from_ms,
        until_ms=rule.until_ms,
        note=rule.note,
    )


def _unit_price(unit: str, rate: list[Any]) -> prices_pb2.UnitPrice:
    shown = shown_rate(rate, 1)
    tiers = [prices_pb2.PriceTier(above_input_tokens=above, usd=usd) for above, usd in shown.tiers]
    return prices_pb2.UnitPrice(unit=unit, usd=shown.usd, tiers=tiers)


def read_file(path: str, now_ms: int) -> list[prices_pb2.NewPrice]:
    """The prices of a TOML or JSON file ("-": stdin); Invalid names the entry and the field that are wrong."""
    document = _document(path)
    entries = document.get("prices") if isinstance(document, Mapping) else document
    if not isinstance(entries, list) or not entries:
        raise Invalid("", f'{path}: must hold a list of prices: [[prices]] in TOML, {{"prices": […]}} in JSON')
    if isinstance(document, Mapping) and (others := sorted(set(document) - {"prices"})):
        raise Invalid("", f"{path}: {others[0]}: is not known; prices stand in the list `prices`")
    return [_read_entry(entry, f"{path}: {entry_name(at, entry)}", now_ms) for at, entry in enumerate(entries)]


def entry_name(at: int, entry: object) -> str:
    """An entry as people find it: its place, counted from one, and its model."""
    model = entry.get("model") if isinstance(entry, Mapping) else getattr(entry, "model", None)
    return f"entry {at + 1} ({model})" if isinstance(model, str) and model else f"entry {at + 1}"


def _document(path: str) -> Any:
    try:
        raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1) if path == "-" else _read(Path(path))
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError("--file", path, f"must be a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise Invalid("", f"{path}: is not UTF-8 text (byte {error.start})") from None
    if len(raw) > MAX_FILE_BYTES:
        raise Invalid("", f"{path}: is larger than {MAX_FILE_BYTES} bytes: no list of prices")
    is_json = path.lower().endswith(".json") or (
        not path.lower().endswith(".toml") and _JSON_START.match(text) is not None
    )
    try:
        if is_json:
            return json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_unique)
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise Invalid("", f"{path}: is not {kind}: {str(error) or 'nested too deeply'}") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; as in TOML, a name stands once in it."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f'"{name[:64]}" is there twice in one object')
        found[name] = value
    return found


def _read_entry(entry: object, name: str, now_ms: int) -> prices_pb2.NewPrice:
    try:
        if not isinstance(entry, Mapping):
            raise Invalid("", "must be a table of a price's fields")
        return _entry_message(entry, now_ms)
    except ConfigError as error:
        raise Invalid("", f"{name}: {error.message}") from None
    except Invalid as refusal:
        where = refusal.field.removeprefix("rates").removeprefix(".").replace("context", "when", 1)
        raise Invalid("", f"{name}: {where}: {refusal.reason}" if where else f"{name}: {refusal.reason}") from None


def _entry_message(entry: Mapping[str, Any], now_ms: int) -> prices_pb2.NewPrice:
    for unknown in _unknown(entry):
        raise Invalid(unknown, f"is not known; there are {', '.join(_SAID)}")
    if entry.get("removed"):
        raise Invalid("removed", "this price was removed; take it out of the file")
    rule = PriceRule(
        id="",
        org_id=None,
        provider=_text(entry, "provider"),
        model=_text(entry, "model"),
        context=read_context(entry.get("when") or {}),
        rates=read_rates(_table(entry, "usd_per_mtok"), _table(entry, "usd_each")),
        multiplier=read_multiplier(entry.get("multiplier"), free=entry.get("free")),
        from_ms=MIN_MS,
        until_ms=_moment(entry, "until", now_ms),
        note=_text(entry, "note"),
    )
    from_ms = _moment(entry, "from", now_ms)
    checked = check_rule(rule if from_ms is None else rule._replace(from_ms=from_ms))
    return message(checked, _text(entry, "org"), from_ms)


def _unknown(entry: Mapping[str, Any]) -> Iterator[str]:
    return (str(name)[:64] for name in entry if name not in _SAID and name not in HISTORY)


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(name, "must be text")
    return value or ""


def _table(entry: Mapping[str, Any], name: str) -> Mapping[str, object]:
    value = entry.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(name, "must be a table of units and prices")
    return value or {}


def _moment(entry: Mapping[str, Any], name: str, now_ms: int) -> int | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, date):  # or a datetime: TOML has them of its own
        value = value.isoformat()
    if not isinstance(value, str):
        raise Invalid(name, 'must be a date or a moment: "2026-11-01", "2026-11-01T12:00:00Z"')
    return (read_from if name == "from" else read_moment)(value, now_ms, name)
