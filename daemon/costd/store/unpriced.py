"""Reads of the rollups: models with records that have no cost, or units without a rate."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from costd.domain.batch import COUNT_COLUMNS
from costd.store.rollups import Period

#: Beyond every hour that can be stored.
_NO_HOUR = 1 << 40


@dataclass(frozen=True, slots=True)
class UnpricedUsage:
    """One model's records in a period; hours are those since 1970 of the first and last that lack something."""

    provider: str
    model: str
    source_apps: list[str]
    requests: int
    unpriced: int
    unrated: int
    input_tokens: int
    output_tokens: int
    first_hour: int
    last_hour: int
    units: list[str]


def find_unpriced(connection: sqlite3.Connection, org_id: int, period: Period) -> list[UnpricedUsage]:
    """Models with records that lack a price, by how many there are."""
    values = (
        -_NO_HOUR if period.from_hour is None else period.from_hour,
        _NO_HOUR if period.to_hour is None else period.to_hour,
        org_id,
    )
    units: dict[tuple[str, str], list[str]] = {}
    for provider, model, unit in connection.execute(_UNITS, values):
        units.setdefault((provider, model), []).append(unit)
    return [_usage(row, units.get(row[:2], [])) for row in connection.execute(_MODELS, values)]


def _usage(row: tuple[object, ...], rare: list[str]) -> UnpricedUsage:
    provider, model, apps, requests, unpriced, unrated, *rest = row
    counts, (first_hour, last_hour) = rest[:5], rest[5:]
    used = [name for name, count in zip(COUNT_COLUMNS, counts, strict=True) if count]
    return UnpricedUsage(
        provider=str(provider),
        model=str(model),
        source_apps=sorted(filter(None, json.loads(str(apps)))),
        requests=requests,  # type: ignore[arg-type]
        unpriced=unpriced,  # type: ignore[arg-type]
        unrated=unrated,  # type: ignore[arg-type]
        input_tokens=counts[0],  # type: ignore[arg-type]
        output_tokens=counts[1],  # type: ignore[arg-type]
        first_hour=first_hour,  # type: ignore[arg-type]
        last_hour=last_hour,  # type: ignore[arg-type]
        units=[*used, *rare],
    )


#: Rollups are added up by series before names are joined to them.
_LACKING = """
SELECT series_id, sum(requests) AS requests, sum(unpriced) AS unpriced, sum(unrated) AS unrated,
       sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
       sum(reasoning_tokens) AS reasoning_tokens,
       min(CASE WHEN unpriced > 0 OR unrated > 0 THEN hour END) AS first_hour,
       max(CASE WHEN unpriced > 0 OR unrated > 0 THEN hour END) AS last_hour
FROM rollup WHERE hour >= ?1 AND hour < ?2
GROUP BY series_id HAVING sum(unpriced) > 0 OR sum(unrated) > 0
"""
_MODELS = f"""
SELECT s.provider, s.model, json_group_array(DISTINCT s.source_app), sum(requests), sum(unpriced), sum(unrated),
       sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens),
       min(first_hour), max(last_hour)
FROM ({_LACKING}) r JOIN series s ON s.id = r.series_id WHERE s.org_id = ?3
GROUP BY s.provider, s.model
ORDER BY sum(unpriced) + sum(unrated) DESC, sum(requests) DESC, s.provider, s.model
"""
_UNITS = f"""
SELECT DISTINCT s.provider, s.model, u.unit
FROM ({_LACKING}) r JOIN series s ON s.id = r.series_id
JOIN rollup_unit u ON u.series_id = r.series_id AND u.hour >= ?1 AND u.hour < ?2
WHERE s.org_id = ?3 AND (u.whole > 0 OR u.micro > 0) ORDER BY u.unit
"""
