"""Compiles the price list of the genai-prices library into the compact table the daemon reads.

Run as `python -m costd.store.price_compiler OUT [--from FILE]` in a process of its own: importing the library costs
30–40 MB that the daemon must not carry. FILE is a data file as the library publishes them and reads when it updates
itself (`prices/new_data/v2/data.json` of its repository, `data_slim.json`): a JSON array of providers; without one it
is the installed library's own data. Exit status 65 means that FILE is no good; the last line on stderr says why. Price
keys in it that the installed library does not know are left out and named on stderr.

The table is text, so that a change of prices reads well in a diff:

    line 1   the header, JSON: format, version of the library, units, and the providers in their order, each with the
             place of its section (`start`, `length`: bytes after the header's line)
    others   one line per model, in its provider's order: match logic, a tab, prices; both JSON

Match logic is ["=", text], ["^", text] (starts with), ["$", text] (ends with), ["*", text] (contains),
["~", regular expression], ["|", logic, …], ["&", logic, …]; texts are lower case. Prices are
{"id", "prices": [[constraint, rates], …], "variants"?: [[when, constraint, rates], …], "minimum"?}. A constraint is
null, ["date", first day as days since 1970], ["time", from, until] (milliseconds of the UTC day, wrapping) or ["week",
from, until] (milliseconds of the UTC week from Monday on, wrapping; for tables of other sources). Rates map a unit to
[mantissa, power of ten, [threshold, mantissa, power of ten], …]: exact USD for the unit's `per`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data, data_units, types

from costd.store.price_compiler_data import BadFile, read_data

FORMAT = 1
LIBRARY = "genai-prices"
_EPOCH = date(1970, 1, 1)
#: The exit status for bad input of sysexits.h; a crash of the interpreter's own would be 1.
BAD_FILE = 65
#: How a line on stderr begins that names a price key which was left out.
LEFT_OUT = "left out: "
#: Bounds on what a file calls a price per million or thousand: more is a slip, finer is noise.
_MAX_USD = 10**9
_MIN_EXPONENT = -40

#: A rule that the library has in its code, not in its data: Groq bills at least ten seconds of audio a request
#: (ModelInfo.calc_price). [units to look at, the first that was sent counts; least quantity].
_MINIMUMS = {
    ("groq", "whisper-large-v3"): [["audio_seconds", "input_audio_seconds"], 10],
    ("groq", "whisper-large-v3-turbo"): [["audio_seconds", "input_audio_seconds"], 10],
}


def compile_table() -> bytes:
    """The whole table of the installed library; the same library always gives the same bytes."""
    return _compile(data.providers, version(LIBRARY))


def compile_file(raw: bytes) -> tuple[bytes, Mapping[str, int]]:
    """The table of a data file, and the price keys that were left out, with how often each occurred.

    Its version is that of the installed library, which reads it, with the file's digest. Raises BadFile.
    """
    providers, left_out = read_data(raw, lambda provider: (_provider(provider), _section(provider)))
    return _compile(providers, f"{version(LIBRARY)}+{sha256(raw).hexdigest()[:12]}"), left_out


def _compile(listed: Sequence[types.Provider], version_: str) -> bytes:
    sections = [_section(provider) for provider in listed]
    providers: list[dict[str, Any]] = []
    start = 0
    for provider, section in zip(listed, sections, strict=True):
        providers.append(_provider(provider) | {"start": start, "length": len(section)})
        start += len(section)
    header = {
        "format": FORMAT,
        "library": LIBRARY,
        "version": version_,
        "units": {name: [unit["per"], unit["dimensions"]] for name, unit in data_units.unit_data.items()},
        "providers": providers,
    }
    return _json(header) + b"\n" + b"".join(sections)


def write_table(path: Path, body: bytes | None = None) -> None:
    """Write a table, or a fresh one of the installed library, to `path`, whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(compile_table() if body is None else body)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _provider(provider: types.Provider) -> dict[str, Any]:
    return {
        "id": provider.id,
        "name": provider.name,
        "provider_match": _match(provider.provider_match) if provider.provider_match else None,
        "model_match": _match(provider.model_match) if provider.model_match else None,
        "fallback": provider.fallback_model_providers or [],
    }


def _section(provider: types.Provider) -> bytes:
    return b"".join(
        _json(_match(model.match)) + b"\t" + _json(_model(provider.id, model)) + b"\n" for model in provider.models
    )


def _model(provider_id: str, model: types.ModelInfo) -> dict[str, Any]:
    conditional = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
    compiled: dict[str, Any] = {
        "id": model.id,
        "prices": [[_constraint(price.constraint), _rates(price.prices)] for price in conditional],
    }
    if model.price_variants:
        compiled["variants"] = [
            [variant.when, _constraint(variant.constraint), _rates(variant.prices)] for variant in model.price_variants
        ]
    if minimum := _MINIMUMS.get((provider_id, model.id)):
        compiled["minimum"] = minimum
    return compiled


def _match(logic: Any) -> list[Any]:
    match logic:
        case types.ClauseEquals():
            return ["=", logic.equals.lower()]
        case types.ClauseStartsWith():
            return ["^", logic.starts_with.lower()]
        case types.ClauseEndsWith():
            return ["$", logic.ends_with.lower()]
        case types.ClauseContains():
            return ["*", logic.contains.lower()]
        case types.ClauseRegex():
            re.compile(logic.regex)
            return ["~", logic.regex]
        case types.ClauseOr():
            return ["|", *map(_match, logic.or_)]
        case types.ClauseAnd():
            return ["&", *map(_match, logic.and_)]
    raise ValueError(f"{LIBRARY} has a match rule that this compiler does not know: {logic!r}")


def _constraint(constraint: Any) -> list[Any] | None:
    match constraint:
        case None:
            return None
        case types.StartDateConstraint():
            return ["date", (constraint.start_date - _EPOCH).days]
        case types.TimeOfDateConstraint():
            return ["time", _ms_of_utc_day(constraint.start_time), _ms_of_utc_day(constraint.end_time)]
    raise ValueError(f"{LIBRARY} has a price condition that this compiler does not know: {constraint!r}")


def _ms_of_utc_day(value: time) -> int:
    if value.tzinfo is not None:
        value = datetime.combine(_EPOCH, value).astimezone(UTC).time()
    if value.microsecond % 1000:
        raise ValueError(f"a time of day finer than a millisecond: {value}")
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000


def _rates(prices: types.ModelPrice) -> dict[str, list[Any]]:
    units = {unit.get("price_key", name): name for name, unit in data_units.unit_data.items()}
    return {units[key]: _rate(value) for key, value in vars(prices).items() if value is not None}


def _rate(value: Decimal | types.TieredPrices) -> list[Any]:
    if isinstance(value, types.TieredPrices):
        return [*_decimal(value.base), *([tier.start, *_decimal(tier.price)] for tier in value.tiers)]
    return [*_decimal(value)]


def _decimal(value: Decimal) -> tuple[int, int]:
    """(mantissa, power of ten), without trailing zeros in the mantissa."""
    sign, digits, exponent = value.as_tuple()
    if sign or not isinstance(exponent, int) or exponent < _MIN_EXPONENT or value > _MAX_USD:
        raise ValueError(f"not a price: {value}")
    mantissa = int("".join(map(str, digits)))
    while mantissa and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    return (mantissa, exponent) if mantissa else (0, 0)


def main(arguments: Sequence[str]) -> int:
    """Write the table to the first argument; exit status 2 for a wrong command, 65 for a bad file."""
    match list(arguments):
        case [out]:
            write_table(Path(out))
        case [out, "--from", source]:
            try:
                body, left_out = compile_file(Path(source).read_bytes())
            except (OSError, BadFile) as error:
                sys.stderr.write(" ".join(str(error).split()) + "\n")
                return BAD_FILE
            for key, count in sorted(left_out.items()):
                sys.stderr.write(f"{LEFT_OUT}{key} ({count} times)\n")
            write_table(Path(out), body)
        case _:
            sys.stderr.write("usage: python -m costd.store.price_compiler OUT [--from FILE]\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
