"""Rows of exports and imports: the commands from start to end, against SQLite doing the bare work on the same rows.

The yardsticks run as processes of their own on the commands' core (`python -m bench.dumps export|import …`).
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import reads
from bench.load import Job
from bench.plan import Plan
from bench.processes import LOAD_CORE, Daemon, daemon, drive, python
from bench.report import Line
from costd.clock import Clock
from costd.store.connection import DATABASE_NAME, open_database

RECORDS = 1_000_000
#: Records of an import, and over how many series: as usual, and as it would be with a user for nearly every record.
IMPORTED = 300_000
SERIES = {"": 57, "-high": 10_000}
EXPORT_GOAL, IMPORT_GOAL = 100_000, 30_000
_BATCH = 4_000


def export(plan: Plan) -> list[Line]:
    """`costd export` of a whole ledger into a file, by way of a daemon; and what records notice of it."""
    records = RECORDS if plan.rounds > 2 else RECORDS // 10
    data_dir = _ledger(plan, "export", SERIES["-high"], records)
    path = plan.folder / "out"
    lines = []
    with daemon(data_dir) as running:
        bare = median(_yardstick("export", data_dir / DATABASE_NAME, path) for _ in range(plan.rounds))
        for form in ("jsonl", "csv"):
            arguments = ("export", "--format", form, "--output", str(path))
            rate = median(records / _command(running, *arguments) for _ in range(plan.rounds))
            how = (
                f"costd export --format {form} of {records:,} records in {SERIES['-high']:,} series, start to end; "
                "yardstick: the same rows by one SELECT, written as CSV by Python, in process"
            )
            is_met = rate >= EXPORT_GOAL
            lines.append(Line(f"export-{form}", rate, "records/s", records / bare, f"≥ {EXPORT_GOAL:,}/s", is_met, how))
        lines += _beside(plan, running, path)
    return lines


def _beside(plan: Plan, running: Daemon, path: Path) -> Iterator[Line]:
    """What an export does to records that come at the same time: 64 callers over HTTP."""
    job = Job("http-record", running.http_port, 64, 1, max(2.0, plan.seconds), running.key)
    alone = drive(job, running.process.pid)
    with subprocess.Popen(_arguments(running, "export", "--output", str(path)), stdout=subprocess.DEVNULL) as process:
        beside = drive(job, running.process.pid)
        went_on = process.poll() is None
        process.kill()
    how = (
        f"records over HTTP while an export goes on{'' if went_on else ' (and then has ended)'}; yardstick: without one"
    )
    yield Line("export-beside-rate", beside.rate, "records/s", alone.rate, "", None, how)
    yield Line("export-beside-p99", beside.p99_ms, "ms", alone.p99_ms, "", None, how)


def import_(plan: Plan) -> list[Line]:
    """`costd import` of an export into an empty ledger, and of the same again."""
    records = IMPORTED if plan.rounds > 2 else IMPORTED // 3
    return [line for kind in SERIES for line in _import(plan, kind, records)]


def _import(plan: Plan, kind: str, records: int) -> Iterator[Line]:
    path = plan.folder / f"in{kind}.jsonl"
    with daemon(_ledger(plan, f"import-from{kind}", SERIES[kind], records)) as running:
        _command(running, "export", "--output", str(path))
    rates, again = [], []
    for number in range(plan.rounds):
        with daemon(plan.folder / f"import{kind}-{number}") as running:
            rates.append(records / _command(running, "import", str(path)))
            again.append(records / _command(running, "import", str(path)))
    bare = median(_yardstick("import", plan.folder / f"bare{kind}-{n}.db", path) for n in range(plan.rounds))
    rate = median(rates)
    how = f"costd import of {records:,} records in {SERIES[kind]:,} series, each with an id, from start to end"
    against = f"{how}; yardstick: json.loads and executemany into SQLite, in process, as durable"
    goal = "" if kind else f"≥ {IMPORT_GOAL:,}/s"
    is_met = None if kind else rate >= IMPORT_GOAL
    yield Line(f"import{kind}", rate, "records/s", records / bare, goal, is_met, against)
    yield Line(f"import{kind}-again", median(again), "records/s", None, "", None, f"{how}; all of them there already")


def _ledger(plan: Plan, name: str, series: int, records: int) -> Path:
    data_dir = plan.folder / name
    data_dir.mkdir()
    reads.build(data_dir / DATABASE_NAME, series, records, Clock().now_ms())
    return data_dir


def _arguments(running: Daemon, *arguments: str) -> list[str]:
    where = ["--address", f"127.0.0.1:{running.grpc_port}", "--key", running.key]
    return python(LOAD_CORE, "-m", "costd", *arguments, *where)


def _command(running: Daemon, *arguments: str) -> float:
    """The seconds a command takes from start to end."""
    started_s = time.perf_counter()
    subprocess.run(_arguments(running, *arguments), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started_s


def _yardstick(kind: str, database: Path, path: Path) -> float:
    """The seconds that SQLite takes for the bare work."""
    command = python(LOAD_CORE, "-m", "bench.dumps", kind, str(database), str(path))
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


# -- the yardsticks ----------------------------------------------------------------------------------------------------

_DUMP = (
    "SELECT c.id, e.seq - c.first_seq, q.request_id, strftime('%Y-%m-%dT%H:%M:%fZ', e.at_ms / 1000.0, 'unixepoch'), "
    "s.source_app, s.team, s.project, s.product, s.user, s.provider, s.model, s.prompt_key, s.prompt_version, s.tags, "
    "s.endpoint, s.status, e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, "
    "e.reasoning_tokens, e.cost_nano, p.kind, p.version, e.latency_ms, e.extra, s.key_id "
    "FROM event e JOIN series s ON s.id = e.series_id LEFT JOIN request q ON q.seq = e.seq "
    "LEFT JOIN price_source p ON p.id = e.price_source_id "
    "JOIN ledger_commit c ON c.first_seq = (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq) "
    "ORDER BY e.seq"
)


def _bare_export(database: Path, path: Path) -> None:
    import csv  # noqa: PLC0415

    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(connection.execute(_DUMP))


def _bare_import(database: Path, path: Path) -> None:
    connection = open_database(database, Clock().now_ms())
    seqs = itertools.count(1)
    with path.open("rb") as file:
        for lines in iter(lambda: list(itertools.islice(file, _BATCH)), []):
            said = [(next(seqs), json.loads(line)) for line in lines]
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO event VALUES (?, ?, NULL, 1, ?, ?, ?, 0, 0, NULL, NULL, ?, NULL)",
                [
                    (seq, seq, each["units"]["input_tokens"], each["units"]["output_tokens"], 0, each["latency_ms"])
                    for seq, each in said
                ],
            )
            connection.executemany(
                "INSERT INTO request VALUES (?, 1, ?, x'00')",
                [(seq, bytes.fromhex(each["id"].replace("-", ""))) for seq, each in said],
            )
            connection.execute("COMMIT")
    connection.close()


if __name__ == "__main__":
    started_s = time.perf_counter()
    {"export": _bare_export, "import": _bare_import}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(time.perf_counter() - started_s)
