"""Promise 15: health tells the truth about the road to the hub.

A hub out of reach is no reason to take a sidecar for dead, and none to keep quiet about it: whoever asks is told, in
every place the same, and it is over by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from callers import Call, GrpcDoor, send, summed
from harness import Daemon, costd, until
from hub.members import make_source
from scraping import Page

Launch = Callable[..., Daemon]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FORWARDING = "costd.forwarding"


class Told:
    """What a sidecar says of the road to its hub, in every place that says anything."""

    def __init__(self, sidecar: Daemon) -> None:
        self.page = Page.of(sidecar)
        self.tracking: dict[str, Any] = sidecar.client.get("/api/tracking-health").json()["data"]
        self.status: dict[str, Any] = json.loads(costd("status", "--json", "--data-dir", str(sidecar.data_dir)).stdout)
        self.hub: dict[str, Any] = self.status["hub"]

    @property
    def states(self) -> set[str]:
        """The state, wherever it is said; one where all agree."""
        connected = "connected" if self.page.value("costd_hub_connected") else ""
        words = [self.hub["state"], self.tracking["hub"]["state"]]
        return {*words, connected or "not connected"} - {"not connected"}

    @property
    def waiting(self) -> set[int]:
        """How many records wait, wherever it is said."""
        shown = int(self.page.value("costd_unforwarded_records"))
        return {self.hub["unforwarded_records"], self.tracking["buffer"]["unforwarded"], shown}


def health(sidecar: Daemon, service: str) -> int:
    """What the health service says."""
    with grpc.insecure_channel(sidecar.grpc) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status)


@contextmanager
def watching(sidecar: Daemon, service: str) -> Iterator[list[int]]:
    """What a gRPC client that watches a service is told."""
    told: list[int] = []
    with grpc.insecure_channel(sidecar.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))

        def listen() -> None:
            with contextlib.suppress(grpc.RpcError):
                for answer in watch:
                    told.append(answer.status)  # noqa: PERF401 - one by one, as they come

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield told
        finally:
            watch.cancel()
            thread.join(10)


def record(sidecar: Daemon, first: int, count: int) -> None:
    """Some records, kept."""
    outcomes = [send(GrpcDoor, sidecar, Call(number))[0] for number in range(first, first + count)]
    assert {outcome.word for outcome in outcomes} == {"kept"}, outcomes


def flush(sidecar: Daemon, *options: str) -> tuple[int, dict[str, Any]]:
    """`costd flush`: its exit code, and what it says."""
    done = costd("flush", "--json", "--data-dir", str(sidecar.data_dir), *options)
    return done.returncode, json.loads(done.stdout)


def track(sidecar: Daemon, number: int) -> dict[str, Any]:
    """One record that is to be at the hub when it is answered."""
    body = {"model": "gpt-4o", "inputTokens": 10, "requestId": f"tracked-{number}", "flush": True}
    answer = sidecar.client.post("/api/tokens/track", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def test_promise_15_a_hub_out_of_reach_is_told_everywhere_and_stops_nothing(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = launch(f"--hub={hub.grpc}", env={"COSTD_HUB_KEY": make_source(hub, "web-1", "acme")})
    with watching(sidecar, FORWARDING) as told, watching(sidecar, "") as whole:
        until(lambda: told[-1:] == [SERVING], f"the hub to be joined; {sidecar.log[-2000:]}")
        record(sidecar, 0, 3)
        assert flush(sidecar)[1]["flushed"]
        hub.kill()
        until(lambda: told[-1:] == [NOT_SERVING], "the watch to be told")
        before_s = time.time()
        record(sidecar, 10, 4)
        assert not track(sidecar, 1)["flushed"]
        now = Told(sidecar)
        assert (now.states, now.waiting) == ({"away"}, {5})
        assert "no hub answers" in now.hub["last_error"]
        assert now.tracking["status"] == "degraded"
        assert hub.grpc in now.tracking["problems"][0]
        oldest_s = now.page.value("costd_oldest_unforwarded_timestamp_seconds")
        assert before_s - 1 < oldest_s < time.time()
        assert 0 <= now.hub["oldest_unforwarded_seconds"] <= time.time() - before_s + 1
        assert now.page.total("costd_forward_failures_total") > 0
        # The daemon itself is well: its callers need no hub.
        assert (health(sidecar, ""), health(sidecar, FORWARDING)) == (SERVING, NOT_SERVING)
        assert (now.status["state"], now.status["problems"]) == ("ok", [])
        assert sidecar.client.get("/api/health").status_code == 200
        assert now.page.value("costd_ready") == 1
        code, said = flush(sidecar, "--timeout=0.2")
        assert (code, said["flushed"], said["unforwarded_records"]) == (1, False, 5)
        assert "out of reach" in said["problem"]
        # And when the hub is back, nothing needs to be done.
        again = launch(f"--grpc-listen={hub.grpc}", name="hub", command="hub")
        code, said = flush(sidecar, "--timeout=60")
        assert (code, said) == (0, {**said, "flushed": True, "unforwarded_records": 0, "problem": None})
        until(lambda: told[-1:] == [SERVING], "the watch to be told")
        now = Told(sidecar)
        assert (now.states, now.waiting) == ({"connected"}, {0})
        assert (now.tracking["status"], now.tracking["problems"]) == ("healthy", [])
        assert now.tracking["buffer"]["oldestUnforwarded"] is None
        assert now.hub["last_error"] is not None, "what was wrong, and when, is remembered"
        assert now.hub["connected_since"] > now.hub["last_error_at"]
        assert "costd_oldest_unforwarded_timestamp_seconds" not in {
            line.split()[0] for line in now.page.text.splitlines() if not line.startswith("#")
        }
        assert track(sidecar, 2)["flushed"]
        assert summed(again) == summed(sidecar)
        assert whole == [SERVING]


def test_promise_15_a_start_does_not_wait_for_a_hub_that_is_not_there(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_source(hub, "web-1")
    assert hub.stop() == 0
    sidecar = launch(f"--hub={hub.grpc}", env={"COSTD_HUB_KEY": key})
    record(sidecar, 0, 2)
    until(lambda: Told(sidecar).states == {"away"}, "the sidecar to notice")
    now = Told(sidecar)
    assert (now.waiting, now.hub["source"], now.hub["connected_since"]) == ({2}, None, None)
    assert sidecar.stop() == 0
    # Nothing runs here now; what waits is told all the same.
    offline = json.loads(costd("status", "--json", "--data-dir", str(sidecar.data_dir)).stdout)
    assert (offline["state"], offline["hub"]["state"], offline["hub"]["unforwarded_records"]) == ("stopped", "off", 2)
    assert flush(sidecar)[0] == 1


def test_promise_15_a_refused_key_is_told_in_the_hubs_words_and_mended_without_a_restart(
    launch: Launch, tmp_path: Path
) -> None:
    hub = launch(name="hub", command="hub")
    path = tmp_path / "hub.key"
    path.write_text("ct_live_" + "A" * 43)
    sidecar = launch(f"--hub={hub.grpc}", f"--hub-key-file={path}")
    record(sidecar, 0, 2)
    until(lambda: Told(sidecar).states == {"refused"}, "the refusal to be shown")
    now = Told(sidecar)
    assert "this key is unknown or was revoked" in now.hub["last_error"]
    assert "refuses this sidecar" in now.tracking["problems"][0]
    assert (health(sidecar, ""), health(sidecar, FORWARDING)) == (SERVING, NOT_SERVING)
    assert now.page.value("costd_forward_failures_total", reason="refused") >= 1
    before = now.page.value("costd_forward_failures_total", reason="refused")
    until(
        lambda: Page.of(sidecar).value("costd_forward_failures_total", reason="refused") > before,
        "another attempt",
        40,
    )
    new = tmp_path / "new.key"
    new.write_text(make_source(hub, "web-1"))
    os.replace(new, path)
    code, said = flush(sidecar, "--timeout=60")
    assert (code, said["flushed"]) == (0, True), said
    assert Told(sidecar).states == {"connected"}
    assert health(sidecar, FORWARDING) == SERVING
    assert summed(hub) == summed(sidecar)


def test_promise_15_a_daemon_without_a_hub_knows_nothing_of_forwarding(launch: Launch) -> None:
    daemon = launch()
    assert track(daemon, 1)["flushed"]
    assert flush(daemon) == (0, {"flushed": True, "watermark": 0, "unforwarded_records": 0, "problem": None})
    assert json.loads(costd("status", "--json", "--data-dir", str(daemon.data_dir)).stdout)["hub"] is None
    assert daemon.client.get("/api/tracking-health").json()["data"]["hub"] is None
    asked = costd("health", "--service", FORWARDING, "--json", "--data-dir", str(daemon.data_dir))
    assert json.loads(asked.stdout)["status"] == "UNREACHABLE"
    assert "costd_hub_connected" not in {line.split()[0] for line in Page.of(daemon).text.splitlines()}


def test_promise_15_who_waits_for_a_deaf_hub_holds_up_nobody_and_no_stop(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, ThreadPoolExecutor(40) as pool:  # takes calls, says nothing
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        sidecar = launch(f"--hub={address}", env={"COSTD_HUB_KEY": "ct_live_" + "A" * 43})
        flushing = pool.submit(flush, sidecar, "--timeout=60")
        tracked = [pool.submit(track, sidecar, number) for number in range(30)]
        until(lambda: summed(sidecar)[0] == 30, "all of them to be kept")
        began_s = time.monotonic()
        assert sidecar.client.get("/api/tokens").status_code == 200
        assert Told(sidecar).states == {"connecting"}
        assert time.monotonic() - began_s < 4, "reads do not wait with them"
        assert [each.result()["flushed"] for each in tracked] == [False] * 30
        began_s = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - began_s < 8
        assert flushing.result()[0] in {1, 3}
