"""Row of the store alone: the writer against bare SQLite, for looking ahead to batches and streams.

Run as a process of its own (`python -m bench.ledger FOLDER SECONDS`), on the server's core; prints JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from bench import traffic
from bench.plan import Plan
from bench.processes import SERVER_CORE, python
from bench.report import Line
from costd.clock import Clock
from costd.domain.rollup import ROLLUP_AMOUNTS
from costd.domain.series import Series
from costd.metrics import Metrics
from costd.store.connection import connect
from costd.store.ledger import EventDraft
from costd.store.space import DiskReserve
from costd.store.writer import Writer

GROUP = 1_000


def store(plan: Plan) -> list[Line]:
    """Records per second through the writer, in groups of GROUP, and straight into SQLite."""
    ours, bare = [], []
    for number in range(plan.rounds):
        folder = plan.folder / f"store-{number}"
        folder.mkdir()
        done = subprocess.run(
            python(SERVER_CORE, "-m", "bench.ledger", str(folder), str(plan.seconds)),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout)
        ours.append(figures["writer"])
        bare.append(figures["bare"])
    how = (
        f"the writer's thread fed {GROUP:,} drafts at a time; yardstick: executemany of the same rows and rollups, "
        "made beforehand, in transactions of the same size and as durable"
    )
    return [Line("store", median(ours), "/s", median(bare), "", None, how)]


def drafts() -> Iterator[EventDraft]:
    """The traffic as the services hand it to the writer, without end."""
    now_ms = Clock().now_ms()
    chance = random.Random(1)
    return cycle([_draft(sample, now_ms, chance) for sample in traffic.samples()])


def _draft(sample: traffic.Sample, now_ms: int, chance: random.Random) -> EventDraft:
    series = Series(
        1, "key", sample.source_app, "", sample.team, sample.project, "", sample.user, sample.provider, sample.model,
        "", "", "", sample.endpoint, sample.status,
    )  # fmt: skip
    count = sample.units.get
    tokens = (count("input_tokens", 0), count("output_tokens", 0), count("cache_read_tokens", 0), 0, 0)
    cost_nano = chance.randint(10_000, 90_000_000)
    return EventDraft(
        series, now_ms, None, *tokens, cost_nano, 1, sample.latency_ms, None, (), unrated=False, request_id="",
        fingerprint=b"", door="bench",
    )  # fmt: skip


def _rate_of_writer(folder: Path, seconds: float) -> float:
    path = folder / "writer.db"
    writer = Writer(
        path,
        Clock(),
        Metrics(("source_app", "team", "project", "provider", "model", "status"), 2_000),
        max_records=1 << 20,
        max_bytes=1 << 40,
        reserve=DiskReserve(folder, 1 << 20),
    )
    writer.start()
    source = drafts()

    def step() -> None:
        tickets = [writer.submit_event(draft, _same) for draft in islice(source, GROUP)]
        for ticket in tickets:
            ticket.wait()

    rate = _rate(step, seconds)
    writer.stop(10)
    return rate


def _same(outcome: Any) -> Any:
    return outcome


def _rate_of_bare_sqlite(folder: Path, seconds: float) -> float:
    """Into the schema that the writer has just made, emptied."""
    path = folder / "writer.db"
    connection = connect(path)
    connection.executescript("DELETE FROM event; DELETE FROM rollup; VACUUM")
    rows, sums = _rows_and_sums()
    first_seq = 1

    def step() -> None:
        nonlocal first_seq
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_EVENT, [(first_seq + at, *row) for at, row in enumerate(rows)])
        connection.executemany(_ROLLUP, sums)
        connection.execute("COMMIT")
        first_seq += GROUP

    rate = _rate(step, seconds)
    connection.close()
    return rate


def _rows_and_sums() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    numbers: dict[Series, int] = {}
    sums: dict[int, list[int]] = {}
    rows = []
    for draft in islice(drafts(), GROUP):
        series_id = numbers.setdefault(draft.series, len(numbers) + 1)
        rows.append((draft.at_ms, None, series_id, *draft[3:12]))
        held = sums.setdefault(series_id, [0] * 13)
        for at, amount in enumerate((1, 0, *draft[3:8], 0, draft.cost_nano or 0, 0, 0, draft.latency_ms or 0, 1)):
            held[at] += amount
    hour = Clock().now_ms() // 3_600_000
    return rows, [(hour, series_id, *amounts) for series_id, amounts in sums.items()]


def _rate(step: Callable[[], None], seconds: float) -> float:
    step()
    steps, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        step()
        steps += 1
    return steps * GROUP / (time.perf_counter() - started_s)


_EVENT = f"INSERT INTO event VALUES ({', '.join('?' * 13)})"
_AMOUNTS = (*ROLLUP_AMOUNTS[:7], "cost_usd", *ROLLUP_AMOUNTS[7:])
_ROLLUP = (
    f"INSERT INTO rollup (hour, series_id, {', '.join(_AMOUNTS)}) VALUES ({', '.join('?' * 15)}) ON CONFLICT DO UPDATE "
    f"SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _AMOUNTS)}"
)


def main() -> None:
    """Measure both and print them."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    print(json.dumps({"writer": _rate_of_writer(folder, seconds), "bare": _rate_of_bare_sqlite(folder, seconds)}))


if __name__ == "__main__":
    main()
