"""Rows of the reports: each over HTTP on a ledger of a million records, against the same SQL in plain sqlite3.

The ledger is written straight into the tables, events and the rollups they add up to, as the writer would have; the
daemon that opens it does the upkeep that is due, and is asked when that is done. The yardstick runs as a process of
its own on the server's core (`python -m bench.reads DATABASE ROUNDS`): it has the services answer the same questions
with a connection that notes every statement, and measures those statements alone.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from bench.plan import Plan
from bench.processes import SERVER_CORE, Daemon, cpu_s, daemon, python
from bench.report import Line
from costd.clock import Clock
from costd.domain import days
from costd.domain.access import Caller
from costd.domain.days import HOUR_MS, Span
from costd.domain.ids import new_commit_id
from costd.domain.series import Series
from costd.services.spending import Spending
from costd.services.usage_log import UsageLog
from costd.store import event_blocks
from costd.store.connection import DATABASE_NAME, open_database
from costd.store.totals import OPEN_HOURS

RECORDS = 1_000_000
DAYS = 34
COMMIT = 1_000
#: How long a report may take, by how many series there are; and how many times its SQL alone.
GOALS_MS = {57: 50, 10_000: 250}
MAX_RATIO = 1.5
#: Below this a request's own way there and back is most of it, and a ratio says nothing of the report.
FLOOR_MS = 5.0
UPKEEP_TIMEOUT_S = 300.0
#: A model of few records, all of them long ago.
RARE = "rare-model"
_KOLKATA = "Asia/Kolkata"
_READER = Caller(1, "", "bench", frozenset({"read"}))
_PROVIDERS = ("openai", "anthropic", "google")

#: What is asked over HTTP, and the same question to the services.
Question = Callable[[Spending, UsageLog], object]


def reads(plan: Plan) -> list[Line]:
    """How long every report takes, over few and over many series."""
    records = RECORDS if plan.rounds > 2 else RECORDS // 10
    return [line for series in GOALS_MS for line in _measure(plan, series, records)]


def _measure(plan: Plan, series: int, records: int) -> Iterator[Line]:
    data_dir = plan.folder / f"reads-{series}"
    data_dir.mkdir()
    build(data_dir / DATABASE_NAME, series, records, Clock().now_ms())
    rounds = plan.rounds * 2
    with daemon(data_dir) as running:
        wait_for_upkeep(data_dir / DATABASE_NAME, records)
        ours = {name: _over_http(running, path, rounds) for name, (path, _) in questions().items()}
    done = subprocess.run(
        python(SERVER_CORE, "-m", "bench.reads", str(data_dir / DATABASE_NAME), str(rounds)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    alone: dict[str, float] = json.loads(done.stdout)
    goal_ms = GOALS_MS[series]
    for name, (ms, cpu_ms) in ours.items():
        sql_ms = alone[name] or None  # what is answered from memory has none
        is_met = ms <= goal_ms and (ms <= FLOOR_MS or (sql_ms is not None and ms <= MAX_RATIO * sql_ms))
        how = (
            f"{questions()[name][0]} over {records:,} records in {series:,} series ({cpu_ms:.1f} ms of the server's "
            "processor time); yardstick: its SQL in sqlite3"
        )
        goal = f"≤ {goal_ms} ms, ≤ {MAX_RATIO:g} past {FLOOR_MS:g} ms"
        yield Line(f"read-{name}-{series}", ms, "ms", sql_ms, goal, is_met, how)


def questions() -> dict[str, tuple[str, Question]]:
    """Every report: its path and query, and the call of the services behind it."""
    today = datetime.now(UTC).date()
    first = today - timedelta(days=DAYS)
    whole = days.days_span(first, today, UTC)
    indian = days.days_span(first, today, ZoneInfo(_KOLKATA))
    week = first + timedelta(days=7), first + timedelta(days=14)
    week_span = days.days_span(*week, ZoneInfo(_KOLKATA))
    month = today.replace(day=1)
    rare = {"model": (RARE,)}
    return {
        "stats": ("/api/tokens/stats", lambda s, _: s.month_stats(_READER, "", UTC)),
        "timeseries": _days_question(first, today, "UTC"),
        "timeseries-new-york": _days_question(first, today, "America/New_York"),
        "timeseries-kolkata": _days_question(first, today, _KOLKATA),
        "burn-rate": ("/api/tokens/burn-rate", lambda s, _: s.burn_rate(_READER, 24, "")),
        "burn-rate-week": (_path("tokens/burn-rate", hours=168), lambda s, _: s.burn_rate(_READER, 168, "")),
        "status": ("/api/status", lambda s, _: None),
        "tokens": (
            _path("tokens", billingStartDate=first, billingEndDate=today),
            lambda s, _: s.period(_READER, ("provider", "model"), first, today, whole, {}),
        ),
        "costs-all": (
            "/api/costs/all",
            lambda s, _: [_month(s, month), _month(s, (month - timedelta(days=1)).replace(day=1))],
        ),
        "usage": ("/api/usage", lambda _, log: log.page(_READER, Span(), {}, "", 20)),
        "usage-rare": (_path("usage", model=RARE), lambda _, log: log.page(_READER, Span(), rare, "", 20)),
        "usage-week": (
            _path("usage", **{"from": week[0], "to": week[1], "timezone": _KOLKATA, "limit": 100}),
            lambda _, log: log.page(_READER, week_span, {}, "", 100),
        ),
        "summary": ("/api/usage/summary", lambda s, _: s.summary(_READER, Span(), UTC, {})),
        "summary-kolkata": (
            _path("usage/summary", timezone=_KOLKATA),
            lambda s, _: s.summary(_READER, Span(), ZoneInfo(_KOLKATA), {}),
        ),
        "monthly": (
            _path("aggregations/monthly", start=first, end=today),
            lambda s, _: s.period(_READER, (), first, today, whole, {}),
        ),
        **{
            f"by-{name}": (_path(f"aggregations/by-{name}", start=first, end=today), _by(dimension, whole))
            for name, dimension in (("prompt", "prompt_key"), ("tag", "tags"), ("key", "key_id"))
        },
        "by-team": (_path("aggregations/by-team", start=first, end=today), lambda s, _: s.by_team(_READER, whole, {})),
        "by-prompt-kolkata": (
            _path("aggregations/by-prompt", start=first, end=today, timezone=_KOLKATA),
            _by("prompt_key", indian),
        ),
        "by-prompt-provider": (
            _path("aggregations/by-prompt", start=first, end=today, provider="openai"),
            _by("prompt_key", whole, {"provider": ("openai",)}),
        ),
    }  # fmt: skip


def _days_question(first: date, last: date, zone: str) -> tuple[str, Question]:
    path = _path("tokens/timeseries", startDate=first, endDate=last, timezone=zone)
    return path, lambda s, _: s.daily(_READER, first, last, ZoneInfo(zone), {})


def _by(dimension: str, span: Span, filters: dict[str, tuple[str, ...]] | None = None) -> Question:
    return lambda s, _: s.by(_READER, (dimension,), span, filters or {})


def _month(spending: Spending, first: date) -> object:
    last = days.last_day(first.year, first.month)
    return spending.period(_READER, ("provider", "model"), first, last, days.days_span(first, last, UTC), {})


def _path(name: str, **query: object) -> str:
    return f"/api/{name}?{urlencode(query)}"


def _over_http(running: Daemon, path: str, rounds: int) -> tuple[float, float]:
    """The median time of an answer on one connection, and the server's processor time for each, in milliseconds."""
    connection = HTTPConnection("127.0.0.1", running.http_port)
    times = []
    used_s = cpu_s(running.process.pid)
    for _ in range(rounds):
        started_s = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {running.key}"})
        response = connection.getresponse()
        body = response.read()
        times.append((time.perf_counter() - started_s) * 1000)
        if response.status != 200:
            raise RuntimeError(body.decode())
    connection.close()
    return median(times), (cpu_s(running.process.pid) - used_s) * 1000 / rounds


def wait_for_upkeep(path: Path, records: int) -> None:
    """Wait until the daemon has folded what has passed and made the blocks that are due."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    deadline_s = time.monotonic() + UPKEEP_TIMEOUT_S
    due = records // event_blocks.BLOCK_EVENTS
    while True:
        blocks, folded = connection.execute(
            "SELECT (SELECT count(*) FROM event_block), totalled_hour FROM ledger_state"
        ).fetchone()
        if blocks >= due and folded >= Clock().now_ms() // HOUR_MS - OPEN_HOURS:
            break
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"upkeep is not done: {blocks} of {due} blocks, folded up to hour {folded}")
        time.sleep(0.2)
    connection.close()


# -- the ledger --------------------------------------------------------------------------------------------------------


def build(path: Path, series: int, records: int, now_ms: int, span_days: int = DAYS) -> None:
    """A ledger of so many records over the last days, evenly over time and at random over the series."""
    connection = open_database(path, now_ms)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    _insert_series(connection, series)
    start_ms = now_ms - span_days * days.DAY_MS
    step_ms = span_days * days.DAY_MS / records
    connection.executemany(
        "INSERT INTO event VALUES (?, ?, NULL, ?, ?, ?, ?, 0, 0, ?, NULL, ?, NULL)",
        _events(series, records, start_ms, step_ms),
    )
    connection.executemany(
        "INSERT INTO ledger_commit VALUES (?, ?, ?, ?)",
        (
            (first, new_commit_id(at_ms).to_bytes(16, "big"), at_ms, min(COMMIT, records - first + 1))
            for first in range(1, records + 1, COMMIT)
            for at_ms in (int(start_ms + (first + COMMIT) * step_ms),)
        ),
    )
    connection.execute(_ROLL_UP)
    for statement in _CATALOG:
        connection.execute(statement)
    connection.executemany("INSERT INTO provider_freshness VALUES (1, ?, ?)", [(name, now_ms) for name in _PROVIDERS])
    connection.execute("COMMIT")
    connection.close()


def _insert_series(connection: sqlite3.Connection, count: int) -> None:
    fields = Series._fields
    marks = ", ".join("?" * (len(fields) + 2))
    made = [_series(number, count) for number in range(count)]
    connection.executemany(
        f"INSERT INTO series (id, digest, {', '.join(fields)}) VALUES ({marks})",
        [
            (number + 1, blake2b(repr(tuple(one)).encode(), digest_size=16).digest(), *one)
            for number, one in enumerate(made)
        ],
    )


def _series(number: int, count: int) -> Series:
    return Series(
        org_id=1,
        key_id=f"key-{number % 12}",
        source_app=f"app-{number % 9}",
        workspace="",
        team=f"team-{number % 14}" if number % 5 else "",
        project=f"project-{number % 30}",
        product="",
        user=f"user-{number % 700}",
        provider=_PROVIDERS[number % 3],
        model=RARE if number == count - 1 else f"model-{number % 40}",
        prompt_key=f"prompt-{number % 50}" if number % 4 else "",
        prompt_version=str(number),
        tags=f"tag-{number % 7},tag-{7 + number % 4}" if number % 2 else "",
        endpoint="chat/completions",
        status="success",
    )


def _events(series: int, records: int, start_ms: int, step_ms: float) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(11)
    for number in range(records):
        # The last series has three records, at the very beginning.
        mine = series if number < 3 else 1 + chance.randrange(series - 1)
        input_, output = 200 + number % 11_000, 20 + number % 2_300
        cost = None if number % 97 == 0 else input_ * 2_500 + output * 10_000
        cached = input_ // 2 if number % 3 == 0 else 0
        yield number + 1, int(start_ms + number * step_ms), mine, input_, output, cached, cost, 200 + number % 8_000


_ROLL_UP = """
INSERT INTO rollup SELECT at_ms / 3600000, series_id, count(*), 0, sum(input_tokens), sum(output_tokens),
  sum(cache_read_tokens), 0, 0, sum(coalesce(cost_nano, 0)) / 1000000000, sum(coalesce(cost_nano, 0)) % 1000000000,
  sum(cost_nano IS NULL), 0, sum(latency_ms), count(latency_ms) FROM event GROUP BY 1, 2
"""


#: Everybody is in the catalog; a tenth of the projects and every user are assigned, for the series that name no team.
_CATALOG = (
    """
    INSERT INTO catalog_project (org_id, source_app, external_id, team_id, registered, created_ms, updated_ms, seq)
    SELECT DISTINCT 1, source_app, project, CASE WHEN project LIKE '%3' THEN 'team-x' END, 1, 0, 0, 0 FROM series
    """,
    """
    INSERT INTO catalog_user (org_id, source_app, external_id, team_id, created_ms, updated_ms, seq)
    SELECT DISTINCT 1, source_app, user, 'team-y', 0, 0, 0 FROM series
    """,
    "INSERT INTO catalog_team SELECT DISTINCT 1, team, 'Team ' || team, 'retail', 0, 0, 0 FROM series WHERE team != ''",
)


# -- the yardstick -----------------------------------------------------------------------------------------------------


class Noting:
    """Stands in for the readers, and notes what they are asked."""

    def __init__(self, path: Path) -> None:
        self.statements: list[str] = []
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        self._connection.set_trace_callback(self.statements.append)
        try:
            yield self._connection
        finally:
            self._connection.set_trace_callback(None)


def yardsticks(path: Path, rounds: int) -> dict[str, float]:
    """The median time of each report's SQL, in milliseconds."""
    plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = {}
    for name, (_, question) in questions().items():
        noting: Any = Noting(path)
        question(Spending(noting, Clock(), str), UsageLog(noting))
        times = [0.0] if not noting.statements else []
        for _ in range(rounds if noting.statements else 0):
            started_s = time.perf_counter()
            for statement in noting.statements:
                plain.execute(statement).fetchall()
            times.append((time.perf_counter() - started_s) * 1000)
        found[name] = median(times)
    return found


if __name__ == "__main__":
    print(json.dumps(yardsticks(Path(sys.argv[1]), int(sys.argv[2]))))
