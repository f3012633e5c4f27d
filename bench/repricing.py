"""Row of repricing: records a second that `costd prices reprice` rates again, every one of them to another cost.

The yardstick does with plain sqlite3, on a copy of the same ledger, what any re-rating must: read every event, and
insert a row of the same width for each, as durable and in transactions of the same size. It rates nothing.
Run as a process of its own (`python -m bench.repricing DATABASE`), on the server's core; prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.batches import send_batches
from bench.plan import Plan
from bench.processes import LOAD_CORE, SERVER_CORE, Daemon, daemon, python
from bench.report import Line
from costd.services.repricing import BLOCK_EVENTS
from costd.store.connection import DATABASE_NAME

RECORDS = 500_000
GOAL = 50_000


def reprice(plan: Plan) -> list[Line]:
    """Every record of a ledger, by prices that differ each time; the whole command."""
    records = RECORDS if plan.rounds > 2 else plan.records
    rates = []
    with daemon(plan.folder / "reprice") as running:
        sent = send_batches(running.grpc_port, running.key, records)
        for number in range(plan.rounds):
            _costd(running, "prices", "set", "*", "--multiplier", f"0.{number + 10}", "--from", "always")
            started_s = time.perf_counter()
            done = json.loads(_costd(running, "prices", "reprice", "--yes", "--json"))
            rates.append(sent / (time.perf_counter() - started_s))
            if done["correction"]["adjusted"] != sent:
                raise RuntimeError(f"{done['correction']['adjusted']} of {sent} records were adjusted")
        running.stop()
    copy = plan.folder / "reprice-bare.db"
    shutil.copyfile(plan.folder / "reprice" / DATABASE_NAME, copy)
    out = subprocess.run(python(SERVER_CORE, "-m", "bench.repricing", str(copy)), stdout=subprocess.PIPE, check=True)
    bare = float(json.loads(out.stdout)["rate"])
    rate = median(rates)
    how = f"{sent:,} records, all adjusted, the whole command; yardstick: reading them and inserting a row each"
    return [Line("reprice", rate, "records/s", bare, f"≥ {GOAL:,}/s", rate >= GOAL, how)]


def _costd(running: Daemon, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COSTD_")}
    command = python(LOAD_CORE, "-m", "costd", *arguments, "--data-dir", str(running.data_dir))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return done.stdout


def _bare(path: str) -> float:
    """Events read and rows inserted, a second."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(adjustment)")]
    connection.execute("CREATE TABLE copied AS SELECT * FROM adjustment WHERE 0")
    connection.execute("CREATE INDEX copied_by_event ON copied (event_seq)")
    into = f"INSERT INTO copied VALUES ({', '.join('?' * len(columns))})"
    done, after_seq, started_s = 0, 0, time.perf_counter()
    while rows := connection.execute(_EVENTS, (after_seq, BLOCK_EVENTS)).fetchall():
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            into, [(done, row[0], b"0" * 16, *row[1:3], "reprice", *[0] * 12, None, 1, 1) for row in rows]
        )
        connection.execute("COMMIT")
        done, after_seq = done + len(rows), rows[-1][0]
    return done / (time.perf_counter() - started_s)


_EVENTS = (
    "SELECT seq, at_ms, series_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, "
    "reasoning_tokens, cost_nano, price_source_id, extra FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
)


if __name__ == "__main__":
    print(json.dumps({"rate": _bare(Path(sys.argv[1]).as_posix())}))
