"""Rows of the Python client: what it adds to a call with a preflight, and what recording in the background costs.

The load runs as a process of its own on the load's core (`python -m bench.client SOCKET KEY CALLS`); prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import grpc

import costd_client
from bench.plan import Plan
from bench.processes import LOAD_CORE, daemon, python, ready_path
from bench.report import Line
from costd.v1 import usage_pb2, usage_pb2_grpc

ADDED_MS = 0.5
RECORD_US = 50.0
ESTIMATE = {"input_tokens": 900, "output_tokens": 500}


def client(plan: Plan) -> list[Line]:
    """A call around nothing, against the bare RPC over the same unix socket; and `record()` alone."""
    calls = 2_000 if plan.rounds > 2 else 200
    figures = []
    with daemon(plan.folder / "client") as running:
        socket = json.loads(ready_path(running.data_dir).read_text())["socket"]
        for _ in range(plan.rounds):
            command = python(LOAD_CORE, "-m", "bench.client", socket, running.key, str(calls))
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
            figures.append(json.loads(done.stdout))
    call_ms, bare_ms, record_us = (median(each[name] for each in figures) for name in ("call", "bare", "record"))
    added_ms = median(each["call"] - each["bare"] for each in figures)
    how = f"p50 of {calls:,} calls around nothing over the unix socket; yardstick: the Preflight RPC alone, p50"
    return [
        Line("client-call", call_ms, "ms", bare_ms, "", None, how),
        Line(
            "client-preflight", added_ms, "ms", None, f"≤ {ADDED_MS} ms added", added_ms <= ADDED_MS, "the difference"
        ),
        Line("client-record", record_us, "µs", None, f"≤ {RECORD_US:g} µs", record_us <= RECORD_US, "p50 of record()"),
    ]


def _p50_s(calls: int, one: Callable[[], object]) -> float:
    times = []
    for number in range(calls + calls // 10):
        started_s = time.perf_counter()
        one()
        if number >= calls // 10:
            times.append(time.perf_counter() - started_s)
    return median(times)


def _measure(socket: str, key: str, calls: int) -> dict[str, float]:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        request = usage_pb2.PreflightRequest()
        request.dimensions.source_app, request.dimensions.model = "bench", "gpt-4o"
        for unit, count in ESTIMATE.items():
            request.estimated_units.add(unit=unit, count=count)
        metadata = (("authorization", f"Bearer {key}"),)
        bare_s = _p50_s(calls, lambda: stub.Preflight(request, metadata=metadata, timeout=5))
    with costd_client.Tracker(f"unix:{socket}", key=key, source_app="bench") as tracker:

        def call() -> None:
            with tracker.call(model="gpt-4o", user="u1", project="p1", estimate=ESTIMATE) as made:
                made.units(input_tokens=870, output_tokens=120)

        call_s = _p50_s(calls, call)
        record_s = _p50_s(calls, lambda: tracker.record(model="gpt-4o", user="u1", units=ESTIMATE))
        if not tracker.flush(30):
            raise RuntimeError("not everything was sent")
    return {"bare": bare_s * 1000, "call": call_s * 1000, "record": record_s * 1e6}


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
