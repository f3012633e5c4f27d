"""The check: that the database is sound, and that its rollups and budgets' windows are the sums of its events."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal

from costd.store.budget_check import compare_windows
from costd.store.commit import micro_units
from costd.store.folded import compare_folded

MAX_FINDINGS = 100
_NANO = 1_000_000_000

_SUMS = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "unpriced",
    "unrated",
    "latency_ms",
    "timed",
)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was compared, and what did not hold (sentences for an operator, at most MAX_FINDINGS)."""

    events: int
    rollups: int
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.findings


def check_ledger(connection: sqlite3.Connection) -> CheckReport:
    """Check everything, on one snapshot; reads the whole ledger. What cannot be read is a finding too."""
    findings: list[str] = []
    for check in _CHECKS:
        try:
            findings += check(connection)
        except sqlite3.DatabaseError as error:
            findings.append(f"database: {error}")
    events, rollups = (_count(connection, sql, findings) for sql in (_EVENTS, _COMPARED))
    return CheckReport(events, rollups, findings[:MAX_FINDINGS])


def _count(connection: sqlite3.Connection, sql: str, findings: list[str]) -> int:
    try:
        return int(connection.execute(sql).fetchone()[0])
    except sqlite3.DatabaseError as error:
        findings.append(f"database: {error}")
        return 0


def _file(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})").fetchall()
    return [f"database: {text}" for (text,) in found if text != "ok"]


def _references(connection: sqlite3.Connection) -> list[str]:
    return [
        f"{table} row {rowid} refers to a {parent} that does not exist"
        for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check")
    ]


def _complete_from(connection: sqlite3.Connection) -> int:
    """The first hour of which every event is still held: older rollups have nothing left to be compared with."""
    return int(connection.execute("SELECT complete_from_hour FROM ledger_state").fetchone()[0])


def _compare_rollups(connection: sqlite3.Connection) -> list[str]:
    """Hours and series whose rollup differs from the events and adjustments it should sum."""
    from_hour = _complete_from(connection)
    expected: dict[tuple[int, int], list[int]] = {}
    for row in connection.execute(_EXPECTED, {"from_ms": from_hour * 3_600_000}):
        expected[row[0], row[1]] = [*row[2:-2], row[-2] * _NANO + row[-1]]
    findings = []
    held_sql = f"SELECT hour, series_id, {', '.join(_SUMS)}, cost_usd, cost_nano FROM rollup WHERE hour >= ?"
    for row in connection.execute(held_sql, (from_hour,)):
        held = [*row[2:-2], row[-2] * _NANO + row[-1]]
        wanted = expected.pop((row[0], row[1]), [0] * len(held))
        if held != wanted:
            names = [name for name, a, b in zip((*_SUMS, "cost"), held, wanted, strict=True) if a != b]
            findings.append(f"rollup of hour {row[0]}, series {row[1]} differs from its events in {', '.join(names)}")
    findings += [f"events of hour {hour}, series {series} have no rollup" for hour, series in expected]
    return findings


def _compare_units(connection: sqlite3.Connection) -> list[str]:
    from_hour = _complete_from(connection)
    expected: dict[tuple[int, int, str], int] = {}
    rows = connection.execute(
        "SELECT at_ms / 3600000, series_id, extra FROM event WHERE extra IS NOT NULL AND at_ms >= ?",
        (from_hour * 3_600_000,),
    )
    for hour, series, extra in rows:
        for unit, quantity in json.loads(extra).get("units", {}).items():
            key = (hour, series, unit)
            expected[key] = expected.get(key, 0) + micro_units(Decimal(quantity))
    corrections = connection.execute(
        "SELECT at_ms / 3600000, series_id, units FROM adjustment WHERE units IS NOT NULL AND at_ms >= ?",
        (from_hour * 3_600_000,),
    )
    for hour, series, units in corrections:
        for unit, quantity in json.loads(units).items():
            key = (hour, series, unit)
            expected[key] = expected.get(key, 0) + micro_units(Decimal(quantity))
    findings = []
    held = connection.execute(
        "SELECT hour, series_id, unit, whole, micro FROM rollup_unit WHERE hour >= ?", (from_hour,)
    )
    for hour, series, unit, whole, micro in held:
        if expected.pop((hour, series, unit), 0) != whole * 1_000_000 + micro:
            findings.append(f"rollup of {unit} in hour {hour}, series {series} differs from its events")
    findings += [f"{unit} in hour {hour}, series {series} has no rollup" for hour, series, unit in expected]
    return findings


def _compare_totals(connection: sqlite3.Connection) -> list[str]:
    """Series whose total is less than the rollups in it that are still kept; those that are gone only add to it."""
    return [f"the total of series {series} is less than its rollups" for (series,) in connection.execute(_SHORT_TOTALS)]


def _orphans(connection: sqlite3.Connection) -> list[str]:
    """Rows whose commit is missing: their ids could not be told."""
    findings = []
    for table in ("event", "request"):
        count = connection.execute(
            f"SELECT count(*) FROM {table} WHERE seq < (SELECT min(first_seq) FROM ledger_commit) "
            "OR seq >= (SELECT max(first_seq + items) FROM ledger_commit)"
        ).fetchone()[0]
        if count:
            findings.append(f"{count} rows of {table} belong to no commit")
    return findings


_CHECKS = (
    _file,
    _references,
    _compare_rollups,
    _compare_units,
    _compare_totals,
    compare_folded,
    _orphans,
    compare_windows,
)
_EVENTS = "SELECT count(*) FROM event"
_COMPARED = "SELECT count(*) FROM rollup WHERE hour >= (SELECT complete_from_hour FROM ledger_state)"
_EXPECTED = f"""
SELECT hour, series_id, {", ".join(f"sum({name})" for name in _SUMS)}, sum(usd), sum(nano) FROM (
  SELECT e.at_ms / 3600000 AS hour, e.series_id, 1 AS requests, s.status = 'error' AS errors,
         e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.reasoning_tokens,
         e.cost_nano IS NULL AS unpriced,
         coalesce(json_array_length(e.extra, '$.unrated'), 0) > 0 AS unrated,
         coalesce(e.latency_ms, 0) AS latency_ms, e.latency_ms IS NOT NULL AS timed,
         coalesce(e.cost_nano, 0) / {_NANO} AS usd, coalesce(e.cost_nano, 0) % {_NANO} AS nano
  FROM event e JOIN series s ON s.id = e.series_id WHERE e.at_ms >= :from_ms
  UNION ALL
  SELECT at_ms / 3600000, series_id, requests, errors, input_tokens, output_tokens, cache_read_tokens,
         cache_write_tokens, reasoning_tokens, unpriced, unrated, latency_ms, timed,
         cost_nano / {_NANO}, cost_nano % {_NANO}
  FROM adjustment WHERE at_ms >= :from_ms
) GROUP BY hour, series_id
"""

_SHORT_TOTALS = f"""
SELECT k.series_id FROM (
  SELECT series_id, {", ".join(f"sum({name}) AS {name}" for name in _SUMS)}, sum(cost_usd) AS cost_usd
  FROM rollup, ledger_state WHERE (hour, series_id) <= (totalled_hour, totalled_series_id) GROUP BY series_id
) k LEFT JOIN series_total t ON t.series_id = k.series_id
WHERE t.series_id IS NULL OR {" OR ".join(f"t.{name} < k.{name}" for name in (*_SUMS, "cost_usd"))}
"""
