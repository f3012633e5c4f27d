"""Reads data files of the genai-prices library, as it publishes them, for costd.store.price_compiler.

Part of the compiler's own process: it imports the library.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from genai_prices import data_units, types
from pydantic import ValidationError

#: What the compiler makes of a provider; a ValueError where it cannot.
Trial: TypeAlias = Callable[[types.Provider], object]


class BadFile(Exception):
    """A file is no price data of the library's; says why."""


def read_data(raw: bytes, trial: Trial) -> tuple[list[types.Provider], Counter[str]]:
    """The providers of a file, which all pass `trial`, and the price keys left out of them, with counts.

    Raises BadFile, naming the provider or model.
    """
    try:
        parsed = json.loads(raw, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise BadFile(f"is not JSON: {error}") from None
    if not isinstance(parsed, list) or not all(isinstance(provider, dict) for provider in parsed) or not parsed:
        raise BadFile("must be a JSON array of providers, as prices/new_data/v2/data.json of genai-prices is")
    # How usage is read from answers is none of a price table's business, and may be newer than the library.
    bare = [{key: value for key, value in provider.items() if key != "extractors"} for provider in parsed]
    left_out = _without_unknown_prices(bare)
    try:
        providers = _read(bare, trial)
    except BadFile as error:
        raise BadFile(_place(bare, trial) or str(error)) from None
    _check(providers)
    return providers, left_out


def _read(providers: list[dict[str, Any]], trial: Trial) -> list[types.Provider]:
    """The providers, as the library reads its updates; raises BadFile."""
    try:
        read = types._providers_from_raw(providers)
        for provider in read:
            trial(provider)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadFile(f"{'.'.join(map(str, first['loc'][:6]))}: {first['msg']}") from None
    except (ValueError, TypeError, AttributeError, KeyError, re.error) as error:
        raise BadFile(str(error) or type(error).__name__) from None
    return read


def _place(providers: list[dict[str, Any]], trial: Trial) -> str:
    """Which provider or model it is that cannot be read, and why; "" where each can be read by itself."""
    for provider in providers:
        models = provider.get("models")
        parts = [(f"{provider.get('id')!s:.64}", {**provider, "models": []})]
        for model in models if isinstance(models, list) else ():
            name = model.get("id") if isinstance(model, dict) else model
            parts.append((f"{provider.get('id')!s:.64}/{name!s:.128}", {**provider, "models": [model]}))
        for place, part in parts:
            try:
                _read([part], trial)
            except BadFile as error:
                return f"{place}: {error}"
    return ""


def _without_unknown_prices(value: Any) -> Counter[str]:
    """Take out, in place, prices under keys that the library has no unit for."""
    known = {unit.get("price_key", name) for name, unit in data_units.unit_data.items()}
    left_out: Counter[str] = Counter()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            prices = each.get("prices")
            if isinstance(prices, dict):
                for key in [key for key in prices if key not in known]:
                    del prices[key]
                    left_out[str(key)[:64]] += 1
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return left_out


def _check(providers: Sequence[types.Provider]) -> None:
    """Raise BadFile for what the library takes and a table cannot hold."""
    ids = Counter(provider.id for provider in providers)
    if doubled := [name for name, count in ids.items() if count > 1]:
        raise BadFile(f"has the provider {doubled[0]} twice")
    for provider in providers:
        for model in provider.models:
            if model.prices == []:
                raise BadFile(f"{provider.id}/{model.id} has an empty list of prices")
