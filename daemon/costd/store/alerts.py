"""Alerts as the ledger keeps them: each once for its window, threshold and kind, with its ways out."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from costd.domain.alerting import Alert, Reached
from costd.domain.window import Window
from costd.domain.window_key import WindowKey
from costd.store.commit import Commit


class Found(NamedTuple):
    """An alert to be kept: of which window of which organization."""

    key: WindowKey
    org_id: int
    alert: Alert


class Delivery(NamedTuple):
    """How far one way out has come; times in UTC milliseconds, None where it did not happen or is over."""

    channel: str
    attempts: int
    next_ms: int | None
    delivered_ms: int | None
    error: str


class Listed(NamedTuple):
    """An alert and its ways out."""

    alert: Alert
    deliveries: Sequence[Delivery]


class AlertPage(NamedTuple):
    """Alerts, newest first, and where the next page begins; "" where there is none."""

    alerts: Sequence[Listed]
    next_cursor: str


class Due(NamedTuple):
    """An alert that a way out is to be tried for."""

    number: int
    alert: Alert


def store_alerts(commit: Commit, found: Iterable[Found], channels: Collection[str]) -> list[Alert]:
    """Keep those that are not kept yet, each with a delivery for each way out; they are what is returned."""
    fired = []
    for key, org_id, alert in found:
        row = commit.connection.execute(
            "INSERT INTO budget_alert (public_id, org_id, budget_id, revision, value, start_ms, each, end_ms, "
            "threshold, kind, at_ms, settled_nano, limit_nano, forecast_nano) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING id",
            (
                alert.id,
                org_id,
                *key,
                alert.each,
                alert.window.end_ms,
                alert.threshold,
                alert.kind,
                alert.at_ms,
                alert.settled_nano,
                alert.limit_nano,
                alert.forecast_nano,
            ),
        ).fetchone()
        if row is not None:
            fired.append(alert)
            commit.connection.executemany(
                "INSERT INTO alert_delivery (alert_id, channel, attempts, next_ms, error) VALUES (?, ?, 0, ?, '')",
                [(row[0], channel, commit.now_ms) for channel in channels],
            )
    return fired


def read_fired(connection: sqlite3.Connection, key: WindowKey) -> set[Reached]:
    """What a window has been told of already."""
    rows = connection.execute(
        "SELECT threshold, kind FROM budget_alert WHERE budget_id = ? AND revision = ? AND value = ? AND start_ms = ?",
        key,
    )
    return {Reached(*row) for row in rows}


def read_settled(connection: sqlite3.Connection, budget_id: str, revision: int, window: Window) -> dict[str, int]:
    """{value: what is settled} of a budget's windows in one period, in nano-USD; by their end, which has an index."""
    place = (window.end_ms, budget_id, revision)
    where = "w.end_ms = ? AND w.budget_id = ? AND w.revision = ?"
    rows = connection.execute(f"SELECT value, settled_nano, credited_nano FROM budget_window w WHERE {where}", place)
    found = {value: settled_nano - credited_nano for value, settled_nano, credited_nano in rows}
    accounts = connection.execute(
        "SELECT w.value, a.settled_nano FROM budget_window w JOIN budget_account a ON a.budget_id = w.budget_id AND "
        f"a.revision = w.revision AND a.value = w.value AND a.start_ms = w.start_ms WHERE {where}",
        place,
    )
    for value, settled_nano in accounts:
        found[value] += settled_nano
    return found


def list_alerts(connection: sqlite3.Connection, org_id: int, budget: str, before: int | None, limit: int) -> AlertPage:
    """The newest alerts of an organization, below the number `before`; of one budget by its id or name, "" for all."""
    where, values = ["a.org_id = ?"], [org_id]
    conditions: list[Any] = values
    if budget:
        where.append("(a.budget_id = ? OR b.name = ?)")
        conditions += [budget, budget]
    if before is not None:
        where.append("a.id < ?")
        conditions.append(before)
    rows = connection.execute(
        f"{_ALERT} WHERE {' AND '.join(where)} ORDER BY a.id DESC LIMIT ?", [*conditions, limit + 1]
    ).fetchall()
    page = rows[:limit]
    listed = [Listed(_alert(row), _deliveries(connection, row[0])) for row in page]
    return AlertPage(listed, str(page[-1][0]) if len(rows) > limit else "")


def find_due(connection: sqlite3.Connection, channel: str, now_ms: int, far_ms: int) -> Due | None:
    """What is to be tried next by a way out, the one that waits longest.

    What is said to be tried after `far_ms` is due too: it was said by a clock that was ahead.
    """
    for condition, at_ms in (("d.next_ms <= ?", now_ms), ("d.next_ms > ?", far_ms)):
        row = connection.execute(
            f"{_ALERT} JOIN alert_delivery d ON d.alert_id = a.id WHERE d.channel = ? AND {condition} "
            "ORDER BY d.next_ms, a.id LIMIT 1",
            (channel, at_ms),
        ).fetchone()
        if row is not None:
            return Due(row[0], _alert(row))
    return None


def next_due_ms(connection: sqlite3.Connection, channel: str) -> int | None:
    """When a way out is to be tried next; None where nothing waits."""
    row = connection.execute(
        "SELECT min(next_ms) FROM alert_delivery WHERE channel = ? AND next_ms IS NOT NULL", (channel,)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def note_delivered(commit: Commit, number: int, channel: str) -> None:
    """A way out has accepted an alert."""
    commit.connection.execute(
        "UPDATE alert_delivery SET attempts = attempts + 1, next_ms = NULL, delivered_ms = ?, error = '' "
        "WHERE alert_id = ? AND channel = ?",
        (commit.now_ms, number, channel),
    )


def note_failed(commit: Commit, number: int, channel: str, pause_ms: int, error: str) -> None:
    """A way out has not accepted an alert; it is tried again after the pause."""
    commit.connection.execute(
        "UPDATE alert_delivery SET attempts = attempts + 1, next_ms = ?, error = ? WHERE alert_id = ? AND channel = ?",
        (commit.now_ms + pause_ms, error, number, channel),
    )


def read_waiting(connection: sqlite3.Connection) -> Mapping[str, tuple[int, int]]:
    """{way out: (alerts that it has not accepted, when the oldest of them was found)}."""
    rows = connection.execute(
        "SELECT d.channel, count(*), min(a.at_ms) FROM alert_delivery d JOIN budget_alert a ON a.id = d.alert_id "
        "WHERE d.next_ms IS NOT NULL GROUP BY d.channel"
    )
    return {channel: (count, oldest_ms) for channel, count, oldest_ms in rows}


def _deliveries(connection: sqlite3.Connection, number: int) -> list[Delivery]:
    rows = connection.execute(
        "SELECT channel, attempts, next_ms, delivered_ms, error FROM alert_delivery WHERE alert_id = ? "
        "ORDER BY channel DESC",
        (number,),
    )
    return [Delivery(*row) for row in rows]


def _alert(row: Sequence[Any]) -> Alert:
    _, public_id, organization, budget_id, budget, each, value, start_ms, end_ms, *rest = row
    return Alert(public_id, organization, budget_id, budget, each, value, Window(start_ms, end_ms), *rest)


_ALERT = (
    "SELECT a.id, a.public_id, o.name, a.budget_id, b.name, a.each, a.value, a.start_ms, a.end_ms, a.threshold, "
    "a.kind, a.at_ms, a.settled_nano, a.limit_nano, a.forecast_nano FROM budget_alert a "
    "JOIN budget b ON b.id = a.budget_id JOIN org o ON o.id = a.org_id"
)
