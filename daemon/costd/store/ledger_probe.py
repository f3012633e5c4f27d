"""The doctor's look at the database: from outside, changing nothing, whatever state it is in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from costd.domain.errors import CostdError, DamagedDatabase
from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.store.ledger_file import opened
from costd.store.migrate import migrations
from costd.store.restored import pending
from costd.store.writer import LOG_BYTES, RESET_BYTES

#: A quick check reads every page, some 400 MB a second: of a huge ledger, the first part.
_QUICK_CHECK_S = 30.0
_POLL_STEPS = 10_000
_OLD_DAYS = 90
_DAY_MS = 86_400_000

_WAY_OUT = "`costd restore FILE` puts a backup in its place; docs/operations.md says what else can be done"


class Looked(NamedTuple):
    """What was found, and when the ledger was last written to (None where it does not say)."""

    findings: list[Finding]
    last_commit_ms: int | None = None


def look(database: Path, now_ms: int, monotonic_s: Callable[[], float]) -> Looked:
    """Everything about the database at `database`."""
    if pending(database) is not None:
        advice = "start the daemon, or run `costd check`: either finishes it"
        return Looked([Finding("database", WARN, "a restore was cut short", advice)])
    try:
        size = database.stat().st_size
    except FileNotFoundError:
        return Looked([_missing(database)])
    except OSError as error:
        return Looked([Finding("database", FAIL, f"cannot look at {database}: {error.strerror}", "check who may")])
    try:
        with opened(database) as connection:
            return _look(connection, database, size, now_ms, monotonic_s)
    except DamagedDatabase as error:
        return Looked([Finding("database", FAIL, error.message, _WAY_OUT)])
    except CostdError as error:
        return Looked([Finding("database", FAIL, error.message, "run this as the daemon's user")])
    except sqlite3.Error as error:
        return Looked([Finding("database", FAIL, f"{database}: {error}", _WAY_OUT)])


def _missing(database: Path) -> Finding:
    for name in (f"{database.name}-wal", "admin.key"):
        if database.with_name(name).exists():
            return Finding("database", FAIL, f"{database} is missing, but {name} says that there was one", _WAY_OUT)
    return Finding("database", WARN, f"{database} is not there", "`costd run` makes it at its first start")


def _look(
    connection: sqlite3.Connection, database: Path, size: int, now_ms: int, monotonic_s: Callable[[], float]
) -> Looked:
    findings = [_quick_check(connection, size, monotonic_s), _schema(connection), _log(database)]
    row = connection.execute("SELECT at_ms FROM ledger_commit ORDER BY first_seq DESC LIMIT 1").fetchone()
    findings.append(
        Finding("backup", OK, "unknown: costd does not know where yours are", "`costd backup FILE`, every night")
    )
    return Looked([*findings, *_prices(connection, now_ms)], row[0] if row else None)


def _quick_check(connection: sqlite3.Connection, size: int, monotonic_s: Callable[[], float]) -> Finding:
    about = f"{size / 2**20:,.0f} MiB"
    until_s = monotonic_s() + _QUICK_CHECK_S
    connection.set_progress_handler(lambda: monotonic_s() > until_s, _POLL_STEPS)
    try:
        found = [text for (text,) in connection.execute("PRAGMA quick_check(3)") if text != "ok"]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_INTERRUPT":
            raise
        return Finding("database", OK, f"{about}, too much to read here", "`costd check` reads all of it")
    finally:
        connection.set_progress_handler(None, 0)
    if found:
        return Finding("database", FAIL, f"{about}; {'; '.join(found)}", _WAY_OUT)
    return Finding("database", OK, f"{about}, sound as far as a quick check sees")


def _schema(connection: sqlite3.Connection) -> Finding:
    held = connection.execute("SELECT max(version) FROM schema_migration").fetchone()[0]
    newest = migrations()[-1].version
    if held < newest:
        about, advice = f"{held}; this costd has {newest}", "make a backup; the next start brings it up to date"
        return Finding("schema", WARN, about, advice)
    return Finding("schema", OK, str(held))


def _log(database: Path) -> Finding:
    try:
        size = database.with_name(f"{database.name}-wal").stat().st_size
    except FileNotFoundError:
        size = 0
    about = f"{size / 2**20:,.0f} MiB"
    advice = "some program reads the ledger without end and keeps its log from starting over: find it (fuser), stop it"
    if size >= 2 * RESET_BYTES:
        return Finding("write-ahead log", FAIL if size >= LOG_BYTES else WARN, about, advice)
    return Finding("write-ahead log", OK, about)


def _prices(connection: sqlite3.Connection, now_ms: int) -> list[Finding]:
    """How long the newest price list has been the newest: a list says its version, and no date."""
    row = connection.execute(
        "SELECT version, added_ms FROM price_source WHERE kind = 'list' ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return [Finding("price list", OK, "none in use yet")]
    days = max(0, (now_ms - row[1]) // _DAY_MS)
    about = f"genai-prices {row[0]}, here for {days} days"
    if days > _OLD_DAYS:
        advice = (
            "providers change prices: `pip install --upgrade genai-prices`, then `costd prices update` or a restart"
        )
        return [Finding("price list", WARN, about, advice)]
    return [Finding("price list", OK, about)]
