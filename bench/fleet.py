"""Rows of a hub with a fleet: how long 200 sources wait for its acknowledgements, and what it takes, TLS off and on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from scripts.make_certs import make_certs

from bench.plan import Plan
from bench.processes import LOAD_CORE, SERVER_CORE, Daemon, cpu_s, daemon, peak_bytes, python, yardstick
from bench.report import Line
from bench.road import create_sources, totals
from bench.sources import BATCH, WARM_UP_S, Fleet
from bench.tally import Load

SOURCES = 200
SECONDS = 10
ROUNDS = 3
P99_MS = 250
PEAK_MIB = 256
MIB = 1024 * 1024


def row(name: str, *, with_tls: bool) -> Callable[[Plan], list[Line]]:
    """The row that measures a hub with or without TLS."""
    return lambda plan: list(_measure(plan, name, with_tls=with_tls))


def _measure(plan: Plan, name: str, *, with_tls: bool) -> Iterator[Line]:
    seconds, rounds = (SECONDS, ROUNDS) if plan.rounds > 2 else (3, 1)
    folder = plan.folder / name
    folder.mkdir()
    flags, ca = _tls(folder / "certs") if with_tls else ((), "")
    ours, theirs = [], []
    for number in range(rounds):
        fleet = Fleet(0, [f"source-{each}" for each in range(SOURCES)], [""] * SOURCES, seconds, ca)
        with daemon(folder / f"hub-{number}", *flags, core=SERVER_CORE, command="hub") as hub:
            keys = create_sources(hub, fleet.names)
            ours.append(_drive(replace(fleet, port=hub.grpc_port, keys=keys), hub.process.pid))
            _check(hub, seconds)
        with yardstick("hub-empty", *flags[1::2]) as (port, pid):
            theirs.append(_drive(replace(fleet, port=port), pid))
    under = f"{SOURCES} sources, a batch of {BATCH} records a second each{', TLS' if with_tls else ''}"
    against = "yardstick: a server of grpcio with a thread for each stream, which acknowledges and does nothing else"
    p99_ms, peak_mib, share = (median(getattr(each, what) for each in ours) for what in ("p99_ms", "peak_mib", "share"))
    others = [median(getattr(each, what) for each in theirs) for what in ("p99_ms", "peak_mib", "share")]
    spread = f"{min(each.p99_ms for each in ours):,.0f} to {max(each.p99_ms for each in ours):,.0f} ms"
    yield Line(
        f"{name}-p99", p99_ms, "ms", others[0], f"≤ {P99_MS} ms", p99_ms <= P99_MS,
        f"{under}: from when a batch was due to its acknowledgement; {rounds} times {seconds} s, {spread}; {against}",
    )  # fmt: skip
    yield Line(f"{name}-p50", median(each.p50_ms for each in ours), "ms", None, "", None, "half of those")
    yield Line(
        f"{name}-memory", peak_mib, "MiB", others[1], f"≤ {PEAK_MIB} MiB", peak_mib <= PEAK_MIB,
        f"the most that the hub's resident memory came to meanwhile; {against}",
    )  # fmt: skip
    yield Line(f"{name}-core", share * 100, "%", others[2] * 100, "", None, "of a core that the hub used")


class _Run(NamedTuple):
    """What came of one run: latencies of acknowledgements, and what the server took."""

    p50_ms: float
    p99_ms: float
    peak_mib: float
    share: float


def _drive(fleet: Fleet, server_pid: int) -> _Run:
    used_s = cpu_s(server_pid)
    done = subprocess.run(
        python(LOAD_CORE, "-m", "bench.sources"),
        input=json.dumps(asdict(fleet)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=fleet.seconds + 120,
    )
    load = Load(**json.loads(done.stdout))
    # What it took to make the batches beforehand is not time that the server was asked anything.
    share = (cpu_s(server_pid) - used_s) / (fleet.seconds + WARM_UP_S)
    return _Run(load.p50_ms, load.p99_ms, peak_bytes(server_pid) / MIB, share)


def _check(hub: Daemon, seconds: int) -> None:
    """RuntimeError where the hub has anything but the records of every batch, once."""
    sent = SOURCES * BATCH * (seconds + WARM_UP_S)
    kept = totals(hub.data_dir)[0]
    if kept != sent:
        raise RuntimeError(f"the hub has {kept:,} of {sent:,} records")


def _tls(folder: Path) -> tuple[tuple[str, ...], str]:
    """A hub's flags and the authority's file."""
    make_certs(folder)
    return ("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server-key.pem")), str(
        folder / "ca.pem"
    )
