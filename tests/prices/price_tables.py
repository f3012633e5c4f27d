"""Small price tables for tests, in the format that costd.store.price_compiler documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from costd.domain.price_table import FORMAT, PriceTable

LIST_BODY = resources.files("costd").joinpath("data", "prices.txt").read_bytes()
LISTED = PriceTable(LIST_BODY)
UNITS = LISTED.units
RAW_UNITS = {name: [unit.per, dict(unit.dimensions)] for name, unit in UNITS.units.items()}


def table_body(models: Mapping[str, Sequence[tuple[list[Any], dict[str, Any]]]], version: str = "t1") -> bytes:
    """A table of {provider: [(match rule, prices), …]}."""
    sections = [
        b"".join(json.dumps(rule).encode() + b"\t" + json.dumps(prices).encode() + b"\n" for rule, prices in held)
        for held in models.values()
    ]
    providers = []
    start = 0
    for provider, section in zip(models, sections, strict=True):
        match = {"provider_match": ["=", provider], "model_match": ["^", f"{provider}-"], "fallback": []}
        providers.append({"id": provider, "name": provider, **match, "start": start, "length": len(section)})
        start += len(section)
    header = {"format": FORMAT, "library": "test", "version": version, "units": RAW_UNITS, "providers": providers}
    return json.dumps(header).encode() + b"\n" + b"".join(sections)


def table(
    models: Mapping[str, Sequence[tuple[list[Any], dict[str, Any]]]], source_id: int = 0, version: str = "t1"
) -> PriceTable:
    """The same, ready to be asked."""
    return PriceTable(table_body(models, version), UNITS, source_id)
