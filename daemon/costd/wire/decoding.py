"""Decoding of JSON and of queries into structs, every failure naming its field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from costd.domain.errors import Invalid
from costd.wire.json_numbers import EXACT_DIGITS, exact_number

T = TypeVar("T")

#: Finding the odd number in a body that failed costs a second, slow parse; not worth it for large ones.
_SEARCHED_BYTES = 64 * 1024
_MAX_QUERY_FIELDS = 100

_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_EXPECTED = re.compile(r"Expected `([^`]*)`(.*?)(?:, got `([^`]*)`)?")
_LENGTH = re.compile(r" of length ([<>])= (\d+)")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def decoder(struct: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of JSON into `struct`; numbers in its untyped fields become int or, with a fraction, Decimal."""
    return msgspec.json.Decoder(struct, float_hook=exact_number)


def decode(json_decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, what: str = "the body") -> T:
    """The struct in `raw`; raises Invalid naming the field ("units.input_tokens") or what is wrong with the JSON.

    `what` is what the sentences for people call it.
    """
    try:
        return json_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _misfit(error, bytes(raw)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise _malformed(error, bytes(raw), what) from None
    except RecursionError:
        raise Invalid("", "the JSON is nested too deeply") from None


def decode_query(struct: type[T], query: str) -> T:
    """The struct in a query string; a field given twice counts once, the last."""
    try:
        return msgspec.convert(dict(parse_qsl(query, max_num_fields=_MAX_QUERY_FIELDS)), struct, strict=False)
    except msgspec.ValidationError as error:
        raise _misfit(error, b"") from None
    except ValueError:
        raise Invalid("", f"the query has more than {_MAX_QUERY_FIELDS} fields") from None


def _misfit(error: msgspec.ValidationError, raw: bytes) -> Invalid:
    text = str(error)
    found = _PATH.search(text)
    path, what = (found[1], text[: found.start()]) if found else ("", text)
    missing = _MISSING.fullmatch(what)
    if missing:
        return Invalid(f"{path}.{missing[1]}" if path else missing[1], "is required")
    if "out of range" in what:
        return Invalid(_odd_number(raw) or _plain(path), "must be a number within reason")
    return Invalid(_plain(path), _reason(what))


def _malformed(error: Exception, raw: bytes, what: str) -> Invalid:
    if not raw.strip():
        return Invalid("", f"{what} is empty; send JSON")
    odd = _odd_number(raw)
    if odd:
        return Invalid(odd, "must be a finite number; JSON knows no NaN or Infinity")
    if isinstance(error, UnicodeDecodeError):
        return Invalid("", f"{what} is not UTF-8")
    return Invalid("", f"{what} is not JSON: {_first_line(error).removeprefix('JSON is malformed: ')}")


def _plain(path: str) -> str:
    """`feature_tags[...]` → `feature_tags`."""
    return path.replace("[...]", "")


def _reason(what: str) -> str:
    """`Expected `str | null`, got `int`` → `must be a string or null, not a whole number`."""
    expected = _EXPECTED.fullmatch(what)
    if what.lower().startswith("invalid value"):
        return "must be one of the values that GET /openapi.json lists"  # without the value: it may be anything
    if expected is None:
        return what[:1].lower() + what[1:]
    wanted = " or ".join(_WORDS.get(name, name) for name in expected[1].split(" | "))
    got = f", not {_WORDS.get(expected[3], expected[3])}" if expected[3] else ""
    return f"must be {wanted}{_bounds(expected[2])}{got}"


def _bounds(text: str) -> str:
    """` of length <= 256` → ` of length 256 or less`."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        return text
    return f" of length {found[2]} or {'less' if found[1] == '<' else 'more'}"


class _Odd:
    """Stands for a number that is not one."""


def _odd_number(raw: bytes) -> str:
    """The path of the first NaN, infinity or absurdly long number, "" where there is none."""
    if len(raw) > _SEARCHED_BYTES:
        return ""
    try:
        document = json.loads(raw, parse_constant=_odd, parse_float=_finite, parse_int=_short)
    except (ValueError, RecursionError):
        return ""
    return next(_odd_paths(document), "")


def _odd(_: str) -> _Odd:
    return _Odd()


def _finite(text: str) -> float | _Odd:
    value = float(text)
    return value if value - value == 0 else _Odd()


def _short(text: str) -> int | _Odd:
    return 0 if len(text) <= EXACT_DIGITS else _Odd()


def _odd_paths(document: object) -> Iterator[str]:
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, _Odd):
            yield path
        elif isinstance(value, dict):
            waiting += [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
