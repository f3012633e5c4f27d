"""Rows of the two doors: calls per second and how long they take, against empty servers of the same framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from statistics import median

from bench.disk import fdatasync_ms
from bench.load import Job
from bench.plan import Plan
from bench.processes import Daemon, daemon, drive, yardstick
from bench.report import Line
from bench.tally import Load

CONNECTIONS = 64
#: 64 callers over gRPC as eight processes of eight threads: calls of one channel share its connection.
CHANNELS = 8
_FDATASYNCS = 200
#: The share of the goal for one record on its own that is not the disk's.
ALONE_FSYNCS, ALONE_MS = 3, 0.5

#: A server to be measured: its name, its port, and how to make it.
_Drive = Callable[[float], Load]
#: Starts the daemon to be measured.
Serve = Callable[[], AbstractContextManager[Daemon]]


@dataclass(frozen=True)
class Goal:
    """What a row has to reach: calls per second, and the share of the yardstick's."""

    rate: float
    share: float = 0.0
    p99_ms: float = 0.0


def http_load(plan: Plan) -> list[Line]:
    """The ceiling of the HTTP load generator, so that it is seen not to be what is measured."""
    return [_ceiling(plan, "http-load", "http-canned", "http-record", (CONNECTIONS, 1))]


def grpc_load(plan: Plan) -> list[Line]:
    """The ceiling of the gRPC load generator."""
    return [_ceiling(plan, "grpc-load", "grpc-canned", "grpc-record", (CHANNELS, CONNECTIONS // CHANNELS))]


def _ceiling(plan: Plan, name: str, server: str, kind: str, callers: tuple[int, int]) -> Line:
    with yardstick(server) as (port, pid):
        load = drive(Job(kind, port, *callers, plan.seconds, "x" * 51), pid)
    how = "the load generator against a socket that answers without reading: what is measured must stay well below"
    return Line(name, load.rate, "/s", None, "", None, how)


def http_record(plan: Plan) -> list[Line]:
    """POST /v1/usage/record, without request ids."""
    return _http(plan, "http-record", Goal(8_000, 0.4, 25))


def http_record_ids(plan: Plan) -> list[Line]:
    """The same, each record with a UUIDv7 of its own, as a preflight issues them."""
    return _http(plan, "http-record-ids", Goal(8_000, p99_ms=25))


def http_record_random(plan: Plan) -> list[Line]:
    """The same, each record with a random UUID: every one lands somewhere else in the index of ids."""
    return _http(plan, "http-record-random", Goal(0))


def http_preflight(plan: Plan) -> list[Line]:
    """POST /v1/preflight."""
    return _http(plan, "http-preflight", Goal(8_000))


def _http(plan: Plan, kind: str, goal: Goal) -> list[Line]:
    return beside_aiohttp(plan, kind, kind, goal, lambda: daemon(plan.folder / kind))


def beside_aiohttp(plan: Plan, name: str, kind: str, goal: Goal, serve: Serve) -> list[Line]:
    """A load of this kind on a daemon, and on an empty handler of aiohttp's."""
    with ExitStack() as stack:
        running = stack.enter_context(serve())
        port, pid = stack.enter_context(yardstick("aiohttp-empty"))
        callers = (CONNECTIONS, 1)
        ours, theirs = _in_turn(
            plan,
            lambda seconds: drive(Job(kind, running.http_port, *callers, seconds, running.key), running.process.pid),
            lambda seconds: drive(Job(kind, port, *callers, seconds, running.key), pid),
        )
    against = f"{CONNECTIONS} connections; yardstick: an empty aiohttp handler on uvloop under the same load"
    return list(_lines(name, ours, theirs, goal, against))


def grpc_preflight(plan: Plan) -> list[Line]:
    """UsageService.Preflight."""
    return _grpc(plan, "grpc-preflight", Goal(0, 0.65))


def grpc_record(plan: Plan) -> list[Line]:
    """UsageService.Record, without request ids."""
    return _grpc(plan, "grpc-record", Goal(2_000))


def grpc_record_ids(plan: Plan) -> list[Line]:
    """The same, each record with a UUIDv7 of its own."""
    return _grpc(plan, "grpc-record-ids", Goal(2_000))


def _grpc(plan: Plan, kind: str, goal: Goal) -> list[Line]:
    return beside_grpcio(plan, kind, kind, goal, lambda: daemon(plan.folder / kind))


def beside_grpcio(plan: Plan, name: str, kind: str, goal: Goal, serve: Serve) -> list[Line]:
    """A load of this kind on a daemon, and on empty servers of grpcio's."""
    callers = (CHANNELS, CONNECTIONS // CHANNELS)
    with ExitStack() as stack:
        running = stack.enter_context(serve())
        empties = [stack.enter_context(yardstick(empty)) for empty in ("grpc-threads", "grpc-aio")]
        ours, *theirs = _in_turn(
            plan,
            *(
                lambda seconds, port=port, pid=pid: drive(Job(kind, port, *callers, seconds, running.key), pid)
                for port, pid in ((running.grpc_port, running.process.pid), *empties)
            ),
        )
    rates = [median(load.rate for load in loads) for loads in theirs]
    fastest = theirs[rates.index(max(rates))]
    against = (
        f"{CHANNELS} channels of {CONNECTIONS // CHANNELS} callers; yardstick: the faster empty server of grpcio, "
        f"bytes in and bytes out (threads {rates[0]:,.0f}/s, aio {rates[1]:,.0f}/s)"
    )
    return list(_lines(name, ours, fastest, goal, against))


def http_alone(plan: Plan) -> list[Line]:
    """One record at a time on one connection: what the disk costs, and what we add."""
    with daemon(plan.folder / "alone") as running:
        syncs, (ours,) = [], ([],)
        for _ in range(plan.rounds):
            syncs.append(fdatasync_ms(plan.folder, _FDATASYNCS))
            job = Job("http-record", running.http_port, 1, 1, plan.seconds, running.key)
            ours.append(drive(job, running.process.pid))
    sync_ms, p50_ms = median(syncs), median(load.p50_ms for load in ours)
    limit_ms = ALONE_FSYNCS * sync_ms + ALONE_MS
    how = "p50 with one connection; yardstick: fdatasync of 4 KiB on the same file system"
    goal = f"≤ {ALONE_FSYNCS} × fdatasync + {ALONE_MS} ms = {limit_ms:.2f} ms"
    return [Line("http-alone", p50_ms, "ms", sync_ms, goal, p50_ms <= limit_ms, how)]


def _in_turn(plan: Plan, *servers: _Drive) -> list[list[Load]]:
    """The loads of each server, measured in turn so that what else the machine does meets all of them."""
    for each in servers:
        each(plan.seconds / 4)
    loads: list[list[Load]] = [[] for _ in servers]
    for _ in range(plan.rounds):
        for held, each in zip(loads, servers, strict=True):
            held.append(each(plan.seconds))
    return loads


def _lines(name: str, ours: list[Load], theirs: list[Load], goal: Goal, against: str) -> Iterator[Line]:
    rate, empty = median(load.rate for load in ours), median(load.rate for load in theirs)
    # Of a pair measured one after the other both met the same machine: the median of their ratios, not their ratio.
    share = median(mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True))
    wanted = [f"≥ {goal.rate:,.0f} /s"] if goal.rate else []
    wanted += [f"≥ {goal.share} of empty"] if goal.share else []
    is_met = rate >= goal.rate and share >= goal.share if wanted else None
    yield Line(name, rate, "/s", rate / share, " and ".join(wanted), is_met, against)
    p99_ms, their_p99_ms = median(load.p99_ms for load in ours), median(load.p99_ms for load in theirs)
    p99_goal = f"≤ {goal.p99_ms:g} ms" if goal.p99_ms else ""
    p99_met = p99_ms <= goal.p99_ms if goal.p99_ms else None
    spread = f"p99 of the same runs; rates from {min(o.rate for o in ours):,.0f} to {max(o.rate for o in ours):,.0f}"
    yield Line(f"{name}-p99", p99_ms, "ms", their_p99_ms, p99_goal, p99_met, f"{spread} (empty: {empty:,.0f})")
    cpu_us, their_cpu_us = median(load.cpu_us for load in ours), median(load.cpu_us for load in theirs)
    yield Line(f"{name}-cpu", cpu_us, "µs", their_cpu_us, "", None, "the server's processor time for each call")
