"""The tracker and a daemon that is killed, paused and away: every record arrives once, and callers never wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import costd_client
import harness
from harness import Daemon

ESTIMATE = {"input_tokens": 900, "output_tokens": 500}


def tracker(running: Daemon, **more: object) -> costd_client.Tracker:
    return costd_client.Tracker(f"unix:{running.socket}", key=running.admin_key, source_app="t", **more)  # type: ignore[arg-type]


def ids(running: Daemon) -> list[str]:
    """Every request id the ledger has, of text or of a UUID's bytes."""
    rows = running.query("SELECT request_id FROM request ORDER BY seq")
    return [bytes(held).hex() if isinstance(held, bytes) else str(held) for (held,) in rows]


def dashless(request_id: str) -> str:
    return request_id.replace("-", "")


def test_a_call_is_asked_for_timed_and_recorded(launch: Callable[..., Daemon]) -> None:
    running = launch()
    with tracker(running) as made:
        with made.call(model="gpt-4o", user="u1", project="p1", prompt_key="summarize", estimate=ESTIMATE) as call:
            assert call.estimated_cost == Decimal("0.00725")
            call.units(input_tokens=1000, output_tokens=100)
        failed = made.start_call(model="gpt-4o", user="u2", preflight=False)
        failed.begin()
        failed.units(input_tokens=10)
        failed.finish(error=KeyError("x"))
        assert made.flush(10)
        assert made.stats().sent == 2
    shown = json.loads(harness.costd("show", call.request_id, "--data-dir", str(running.data_dir), "--json").stdout)
    assert (shown["cost_usd"], shown["dimensions"]["prompt_key"], shown["status"]) == ("0.0035", "summarize", "success")
    assert shown["latency_ms"] is not None
    shown = json.loads(harness.costd("show", failed.request_id, "--data-dir", str(running.data_dir), "--json").stdout)
    assert (shown["dimensions"]["user"], shown["status"]) == ("u2", "error")


def test_a_killed_daemon_is_invisible_and_nothing_counts_twice(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    """Killed again and again while records come; the same folder and socket are served by the next daemon."""
    running = launch()
    socket = str(running.socket)
    sent: list[str] = []
    with tracker(running, spool=tmp_path / "app.spool", send_timeout_s=2.0) as made:
        for _ in range(3):
            sent += [made.record(model="gpt-4o", units={"input_tokens": 1}) for _ in range(200)]
            running.kill()
            sent += [made.record(model="gpt-4o", units={"input_tokens": 1}) for _ in range(200)]
            running = launch("--grpc-socket", socket)
        assert made.flush(30)
        told = made.stats()
    assert (told.sent, told.refused, told.dropped) == (1200, 0, 0)
    assert sorted(ids(running)) == sorted(map(dashless, sent))
    assert running.query("SELECT sum(requests) FROM rollup") == [(1200,)]


def test_a_paused_daemon_never_holds_a_caller_beyond_its_timeout(launch: Callable[..., Daemon]) -> None:
    running = launch()
    with tracker(running, preflight_timeout_s=0.2) as made:
        with made.call(model="gpt-4o", user="u") as call:
            call.units(input_tokens=1)
        assert made.flush(10)
        running.process.send_signal(signal.SIGSTOP)
        try:
            longest_s = 0.0
            for _ in range(10):
                started_s = time.monotonic()
                with made.call(model="gpt-4o", user="u", estimate=ESTIMATE) as call:
                    call.units(input_tokens=1)
                longest_s = max(longest_s, time.monotonic() - started_s)
            # The bound is the timeout; the rest is what a busy machine may add to waking up.
            assert longest_s < 0.2 + 2.0
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert made.flush(20)
        assert made.stats().sent == 11
    assert running.query("SELECT sum(requests) FROM rollup") == [(11,)]


def test_the_spool_survives_the_callers_own_sigkill(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    running = launch()
    socket, key = str(running.socket), running.admin_key
    running.stop()
    script = textwrap.dedent(
        """
        import sys, time, costd_client
        tracker = costd_client.Tracker(f"unix:{sys.argv[1]}", key=sys.argv[2], source_app="t", spool=sys.argv[3])
        for _ in range(300):
            print(tracker.record(model="gpt-4o", units={"input_tokens": 1}))
        while tracker.stats().spooled < 300:
            time.sleep(0.01)
        print("spooled", flush=True)
        time.sleep(60)
        """
    )
    command = [sys.executable, "-W", "ignore", "-c", script, socket, key, str(tmp_path / "app.spool")]
    caller = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert caller.stdout is not None
    sent = []
    for line in caller.stdout:
        if line.strip() == "spooled":
            break
        sent.append(line.strip())
    caller.kill()
    caller.communicate()
    assert len(sent) == 300
    running = launch("--grpc-socket", socket)
    with tracker(running, spool=tmp_path / "app.spool") as made:
        made.record(model="gpt-4o", units={"input_tokens": 1}, request_id="last")
        harness.until(lambda: made.stats().recovered == 300 and made.stats().spooled == 0, "the spool to be drained")
        assert made.flush(20)
    assert sorted(ids(running)) == sorted([*map(dashless, sent), "last"])


@pytest.mark.parametrize("used_before", [True, False])
def test_forked_workers_track_for_themselves(launch: Callable[..., Daemon], tmp_path: Path, used_before: bool) -> None:
    """As a server forks its workers after it has loaded the application."""
    running = launch()
    script = textwrap.dedent(
        """
        import os, sys, costd_client
        tracker = costd_client.Tracker(f"unix:{sys.argv[1]}", key=sys.argv[2], source_app="t", spool=sys.argv[3])
        if sys.argv[4] == "True":
            with tracker.call(model="gpt-4o", user="parent") as call:
                call.units(input_tokens=1)
            assert tracker.flush(10)
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                for _ in range(5):
                    with tracker.call(model="gpt-4o", user=f"child-{number}", estimate={"input_tokens": 9}) as call:
                        assert call.estimated_cost is not None
                        call.units(input_tokens=1)
                os._exit(0 if tracker.flush(15) else 1)
            children.append(child)
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        with tracker.call(model="gpt-4o", user="parent") as call:
            call.units(input_tokens=1)
        assert tracker.flush(10)
        """
    )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        script,
        str(running.socket),
        running.admin_key,
        str(tmp_path / "s"),
        str(used_before),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    by_user = dict(
        running.query("SELECT s.user, sum(r.requests) FROM rollup r JOIN series s ON s.id = r.series_id GROUP BY 1")
    )
    assert by_user == {"parent": 1 + used_before, "child-0": 5, "child-1": 5, "child-2": 5}


def test_the_end_of_a_process_sends_what_waits_within_a_bounded_time(launch: Callable[..., Daemon]) -> None:
    running = launch()
    script = textwrap.dedent(
        """
        import sys, costd_client
        tracker = costd_client.Tracker(f"unix:{sys.argv[1]}", key=sys.argv[2], source_app="t")
        for _ in range(500):
            tracker.record(model="gpt-4o", units={"input_tokens": 1})
        """
    )
    command = [sys.executable, "-c", script, str(running.socket), running.admin_key]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert running.query("SELECT sum(requests) FROM rollup") == [(500,)]
    running.process.send_signal(signal.SIGSTOP)
    try:
        assert subprocess.run(command, timeout=30, check=False).returncode == 0
    finally:
        running.process.send_signal(signal.SIGCONT)


def test_without_a_daemon_calls_go_on_or_are_denied_as_one_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = f"unix:{tmp_path / 'nobody'}"
    with costd_client.Tracker(nowhere, key="k", source_app="t", spool=tmp_path / "spool") as made:
        with made.call(model="gpt-4o", user="u", estimate=ESTIMATE) as call:
            call.units(input_tokens=1)
        assert call.estimated_cost is None
        assert not made.flush(0.2)
    assert made.stats().spooled == 1
    assert caplog.text.count("WARNING") >= 1
    with (
        costd_client.Tracker(nowhere, key="k", source_app="t", on_unreachable="deny") as made,
        pytest.raises(costd_client.BudgetExceeded) as denied,
        made.call(model="gpt-4o", user="u"),
    ):
        pass
    assert denied.value.deny_reason == "unreachable"


def test_what_the_daemon_refuses_is_dropped_counted_and_told_without_contents(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    with tracker(daemon) as made:
        made.record(model="gpt-4o", units={"input_tokens": 1, "cache_read_tokens": 5}, user="secret-user")
        made.record(model="gpt-4o", units={"input_tokens": 1})
        assert made.flush(10)
        assert (made.stats().sent, made.stats().dropped) == (1, 1)
    assert "cache_read_tokens" in caplog.text
    assert "secret-user" not in caplog.text


def test_many_threads_share_a_tracker(launch: Callable[..., Daemon]) -> None:
    running = launch()
    with tracker(running) as made:

        def work() -> None:
            for _ in range(25):
                with made.call(model="gpt-4o", user="u") as call:
                    call.units(input_tokens=1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert made.flush(20)
    assert running.query("SELECT sum(requests) FROM rollup") == [(200,)]


def test_one_event_loop_after_another(launch: Callable[..., Daemon]) -> None:
    running = launch()
    made = costd_client.AsyncTracker(f"unix:{running.socket}", key=running.admin_key, source_app="t")

    async def work() -> None:
        async def one() -> None:
            async with made.call(model="gpt-4o", user="u", estimate=ESTIMATE) as call:
                assert call.estimated_cost == Decimal("0.00725")
                call.units(input_tokens=1)

        await asyncio.gather(*(one() for _ in range(20)))
        assert await made.flush(20)

    asyncio.run(work())
    asyncio.run(work())
    asyncio.run(made.close())
    assert running.query("SELECT sum(requests) FROM rollup") == [(40,)]


def test_the_environment_names_daemon_and_key(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSTD_ADDRESS", daemon.grpc)
    monkeypatch.setenv("COSTD_KEY", daemon.admin_key)
    with costd_client.Tracker(source_app="t") as made:
        made.record(model="gpt-4o", units={"input_tokens": 1})
        assert made.flush(10)


def test_client_and_daemon_live_in_one_process() -> None:
    code = "import costd.v1.usage_pb2, costd_client; import costd.v1.admin_pb2_grpc"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ.copy()).returncode == 0
