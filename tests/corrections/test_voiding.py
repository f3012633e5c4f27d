"""Taking a wrong record back: reports forget it, its id and its history stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import harness
from corrections.history import ADMIN, DAY_MS, findings, opened, record, reprice, set_price, total_nano
from costd.store.commit import Change
from costd.store.totals import fold_rollups
from harness import Daemon
from ledger import NOW_MS

RECORD = {
    "request_id": "wrong-1",
    "user_external_id": "ada",
    "source_app": "shop",
    "model": "gpt-4o",
    "units": {"input_tokens": 1000, "output_tokens": 100, "gpu_seconds": 2.5},
    "latency_ms": 120,
}


def void(running: Daemon, wanted: str, *more: str) -> dict[str, object]:
    out = harness.costd("void", wanted, "--reason", "sent twice", "--data-dir", str(running.data_dir), "--json", *more)
    assert out.returncode == 0, out.stderr
    return dict(json.loads(out.stdout))


def test_a_voided_record_is_gone_from_reports_but_not_from_the_ledger(launch: Callable[..., Daemon]) -> None:
    running = launch()
    first = running.client.post("/v1/usage/record", json=RECORD).json()
    running.client.post("/v1/usage/record", json=RECORD | {"request_id": "right-1"})
    answer = void(running, "wrong-1")
    assert answer == {"event_id": first["event_id"], "cost_usd": "0.0035", "was_void": False}
    assert void(running, first["event_id"]) == {**answer, "was_void": True}
    report = harness.costd("report", "--data-dir", str(running.data_dir), "--json")
    total = json.loads(report.stdout)["total"]
    assert (total["requests"], total["cost_usd"], total["input_tokens"]) == (1, "0.0035", 1000)
    page = running.client.get("/api/usage").json()
    assert len(page["items"]) == 1
    shown = json.loads(harness.costd("show", "wrong-1", "--data-dir", str(running.data_dir), "--json").stdout)
    assert (shown["void"], shown["recorded_cost_usd"], shown["cost_usd"]) == (True, "0.0035", "0")
    again = running.client.post("/v1/usage/record", json=RECORD).json()
    assert (again["duplicate"], again["event_id"]) == (True, first["event_id"])
    assert harness.costd("check", "--data-dir", str(running.data_dir)).returncode == 0
    audit = running.query("SELECT action, metadata FROM audit WHERE action = 'record.voided'")
    assert [json.loads(metadata)["reason"] for _, metadata in audit] == ["sent twice"]


def test_there_must_be_such_a_record_and_a_reason(daemon: Daemon) -> None:
    folder = ("--data-dir", str(daemon.data_dir))
    unknown = harness.costd("void", "no-such", "--reason", "x", *folder)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no-such" in unknown.stderr
    assert harness.costd("void", "no-such", *folder).returncode == 2
    empty = harness.costd("void", "no-such", "--reason", " ", *folder)
    assert (empty.returncode, "reason" in empty.stderr) == (2, True)


def test_everything_it_added_goes_also_from_folded_days_and_months(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        units = {"input_tokens": 10, "output_tokens": 3, "gpu_seconds": Decimal("0.0000025")}
        for number in range(3):
            record(
                core, "own-model", units, NOW_MS - 40 * number * DAY_MS // 3, f"r{number}", status="error", latency_ms=7
            )
        while core.writer.submit(Change(fold_rollups)).wait(20):
            pass
        set_price(core, "own-model", {"input_tokens": "0.01"})
        reprice(core)
        for number in range(3):
            voided = core.services.repricing.void(ADMIN, f"r{number}", "all of them")
            assert voided is not None
            assert voided.cost_nano == 100_000_000
        assert findings(core) == []
        assert total_nano(core) == 0
        with core.readers.snapshot() as connection:
            for table in ("rollup", "rollup_day", "rollup_month", "series_total"):
                sums = connection.execute(
                    f"SELECT sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cost_usd), "
                    f"sum(cost_nano), sum(unpriced), sum(unrated), sum(latency_ms), sum(timed) FROM {table}"
                ).fetchone()
                assert set(sums) == {0}, table
            assert connection.execute("SELECT sum(whole), sum(micro) FROM rollup_unit").fetchone() == (0, 0)


def test_a_voided_record_is_not_rated_again(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        record(core, "gpt-4o", {"input_tokens": 1000}, request_id="r")
        core.services.repricing.void(ADMIN, "r", "why")
        set_price(core, "gpt-4o", {}, "2")
        done = reprice(core)
        assert (done.kept, done.models) == (1, [])
        assert total_nano(core) == 0
