"""Rows of forwarding: how fast a hub takes over what a sidecar has gathered without it, alone and beside new records.

The sidecar has a core and the hub the other; loads that go on meanwhile share one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from statistics import median

from bench.batches import load_rate, send_batches
from bench.load import Job
from bench.plan import Plan
from bench.processes import LOAD_CORE, SERVER_CORE, cpu_s, drive
from bench.report import Line
from bench.road import Road, Sight, flushing, road
from bench.tally import Load

RECORDS = 1_000_000
ROUNDS = 3
GOAL, SHARE = 100_000, 0.6
#: New records a second while the hub catches up: of a busy host, well within what a sidecar takes one by one.
PACE = 2_000
CONNECTIONS = 64
P99_MS = 25
MIB = 1024 * 1024

#: row → (kind of batches, what they are)
KINDS = {
    "forward": ("batch", "records that came in batches with an id each, 57 series"),
    "forward-ids": ("batch-uuid7", "records with a UUIDv7 each as request id, 57 series"),
}


def row(name: str) -> Callable[[Plan], list[Line]]:
    """The row that measures one kind of records."""
    return lambda plan: list(_forward(plan, name))


def _forward(plan: Plan, name: str) -> Iterator[Line]:
    kind, what = KINDS[name]
    records, rounds = (RECORDS, ROUNDS) if plan.rounds > 2 else (plan.records, 1)
    rates, bare, cpu_us = [], [], []
    # The hub is on the server's core: the load of its yardstick is on the sidecar's, which is idle by then.
    with road(plan.folder / name, sidecar_core=LOAD_CORE) as ours:
        for _ in range(rounds):
            gap = ours.gap()
            sent = send_batches(ours.sidecar.grpc_port, ours.sidecar.key, records, kind)
            with ours.hub() as hub:
                ends = ours.sidecar, hub
                used_s = [cpu_s(end.process.pid) for end in ends]
                rates.append(_rate(ours.drain(sent)))
                cpu_us.append(
                    [(cpu_s(end.process.pid) - used) * 1e6 / sent for end, used in zip(ends, used_s, strict=True)]
                )
                ours.settle(gap)
                memory = [end.resident_bytes() / MIB for end in ends]
                bare.append(load_rate(kind, hub.grpc_port, plan.seconds, hub.key))
    rate, share = median(rates), median(mine / other for mine, other in zip(rates, bare, strict=True))
    how = (
        f"{sent:,} {what}, gathered while the hub was away: from the first on the hub's disk to the last; {rounds} "
        f"times, {min(rates):,.0f} to {max(rates):,.0f}; yardstick: RecordBatch of such records straight to the hub"
    )
    is_met = rate >= GOAL and share >= SHARE
    yield Line(name, rate, "records/s", rate / share, f"≥ {GOAL:,}/s and ≥ {SHARE}", is_met, how)
    for at, (end, whose) in enumerate((("", "the sidecar's"), ("-hub", "the hub's"))):
        used_us = median(each[at] for each in cpu_us)
        yield Line(f"{name}-cpu{end}", used_us, "µs", None, "", None, f"{whose} processor time for each record")
        yield Line(f"{name}-memory{end}", memory[at], "MiB", None, "", None, f"{whose} resident memory after the last")


def while_recording(plan: Plan) -> list[Line]:
    """Catching up while new records come, first at a host's pace and then as fast as they are answered."""
    return [*_beside(plan, "paced", PACE), *_beside(plan, "flat-out", 0)]


def _beside(plan: Plan, name: str, pace: float) -> Iterator[Line]:
    records, rounds = (RECORDS, ROUNDS) if plan.rounds > 2 else (plan.records * 15, 1)
    caught_up, beside, alone = [], [], []
    with road(plan.folder / f"forward-{name}", sidecar_core=SERVER_CORE) as ours:
        job = Job("http-record", ours.sidecar.http_port, CONNECTIONS, 1, plan.seconds, ours.sidecar.key, pace)
        for _ in range(rounds):
            gap = ours.gap()
            alone.append(drive(job, ours.sidecar.process.pid))
            send_batches(ours.sidecar.grpc_port, ours.sidecar.key, records)
            with ours.hub():
                rate, load = _at_once(ours, job, records)
                caught_up.append(rate)
                beside.append(load)
                ours.settle(gap)
    during = f"over {CONNECTIONS} connections" + (f", {pace:,.0f} a second by a timetable" if pace else ", flat out")
    catching = f"records a second that the hub takes over meanwhile, out of {records:,} gathered before"
    rate, goal = median(caught_up), GOAL if pace else 0
    yield Line(
        f"forward-{name}", rate, "records/s", None, f"≥ {goal:,}/s" if goal else "", rate >= goal if goal else None,
        f"{catching}, while new ones come one by one {during}",
    )  # fmt: skip
    recorded = median(load.rate for load in beside), median(load.rate for load in alone)
    yield Line(f"forward-{name}-recorded", recorded[0], "/s", recorded[1], "", None, "those; yardstick: hub away")
    p99_ms = median(load.p99_ms for load in beside), median(load.p99_ms for load in alone)
    goal_text, is_met = (f"≤ {P99_MS} ms", p99_ms[0] <= P99_MS) if pace else ("", None)
    yield Line(f"forward-{name}-p99", p99_ms[0], "ms", p99_ms[1], goal_text, is_met, "their p99; yardstick: hub away")


def _at_once(ours: Road, job: Job, waiting: int) -> tuple[float, Load]:
    """The rate of forwarding while a load goes on, and what came of the load.

    RuntimeError where the hub had caught up before the load was over: then there was nothing to be seen.
    """
    loads: list[Load] = []
    thread = threading.Thread(target=lambda: loads.append(drive(job, ours.sidecar.process.pid)))
    before = ours.sight()
    with flushing(ours.sidecar):
        ours.wait_for(lambda: ours.sight().records > before.records)
        thread.start()
        first = ours.sight()
        thread.join()
        last = ours.sight()
    if not loads or last.records - before.records >= waiting:
        raise RuntimeError("there was no load while the hub caught up")
    return _rate([first, last]), loads[0]


def _rate(sights: list[Sight]) -> float:
    """Records a second between the first and the last sight."""
    first, last = sights[0], sights[-1]
    return (last.records - first.records) / (last.at_s - first.at_s)
