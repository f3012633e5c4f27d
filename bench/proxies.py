"""Rows of the proxies: what costd adds to a call, and how it compares with LiteLLM's proxy.

The proxy has the first core; the fake provider and the callers share the second, in the direct calls as in the others,
so that the difference is the proxy's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from bench.litellm_proxy import environment, headers, litellm, version
from bench.plan import Plan
from bench.processes import LOAD_CORE, cpu_s, daemon, peak_bytes, python
from bench.proxy_load import Job
from bench.report import Line
from bench.tally import Load

#: As many as a busy service has under way.
CONNECTIONS = 32
#: How long providers take at the least until they begin to answer.
ANSWER_S = 0.05

P50_MS = 1.0
P99_MS = 4.0
FIRST_EVENT_MS = 1.5
TIMES_LITELLM = 15
SHARE_OF_MEMORY = 0.25
_MIB = 1 << 20


def added(plan: Plan) -> list[Line]:
    """What costd adds to a call alone, to one of 32 at a provider that takes 50 ms, and to a stream's first event."""
    lines: list[Line] = []
    with fake(0.0) as port, _costd(plan.folder / "proxy", port) as (ours, pid):
        direct = _direct(port)
        lines += _beside(plan, "proxy-alone", direct, ours, "one connection, answered at once")
        streamed = replace(direct, streams=True), replace(ours, streams=True)
        lines += _first_event(plan, *streamed)
        loads = [_drive(plan, replace(ours, connections=CONNECTIONS), pid) for _ in range(plan.rounds)]
        rate, cpu = median(load.rate for load in loads), median(load.cpu_us for load in loads)
        how = f"{CONNECTIONS} connections, answered at once; -cpu: processor time of each"
        lines += [
            Line("proxy-rate", rate, "/s", None, "", None, how),
            Line("proxy-cpu", cpu, "µs", None, "", None, how),
        ]
    with fake(ANSWER_S) as port, _costd(plan.folder / "proxy-slow", port) as (ours, _):
        how = f"{CONNECTIONS} connections, answered after {ANSWER_S * 1000:.0f} ms"
        busy = replace(_direct(port), connections=CONNECTIONS), replace(ours, connections=CONNECTIONS)
        lines += _beside(plan, "proxy-32", *busy, how)
    return lines


def beside_litellm(plan: Plan) -> list[Line]:
    """Requests a second and memory of costd and of LiteLLM's proxy, in turn."""
    folder = environment()
    with (
        fake(0.0) as port,
        _costd(plan.folder / "beside", port) as (one, ours_pid),
        litellm(folder, plan.folder / "litellm", port) as (their_port, their_pid),
    ):
        theirs = Job(their_port, "/v1/chat/completions", headers(), CONNECTIONS, plan.seconds)
        ours = replace(one, connections=CONNECTIONS)
        pairs = [(_drive(plan, ours, ours_pid), _drive(plan, theirs, their_pid)) for _ in range(plan.rounds)]
        mine, other = _drive(plan, one), _drive(plan, replace(theirs, connections=1))
        memory = peak_bytes(ours_pid) / _MIB, peak_bytes(their_pid) / _MIB
    times = median(a.rate / b.rate for a, b in pairs)
    rates = median(a.rate for a, _ in pairs), median(b.rate for _, b in pairs)
    how = f"{CONNECTIONS} connections, answered at once; yardstick: LiteLLM {version(folder)}, one worker, warmed"
    share = memory[0] / memory[1]
    return [
        Line("proxy-litellm", rates[0], "/s", rates[1], f"≥ {TIMES_LITELLM} ×", times >= TIMES_LITELLM, how),
        Line("proxy-litellm-p50", mine.p50_ms, "ms", other.p50_ms, "", None, "one connection, a whole call"),
        Line("proxy-litellm-memory", memory[0], "MB", memory[1], "≤ 1/4", share <= SHARE_OF_MEMORY, "at their peak"),
    ]


@contextmanager
def fake(delay_s: float) -> Iterator[int]:
    """The fake provider for the time of a `with`: its port."""
    command = python(LOAD_CORE, "-m", "bench.fake_upstream", str(delay_s))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _direct(port: int) -> Job:
    return Job(port, "/v1/chat/completions", {"Authorization": "Bearer sk-provider"})


@contextmanager
def _costd(data_dir: Path, upstream_port: int) -> Iterator[tuple[Job, int]]:
    """A daemon before the provider: the job that calls through it, and its process id."""
    with daemon(data_dir, "--upstream", f"bench=http://127.0.0.1:{upstream_port}/v1") as running:
        keys = {"Authorization": f"Bearer {running.key}", "X-Provider-Key": "sk-provider"}
        yield Job(running.http_port, "/api/proxy/v1/bench/chat/completions", keys), running.process.pid


def _drive(plan: Plan, job: Job, server_pid: int | None = None) -> Load:
    """Run a job; RuntimeError where anything but good answers came."""
    used_s = cpu_s(server_pid) if server_pid else 0.0
    done = subprocess.run(
        python(LOAD_CORE, "-m", "bench.proxy_load"),
        input=json.dumps(asdict(replace(job, seconds=plan.seconds))),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=plan.seconds + 60,
    )
    load = Load(**json.loads(done.stdout))
    if load.failures:
        raise RuntimeError(f"{job.path}: {load.failures}")
    if server_pid:
        load.cpu_us = (cpu_s(server_pid) - used_s) * 1e6 / max(1, load.answers)
    return load


def _beside(plan: Plan, name: str, direct: Job, ours: Job, how: str) -> list[Line]:
    """What is added to the latency of a call, at the median and at the slowest of 100."""
    pairs = [(_drive(plan, direct), _drive(plan, ours)) for _ in range(plan.rounds)]
    p50_ms = median(mine.p50_ms - bare.p50_ms for bare, mine in pairs)
    p99_ms = median(mine.p99_ms - bare.p99_ms for bare, mine in pairs)
    whole = f"{how}: what costd adds to a call; yardstick: the call without it"
    bare_p50, bare_p99 = (median(getattr(bare, at) for bare, _ in pairs) for at in ("p50_ms", "p99_ms"))
    return [
        Line(f"{name}-p50", p50_ms, "ms", bare_p50, f"≤ {P50_MS} ms", p50_ms <= P50_MS, whole),
        Line(f"{name}-p99", p99_ms, "ms", bare_p99, f"≤ {P99_MS} ms", p99_ms <= P99_MS, whole),
    ]


def _first_event(plan: Plan, direct: Job, ours: Job) -> list[Line]:
    pairs = [(_drive(plan, direct), _drive(plan, ours)) for _ in range(plan.rounds)]
    ms = median(mine.p50_ms - bare.p50_ms for bare, mine in pairs)
    bare_ms = median(bare.p50_ms for bare, _ in pairs)
    how = "one connection, from a call to the first event of its stream: what costd adds; yardstick: without it"
    return [Line("proxy-first-event", ms, "ms", bare_ms, f"≤ {FIRST_EVENT_MS} ms", ms <= FIRST_EVENT_MS, how)]
