"""Rows of what the daemon takes: memory, time to start, and bytes of disk for each record."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from bench import traffic
from bench.doors import CONNECTIONS
from bench.load import Job
from bench.plan import Plan
from bench.processes import (
    Daemon,
    daemon,
    drive,
    post,
    resident_bytes,
    spawn_daemon,
    wait_for_daemon,
    yardstick,
)
from bench.report import Line

MIB = 1024 * 1024
SETTLE_S = 3.0
_BATCH = 500


def memory(plan: Plan) -> list[Line]:
    """Resident memory after the start, before any call, and after load."""
    with yardstick("libraries") as (_, pid):
        libraries = resident_bytes(pid) / MIB
    with daemon(plan.folder / "memory") as running:
        time.sleep(SETTLE_S)
        idle = running.resident_bytes() / MIB
        for kind, port, callers in (
            ("http-record", running.http_port, (CONNECTIONS, 1)),
            ("grpc-record", running.grpc_port, (8, 8)),
        ):
            drive(Job(kind, port, *callers, plan.seconds, running.key), running.process.pid)
        time.sleep(SETTLE_S)
        loaded = running.resident_bytes() / MIB
    how = f"resident memory {SETTLE_S:g} s after the start; yardstick: a process that imported the same libraries"
    return [
        Line("memory-idle", idle, "MiB", libraries, "≤ 72 MB", idle * MIB <= 72e6, f"{how}; {idle * MIB / 1e6:.1f} MB"),
        Line("memory-loaded", loaded, "MiB", libraries, "", None, "the same after load on both doors"),
    ]


def start(plan: Plan) -> list[Line]:
    """From the start of the process to the first record acknowledged: in an empty folder, and again."""
    first, again, imports = [], [], []
    for number in range(plan.starts):
        data_dir = plan.folder / f"start-{number}"
        first.append(first_answer_s(data_dir))
        again.append(first_answer_s(data_dir))
        imports.append(_imports_s())
        shutil.rmtree(data_dir)
    how = "from exec to the acknowledgement of a record; yardstick: a process that imports the same libraries"
    yardstick_s = median(imports)
    return [
        Line("start-first", median(first), "s", yardstick_s, "≤ 1 s", median(first) <= 1, f"{how}; a new data folder"),
        Line("start-again", median(again), "s", yardstick_s, "≤ 1 s", median(again) <= 1, f"{how}; a used data folder"),
    ]


def first_answer_s(data_dir: Path, *flags: str) -> float:
    """The seconds from exec to the acknowledgement of a record."""
    started_s = time.perf_counter()
    process = spawn_daemon(data_dir, *flags)
    try:
        running = wait_for_daemon(process, data_dir)
        requests = traffic.http_requests("/v1/usage/record", traffic.record_bodies(), running.key)
        answer = post(running.http_port, next(requests))
        elapsed_s = time.perf_counter() - started_s
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        running.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return elapsed_s


def _imports_s() -> float:
    started_s = time.perf_counter()
    with yardstick("libraries"):
        return time.perf_counter() - started_s


def disk(plan: Plan) -> list[Line]:
    """Bytes of database for each record: sent one by one, with ids, and in batches."""
    return [
        _bytes_line(plan, "disk-single", f"one by one over {CONNECTIONS} connections", 80, _send_single),
        _bytes_line(plan, "disk-batch", f"in POST /v1/usage/records of {_BATCH}", 80, _send_batches),
        _bytes_line(plan, "disk-ids", "one by one, each with a UUIDv7 as its request id", 0, _send_with_ids),
        _bytes_line(plan, "disk-random", "one by one, each with a random UUID", 0, _send_with_random_ids),
    ]


def _bytes_line(plan: Plan, name: str, how: str, goal: int, send: object) -> Line:
    assert callable(send)
    data_dir = plan.folder / name
    with daemon(data_dir) as running:
        for request in _each_series_once(running.key):
            post(running.http_port, request)
    before = _database(data_dir)
    with daemon(data_dir) as running:
        send(plan, running)
    after = _database(data_dir)
    records = after[1] - before[1]
    each = (after[0] - before[0]) / records
    shutil.rmtree(data_dir)
    text = f"growth of the database file for {records:,} records of {traffic.SERIES} series, {how}"
    return Line(name, each, "B", None, f"≤ {goal} B" if goal else "", each <= goal if goal else None, text)


def _database(data_dir: Path) -> tuple[int, int]:
    """The size of the file after a clean stop, when the log is folded into it, and the events in it."""
    path = data_dir / "costd.db"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return path.stat().st_size, connection.execute("SELECT count(*) FROM event").fetchone()[0]
    finally:
        connection.close()


def _each_series_once(key: str) -> list[bytes]:
    bodies = traffic.record_bodies()[: traffic.SERIES]
    return list(islice(traffic.http_requests("/v1/usage/record", bodies, key), len(bodies)))


def _send_single(plan: Plan, running: Daemon) -> None:
    _send(plan, running, "http-record")


def _send_with_ids(plan: Plan, running: Daemon) -> None:
    _send(plan, running, "http-record-ids")


def _send_with_random_ids(plan: Plan, running: Daemon) -> None:
    _send(plan, running, "http-record-random")


def _send(plan: Plan, running: Daemon, kind: str) -> None:
    drive(Job(kind, running.http_port, CONNECTIONS, 1, _seconds_for(plan), running.key), running.process.pid)


def _seconds_for(plan: Plan) -> float:
    # At the goal's rate; what matters is only that there are many.
    return plan.records / 8_000


def _send_batches(plan: Plan, running: Daemon) -> None:
    bodies = cycle(traffic.record_bodies())
    headers = {"Authorization": f"Bearer {running.key}", "Content-Type": "application/json"}
    connection = HTTPConnection("127.0.0.1", running.http_port)
    for _ in range(plan.records // _BATCH):
        connection.request("POST", "/v1/usage/records", json.dumps(list(islice(bodies, _BATCH))), headers)
        answer = json.loads(connection.getresponse().read())
        if answer["recorded"] != _BATCH:
            raise RuntimeError(answer)
    connection.close()
