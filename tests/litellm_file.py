"""Small files in the form of LiteLLM's price file, and what usage costs by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from importlib import resources
from typing import Any

from costd.domain.litellm_prices import Compiled, ImportReport, compile_file
from costd.domain.price_table import PriceTable
from costd.domain.rates import Context
from costd.domain.units import Quantity

LISTED = PriceTable(resources.files("costd").joinpath("data", "prices.txt").read_bytes())
UNITS = LISTED.units
MONDAY_MS = 1_795_392_000_000  # 2026-11-23 00:00 UTC
HOUR_MS = 3_600_000
CHAT: dict[str, Any] = {"litellm_provider": "openai", "mode": "chat"}


def compiled(entries: Mapping[str, object]) -> Compiled:
    return compile_file(json.dumps(entries).encode(), "1", UNITS)


def read(**fields: object) -> tuple[PriceTable, ImportReport]:
    """The table and report of a file with one entry, "m" of OpenAI."""
    done = compiled({"m": CHAT | fields})
    return PriceTable(done.body, UNITS), done.report


def cost(table: PriceTable, units: dict[str, Quantity], context: Context = (), at_ms: int = MONDAY_MS) -> object:
    found = table.find_exactly("openai", "m")
    assert found is not None
    card = found.model.card(at_ms, found.model.meaningful(context))
    assert card.unrated(units) == ()
    return card.cost_nano(units)


def nano(usd: str) -> int:
    return int(Decimal(usd) * 10**9)


PLAIN = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}
CACHED = PLAIN | {"cache_read_input_token_cost": 5e-7, "cache_creation_input_token_cost": 2.5e-6}
TIERED = PLAIN | {"input_cost_per_token_above_200k_tokens": 4e-6, "output_cost_per_token_above_200k_tokens": 1.2e-5}
BATCH: Context = (("processing", "batch"),)
PRIORITY: Context = (("service_tier", "priority"),)
