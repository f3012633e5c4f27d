"""Rows of the command line: `costd report` over five million records, from the start of its process to its end.

The yardstick is a process too and pays for its start as well: it runs the statements that the report makes of the
question with Python's `sqlite3`, and prints what they find.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.plan import Plan
from bench.processes import LOAD_CORE, daemon, python
from bench.reads import Noting, build, wait_for_upkeep
from bench.report import Line
from costd.clock import Clock
from costd.domain.access import Caller
from costd.services.reports import Reports
from costd.store.connection import DATABASE_NAME

RECORDS = 5_000_000
DAYS = 60
#: How many series there are: of a few services, and of a company with many users.
SERIES = (57, 2_000)
GOAL_MS = 500
#: What is asked: `costd report` with these options, and the same question to the services.
QUESTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "": (("--since", "all"), {}),
    "-days": (("--since", "all", "--by", "provider", "--bucket", "day"), {"by": ("provider",), "bucket": "day"}),
}

_YARDSTICK = """
import json, sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
for statement in json.loads(sys.argv[2]):
    for row in connection.execute(statement):
        print(*row)
"""


def report(plan: Plan) -> list[Line]:
    """How long a report takes whoever types it, with a daemon and without."""
    records = RECORDS if plan.rounds > 2 else RECORDS // 10
    return [line for series in SERIES for line in _measure(plan, series, records)]


def _measure(plan: Plan, series: int, records: int) -> Iterator[Line]:
    data_dir = plan.folder / f"report-{series}"
    data_dir.mkdir(mode=0o700)
    database = data_dir / DATABASE_NAME
    build(database, series, records, Clock().now_ms(), DAYS)
    rounds = plan.rounds * 2 + 1
    over = f"{records:,} records of {DAYS} days in {series:,} series"
    with daemon(data_dir):
        wait_for_upkeep(database, records)
        for name, (options, question) in QUESTIONS.items():
            statements = json.dumps(_statements(database, question))
            ours_ms = _median_ms(["-m", "costd", "report", *options, "--data-dir", str(data_dir)], rounds)
            theirs_ms = _median_ms(["-c", _YARDSTICK, str(database), statements], rounds)
            how = f"`costd report {' '.join(options)}` over {over}; yardstick: its SQL in sqlite3, start included"
            yield Line(
                f"report-5m{name}-{series}", ours_ms, "ms", theirs_ms, f"≤ {GOAL_MS} ms", ours_ms <= GOAL_MS, how
            )
    alone_ms = _median_ms(["-m", "costd", "report", *QUESTIONS[""][0], "--data-dir", str(data_dir)], rounds)
    how = f"the same over {over} where no daemon runs: the command opens the ledger itself"
    yield Line(f"report-5m-alone-{series}", alone_ms, "ms", None, "", None, how)


def _median_ms(arguments: list[str], rounds: int) -> float:
    """The time of a process from its start to its end."""
    times = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        subprocess.run(python(LOAD_CORE, *arguments), stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - started_s) * 1000)
    return median(times)


def _statements(path: Path, question: dict[str, Any]) -> list[str]:
    """The SQL that a report makes of a question."""
    noting: Any = Noting(path)
    caller = Caller(1, "", "bench", frozenset({"read"}))
    Reports(noting, noting, Clock()).summarize(caller, **({"by": ("provider", "model")} | question))
    return list(noting.statements)
