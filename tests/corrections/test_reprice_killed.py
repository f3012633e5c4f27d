"""A re-rating that is killed goes on, and no record is adjusted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import grpc

import harness
from costd.v1 import usage_pb2, usage_pb2_grpc
from harness import Daemon

BATCHES, BATCH = 12, 5_000
RECORDS = BATCHES * BATCH


def fill(running: Daemon) -> None:
    """RECORDS records, each of 2,500 nano-dollars."""
    metadata = (("authorization", f"Bearer {running.admin_key}"),)
    with grpc.insecure_channel(running.grpc) as channel:
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        for number in range(BATCHES):
            columns = usage_pb2.RecordColumns(series=[0] * BATCH, input_tokens=[1] * BATCH)
            entry = usage_pb2.BatchSeries(dimensions=usage_pb2.Dimensions(source_app="app", model="gpt-4o"))
            request = usage_pb2.RecordBatchRequest(batch_id=f"b{number}", series=[entry], columns=columns)
            stub.RecordBatch(request, metadata=metadata, timeout=30)


def adjusted(running: Daemon) -> int:
    return int(running.query("SELECT count(*) FROM adjustment")[0][0])


def test_a_reprice_that_was_killed_goes_on_where_it_was(launch: Callable[..., Daemon]) -> None:
    running = launch()
    fill(running)
    folder = ("--data-dir", str(running.data_dir))
    out = harness.costd("prices", "set", "gpt-4o", "--multiplier", "3", "--from", "always", *folder)
    assert out.returncode == 0, out.stderr
    command = [sys.executable, "-m", "costd", "prices", "reprice", "--yes", "--json", *folder]
    asked = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=harness.clean_env()
    )
    harness.until(lambda: adjusted(running) > 0, "the first adjustments")
    running.kill()
    asked.communicate(timeout=60)
    # Killed in the middle as a rule; where the machine was too quick for that, nothing is left to do, which holds too.
    again = launch()
    out = harness.costd("prices", "reprice", "--yes", "--json", *folder)
    assert out.returncode == 0, out.stderr
    answer = json.loads(out.stdout)
    assert adjusted(again) == RECORDS
    assert again.query("SELECT count(DISTINCT event_seq) FROM adjustment") == [(RECORDS,)]
    if asked.returncode != 0:
        assert answer["correction"]["adjusted"] == RECORDS
        assert Decimal(answer["correction"]["raised_usd"]) == Decimal(RECORDS * 5000) / 10**9
    report = json.loads(harness.costd("report", "--since", "all", "--json", *folder).stdout)
    assert Decimal(report["total"]["cost_usd"]) == Decimal(RECORDS * 7500) / 10**9
    assert harness.costd("check", *folder).returncode == 0


def test_records_keep_coming_while_history_is_rated_again(launch: Callable[..., Daemon]) -> None:
    running = launch()
    fill(running)
    folder = ("--data-dir", str(running.data_dir))
    assert harness.costd("prices", "set", "gpt-4o", "--free", "--from", "always", *folder).returncode == 0
    command = [sys.executable, "-m", "costd", "prices", "reprice", "--yes", "--json", *folder]
    asked = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=harness.clean_env())
    sent = 0
    while asked.poll() is None:
        body = {"source_app": "app", "model": "gpt-4o-mini", "user_external_id": "u", "units": {"input_tokens": 1000}}
        answer = running.client.post("/v1/usage/record", json=body)
        assert (answer.status_code, answer.json()["cost_usd"]) == (200, 0.00015)
        sent += 1
    asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert sent
    report = json.loads(harness.costd("report", "--since", "all", "--json", *folder).stdout)
    assert report["total"]["requests"] == RECORDS + sent
    assert Decimal(report["total"]["cost_usd"]) == sent * Decimal("0.00015")
    assert harness.costd("check", *folder).returncode == 0
