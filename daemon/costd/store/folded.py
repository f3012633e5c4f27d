"""The check of what rollups were folded into: days and months hold the sums of their hours."""

from __future__ import annotations

import sqlite3

from costd.domain.days import month_of_hour
from costd.store.commit import AMOUNT_COLUMNS

_NANO = 1_000_000_000


def compare_folded(connection: sqlite3.Connection) -> list[str]:
    """Days and months that differ from their hours; a sentence for each series of one.

    Those that began before `rollups_from_hour` are left out: their sums are of more than is still there.
    """
    kept_from = connection.execute("SELECT rollups_from_hour FROM ledger_state").fetchone()[0]
    findings = []
    for name, table, of_hour, first in (
        ("day", "rollup_day", "hour / 24", -(-kept_from // 24)),
        ("month", "rollup_month", _MONTH, month_of_hour(kept_from - 1) + 1),
    ):
        for number, series_id in connection.execute(_difference(table, name, of_hour), {"first": first}):
            findings.append(f"the {name} {number} of series {series_id} differs from its hours")
    return findings


def _difference(table: str, name: str, of_hour: str) -> str:
    """Rows that are in only one of the two: what is folded, and what the hours up to the mark add up to."""
    hours = (
        f"SELECT {of_hour} AS {name}, series_id, {_SUMS} FROM rollup "
        "WHERE (hour, series_id) <= (SELECT totalled_hour, totalled_series_id FROM ledger_state) GROUP BY 1, 2"
    )
    folded = f"SELECT {name}, series_id, {AMOUNT_COLUMNS} FROM {table}"
    return (
        f"SELECT DISTINCT {name}, series_id FROM (SELECT * FROM ({hours} EXCEPT {folded}) "
        f"UNION ALL SELECT * FROM ({folded} EXCEPT {hours})) WHERE {name} >= :first ORDER BY 1, 2"
    )


_MONTH = "strftime('%Y', hour * 3600, 'unixepoch') * 12 + strftime('%m', hour * 3600, 'unixepoch') - 1"
_CARRIED = {"cost_usd": f"sum(cost_usd) + sum(cost_nano) / {_NANO}", "cost_nano": f"sum(cost_nano) % {_NANO}"}
_SUMS = ", ".join(_CARRIED.get(column, f"sum({column})") for column in AMOUNT_COLUMNS.split(", "))
