"""From Python's values to costd's messages: every type is checked here, and every mistake is named.

What is wrong in type raises TypeError; what only costd can judge (a length, a unit's name, a negative count) is sent as
it is, and costd's refusal names the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from costd_client.provider_usage import ProviderUsage
from costd_client.v1 import record_pb2, usage_pb2

Amount = int | float | Decimal

_INT64 = 1 << 63
#: Nothing that is counted or measured has more.
_MAX_DIGITS = 60
_NANO = Decimal(1_000_000_000)
#: Enough digits for any amount of money or units that costd takes, and then some.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

_TEXTS = (
    *("source_app", "provider", "model", "user", "project", "team", "product", "job"),
    *("prompt_key", "prompt_version", "endpoint"),
)


def dimensions(
    *,
    source_app: str | None,
    model: str,
    provider: str | None = None,
    user: str | None = None,
    project: str | None = None,
    team: str | None = None,
    product: str | None = None,
    job: str | None = None,
    prompt_key: str | None = None,
    prompt_version: str | int | None = None,
    tags: Iterable[str] | None = None,
    endpoint: str | None = None,
) -> record_pb2.Dimensions:
    """Who makes a call, and for what. Raises TypeError naming what is of a wrong type."""
    if type(prompt_version) is int:
        prompt_version = str(prompt_version)
    if isinstance(tags, str):
        raise TypeError("tags must be several str, not one")
    said: dict[str, Any] = {
        "source_app": source_app,
        "provider": provider,
        "model": model,
        "user": user,
        "project": project,
        "team": team,
        "product": product,
        "job": job,
        "prompt_key": prompt_key,
        "prompt_version": prompt_version,
        "endpoint": endpoint,
        "tags": tags,
    }
    try:
        return record_pb2.Dimensions(**said)
    except (TypeError, ValueError):
        return record_pb2.Dimensions(**_mended(said))


def _mended(said: dict[str, Any]) -> dict[str, Any]:
    """The same with text that can be sent (it may hold half a character); TypeError for what is no text."""
    for name in _TEXTS:
        said[name] = text(said[name], name)
    said["tags"] = [text(tag, "tags") for tag in said["tags"] or ()]
    return said


def text(value: object, name: str) -> str | None:
    """A str that can be sent, or None; raises TypeError naming it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value.encode("utf-8", "replace").decode()


def context(said: Mapping[str, str] | None) -> Mapping[str, str]:
    """A price context; raises TypeError."""
    if not said:
        return {}
    if not isinstance(said, Mapping):
        raise TypeError(f"price_context must be a mapping of str to str, not {type(said).__name__}")
    return {
        text(name, "price_context") or "": text(value, f"price_context[{name!r}]") or "" for name, value in said.items()
    }


def quantities(units: Mapping[str, Amount] | None, field: str) -> list[record_pb2.Quantity]:
    """Units and how much of each; raises TypeError naming the unit."""
    if not units:
        return []
    if not isinstance(units, Mapping):
        raise TypeError(f"{field} must be a mapping of units to numbers, not {type(units).__name__}")
    made = []
    for name, amount in units.items():
        if type(amount) is int and -_INT64 <= amount < _INT64:
            made.append(record_pb2.Quantity(unit=name, count=amount))
        elif amount is not None:
            made.append(record_pb2.Quantity(unit=name, decimal=_decimal(amount, f"{field}[{name!r}]")))
    return made


def _decimal(amount: object, name: str) -> str:
    if isinstance(amount, bool) or not isinstance(amount, int | float | Decimal):
        raise TypeError(f"{name} must be an int, a Decimal or a float, not {type(amount).__name__}")
    # A float means the number it is written as. costd reads plain digits; what has too many of them it may refuse.
    exact = Decimal(repr(amount)) if isinstance(amount, float) else Decimal(amount)
    is_sensible = exact.is_finite() and abs(exact.adjusted()) < _MAX_DIGITS
    return format(exact, "f") if is_sensible else str(exact)


def nano_usd(amount: Amount | str | None, name: str) -> int | None:
    """USD in nano-USD, rounded half-even; raises TypeError, or ValueError for what is no finite number."""
    if amount is None:
        return None
    if isinstance(amount, bool) or not isinstance(amount, int | float | Decimal | str):
        raise TypeError(f"{name} must be a Decimal, an int, a float or a str, not {type(amount).__name__}")
    try:
        exact = Decimal(repr(amount)) if isinstance(amount, float) else Decimal(amount)
        nano = int(_EXACT.multiply(exact, _NANO).to_integral_value(ROUND_HALF_EVEN))
    except ArithmeticError as error:
        raise ValueError(f"{name} must be an amount of USD") from error
    except ValueError as error:
        raise ValueError(f"{name} must be a finite amount of USD") from error
    if not -_INT64 <= nano < _INT64:
        raise ValueError(f"{name} is more than any call costs")
    return nano


def milliseconds(value: float | None, name: str) -> int | None:
    """A whole number of milliseconds; raises TypeError, ValueError for what is no finite number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of milliseconds, not {type(value).__name__}")
    if not math.isfinite(value) or abs(value) >= _INT64:
        raise ValueError(f"{name} must be a finite number of milliseconds")
    return round(value)


def check_provider(who: record_pb2.Dimensions, found: ProviderUsage) -> None:
    """Raise ValueError where nobody says whose usage object it is."""
    if found.usage and not (who.provider or found.provider):
        raise ValueError("provider is needed: a usage object does not say whose it is")


def used(
    who: record_pb2.Dimensions, found: ProviderUsage | None, units: Mapping[str, Amount] | None
) -> tuple[Mapping[str, Amount] | None, str]:
    """The units and the raw usage object of a record, of which only one may be sent.

    Sets the provider of `who` where only the usage tells it. Raises ValueError where nothing does.
    """
    if found is None:
        return units, ""
    check_provider(who, found)
    units = {**found.tool_calls, **(units or {})}
    if not found.usage:
        return units, ""
    who.provider = who.provider or found.provider
    return None, raw_usage(found.usage, units)


def raw_usage(usage: Mapping[str, Any], others: Mapping[str, Amount]) -> str:
    """A provider's usage object as JSON, with the units that it does not count."""
    said = {**usage, "other_units": {name: _json_number(count) for name, count in others.items()}} if others else usage
    return json.dumps(said, default=_json_value, separators=(",", ":"))


def _json_number(count: Amount) -> int | float:
    return float(count) if isinstance(count, Decimal) else count


def _json_value(value: object) -> object:
    """What an SDK may have in a usage object beside JSON's own types."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"usage has a {type(value).__name__}, which JSON does not know")


def record(
    who: record_pb2.Dimensions,
    *,
    request_id: str,
    units: Mapping[str, Amount] | None = None,
    usage: str = "",
    status: str | None = None,
    latency_ms: int | None = None,
    time_ms: int | None = None,
    cost_nano_usd: int | None = None,
    price_context: Mapping[str, str] | None = None,
) -> bytes:
    """A record as it travels; raises TypeError naming what is of a wrong type."""
    return record_pb2.RecordRequest(
        dimensions=who,
        units=quantities(units, "units"),
        provider_usage=usage,
        request_id=text(request_id, "request_id") or "",
        status=text(status, "status") or "",
        latency_ms=latency_ms,
        time_ms=time_ms,
        cost_nano_usd=cost_nano_usd,
        price_context=context(price_context),
    ).SerializeToString()


def preflight(
    who: record_pb2.Dimensions,
    *,
    request_id: str,
    estimate: Mapping[str, Amount] | None,
    price_context: Mapping[str, str] | None,
) -> usage_pb2.PreflightRequest:
    """A preflight's question; raises TypeError naming what is of a wrong type."""
    return usage_pb2.PreflightRequest(
        dimensions=who,
        estimated_units=quantities(estimate, "estimate"),
        request_id=text(request_id, "request_id") or "",
        price_context=context(price_context),
    )
