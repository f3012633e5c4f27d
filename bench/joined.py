"""Rows of what joining a hub costs a sidecar: memory, time to start while the hub is away, and records one by one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from statistics import median

from bench.doors import CONNECTIONS
from bench.footprint import MIB, SETTLE_S, first_answer_s
from bench.load import Job
from bench.plan import Plan
from bench.processes import Daemon, daemon, drive
from bench.report import Line
from bench.road import free_port, join_flags, road
from bench.tally import Load

START_S = 1.0


def memory(plan: Plan) -> list[Line]:
    """Resident memory of a sidecar that nobody calls: joined to a hub, and without one."""
    rounds = min(plan.rounds, 3)
    alone, ours = [], []
    for number in range(rounds):
        with daemon(plan.folder / f"joined-alone-{number}") as running:
            time.sleep(SETTLE_S)
            alone.append(running.resident_bytes() / MIB)
        with road(plan.folder / f"joined-memory-{number}") as joined, joined.hub():
            joined.wait_until_connected()
            time.sleep(SETTLE_S)
            ours.append(joined.sidecar.resident_bytes() / MIB)
    how = f"resident memory {SETTLE_S:g} s after it is connected, before any call; yardstick: a sidecar without a hub"
    megabytes = median(ours) * MIB / 1e6
    return [Line("joined-memory", median(ours), "MiB", median(alone), "", None, f"{how}; {megabytes:.1f} MB")]


def start(plan: Plan) -> list[Line]:
    """From the start of the process to the first record acknowledged, while the hub is out of reach."""
    alone, away = [], []
    folder = plan.folder / "joined-start"
    folder.mkdir()
    flags = join_flags(folder, free_port(), "x" * 51)
    for number in range(plan.starts):
        for times, name, joining in ((alone, "alone", ()), (away, "away", flags)):
            data_dir = folder / f"{name}-{number}"
            times.append(first_answer_s(data_dir, *joining))
            shutil.rmtree(data_dir)
    how = "from exec to the acknowledgement of a record, nobody at the hub's address; yardstick: without a hub"
    return [Line("joined-start", median(away), "s", median(alone), "≤ 1 s", median(away) <= START_S, how)]


def records(plan: Plan) -> list[Line]:
    """POST /v1/usage/record at a sidecar whose hub takes over every record at once, and at one without a hub."""
    with daemon(plan.folder / "joined-alone") as alone, road(plan.folder / "joined") as joined, joined.hub():
        joined.wait_until_connected()
        ours, theirs = [], []
        for seconds in (plan.seconds / 4, *[plan.seconds] * plan.rounds):
            gap = joined.gap()
            ours.append(_records(joined.sidecar, seconds))
            joined.settle(gap)
            theirs.append(_records(alone, seconds))
    return list(_lines(ours[1:], theirs[1:]))


def _records(running: Daemon, seconds: float) -> Load:
    job = Job("http-record", running.http_port, CONNECTIONS, 1, seconds, running.key)
    return drive(job, running.process.pid)


def _lines(ours: list[Load], theirs: list[Load]) -> Iterator[Line]:
    rate = median(load.rate for load in ours)
    share = median(mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True))
    how = f"{CONNECTIONS} connections, flat out, the hub beside the load; yardstick: a sidecar without a hub"
    yield Line("joined-record", rate, "/s", rate / share, "", None, how)
    p99_ms, their_p99_ms = median(load.p99_ms for load in ours), median(load.p99_ms for load in theirs)
    yield Line("joined-record-p99", p99_ms, "ms", their_p99_ms, "", None, "p99 of the same runs")
    cpu_us, their_cpu_us = median(load.cpu_us for load in ours), median(load.cpu_us for load in theirs)
    yield Line("joined-record-cpu", cpu_us, "µs", their_cpu_us, "", None, "the sidecar's processor time for each call")
