"""Writes a ledger as a released costd leaves it, and what it said of it, for tests/store/released.

Run once for each release, from a tree of that release: `python scripts/write_released_ledger.py TREE VERSION`.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import harness  # noqa: E402 - from the folder of tests
from callers import BatchDoor, Call, ColumnsDoor, GrpcDoor, HttpDoor, StreamDoor, some_call, stubs  # noqa: E402
from costd.v1 import usage_pb2  # noqa: E402
from harness import Daemon  # noqa: E402

RELEASED = ROOT / "tests" / "store" / "released"
HOUR_S = 3_600
DAY_S = 24 * HOUR_S
TEAMS = ("search", "support", "")
#: Reports that a later release must repeat.
REPORTS = ("", "model", "provider", "team", "user", "project", "status", "tags", "source_app", "key_id")


class Release:
    """A released costd, and the folder it keeps its ledger in."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self._env = {"PYTHONPATH": str(tree / "daemon")}
        self._data_dir = folder / "data"
        self.daemon = harness.start(self._data_dir, env=self._env)

    def restart(self) -> None:
        """Stop it and start it again: what it keeps up at a start is done in between."""
        self.stop()
        self.daemon = harness.start(self._data_dir, env=self._env)

    def stop(self) -> None:
        """SIGTERM."""
        assert self.daemon.stop() == 0, self.daemon.log

    def say(self, *words: str) -> Any:
        """A command of its own; what it prints."""
        said = harness.costd(*words, "--data-dir", str(self._data_dir), "--json", env=self._env)
        assert said.returncode == 0, (words, said)
        return json.loads(said.stdout)

    def post(self, path: str, body: object) -> Any:
        """A POST of the administrator's."""
        answer = self.daemon.client.post(path, json=body)
        assert answer.status_code == 200, (path, body, answer.text)
        return answer.json()


def feed(release: Release, rng: random.Random) -> dict[str, Any]:
    """Everything a ledger can hold, by every door; what a later release must know of single things."""
    keys = {"checkout": release.daemon.key("checkout", team="search"), "revoked": release.daemon.key("revoked")}
    listed = release.say("keys", "list")["keys"]
    release.say("keys", "revoke", next(key["id"] for key in listed if key["name"] == "revoked"))
    release.say(
        "prices", "set", "house-*", "--input-per-mtok", "1.25", "--unit", "gpu_seconds=0.0004", "--from", "always"
    )
    release.say("prices", "set", "gpt-4o-mini", "--multiplier", "0.8", "--from", "always", "--note", "a contract")
    calls = send_calls(release.daemon, rng)
    send_rare(release)
    batch_ids = send_batches(release.daemon)
    catalog(release)
    entries = months(release)
    release.restart()
    late = [some_call(rng, 5_000 + n, with_id=True)._replace(at_ms=now_ms() - 30 * DAY_S * 1000) for n in range(40)]
    send_with(BatchDoor, release.daemon, late)
    send_with(GrpcDoor, release.daemon, [Call(6_000, "by-its-key")], keys["checkout"])
    release.say("void", "request-7", "--reason", "sent twice by a broken retry")
    release.say("prices", "set", "nobodys-model", "--input-per-mtok", "3", "--output-per-mtok", "9", "--from", "always")
    release.say("prices", "reprice", "--model", "nobodys-model", "--yes", "--reason", "it has a price now")
    with_ids = [call for call in (*calls, *late) if call.request_id]
    return {"keys": keys, "calls": with_ids, "batch_ids": batch_ids, "entries": entries}


def now_ms() -> int:
    """The present."""
    return time.time_ns() // 1_000_000


def send_calls(daemon: Daemon, rng: random.Random) -> list[Call]:
    """Priced, unpriced and callers' own, over some days, by every door."""
    sent: list[Call] = []
    for place, door in enumerate((GrpcDoor, HttpDoor, BatchDoor, ColumnsDoor, StreamDoor)):
        calls = [some_call(rng, place * 1_000 + n, with_id=n % 3 > 0) for n in range(60)]
        back_ms = [rng.randrange(0, 6 * DAY_S, HOUR_S // 4) * 1000 for _ in calls]
        calls = [call._replace(at_ms=now_ms() - back) for call, back in zip(calls, back_ms, strict=True)]
        if place == 0:
            calls[7] = calls[7]._replace(request_id="request-7", model="gpt-4o", cost_nano=None)
        send_with(door, daemon, calls)
        sent += calls
    return sent


def send_with(door: Any, daemon: Daemon, calls: list[Call], key: str = "") -> None:
    """Send by one door; everything must be kept."""
    opened = door(daemon, key)
    outcomes = opened.send(calls)
    opened.close()
    assert {outcome.word for outcome in outcomes} == {"kept"}, outcomes


def send_rare(release: Release) -> None:
    """What few records have: other units, statuses, prompts, price contexts, jobs, latencies."""
    plain = {"user_external_id": "ada", "source_app": "studio", "project_external_id": "apollo"}
    rare = [
        {"model": "house-whisper", "units": {"input_tokens": 10, "gpu_seconds": 12.5}, "request_id": "rare-0"},
        {"model": "house-eyes", "units": {"input_tokens": 3, "images": 4, "chars": 900}, "latency_ms": 812},
        {"model": "gpt-4o", "units": {"input_tokens": 9_000, "cache_read_tokens": 4_000, "output_tokens": 7}},
        {"model": "gpt-4o-mini", "units": {"input_tokens": 9_000, "output_tokens": 70}, "status": "timeout"},
        {"model": "gpt-4o", "units": {"input_tokens": 50_000}, "price_context": {"processing": "batch"}},
        {"model": "claude-sonnet-4-20250514", "units": {"input_tokens": 11, "output_tokens": 22}, "team": "growth"},
        {"model": "gpt-4o", "units": {"input_tokens": 1}, "prompt_key": "greeting", "prompt_version": 3},
        {"model": "gpt-4o", "units": {"input_tokens": 1}, "cost_usd": 999_999.999999999, "request_id": "dear"},
    ]
    for number, fields in enumerate(rare):
        release.post("/v1/usage/record", plain | {"job_external_id": f"n{4_000 + number}"} | fields)
    tracked = {"provider": "openai", "model": "gpt-4-turbo", "inputTokens": 1_000, "outputTokens": 500, "flush": True}
    release.post("/api/tokens/track", tracked | {"requestId": "tracked", "userId": "grace"})


def send_batches(daemon: Daemon) -> list[str]:
    """Batches that have ids of their own."""
    ids = ["batch-one", "018f0000-0000-7000-8000-000000000001"]
    with stubs(daemon) as services:
        for place, batch_id in enumerate(ids):
            answer = services.usage.RecordBatch(batch(batch_id, place), metadata=services.metadata, timeout=30)
            assert answer.accepted == 20
    return ids


def batch(batch_id: str, place: int) -> usage_pb2.RecordBatchRequest:
    """One of them, always the same."""
    dimensions = usage_pb2.Dimensions(source_app="nightly", model="gpt-4o", user="robot", team=TEAMS[place])
    columns = usage_pb2.RecordColumns(
        series=[0] * 20,
        input_tokens=range(20),
        output_tokens=[1] * 20,
        jobs=[f"n{7_000 + place * 100 + n}" for n in range(20)],
    )
    series = [usage_pb2.BatchSeries(dimensions=dimensions)]
    return usage_pb2.RecordBatchRequest(batch_id=batch_id, series=series, columns=columns)


def catalog(release: Release) -> None:
    """Users, projects, teams and workspaces, said and said again."""
    ada = {"external_id": "ada", "source_app": "tests", "email": "ada@example.com"}
    release.post("/v1/users/upsert", ada)
    release.post("/v1/users/upsert", ada | {"full_name": "Ada Lovelace"})
    release.post("/v1/projects/upsert", {"external_id": "apollo", "source_app": "studio", "name": "Apollo"})
    release.say("teams", "set", "search", "--name", "Search", "--workspace", "retail")
    release.say("workspaces", "set", "retail", "--name", "Retail")
    release.say("projects", "assign", "apollo", "--team", "growth")
    release.say("users", "assign", "grace", "--source-app", "tests", "--team", "support")
    release.say("users", "set", "linus", "--source-app", "tests", "--email", "")


def months(release: Release) -> list[str]:
    """Entries by the month; their ids."""
    cost = {"amount": 125.5, "month": 10, "year": 2026, "notes": "as billed", "breakdown": {"gpt-4o": 100}}
    tokens = {"tokens_used": 2_500_000, "cost": 45.75, "month": 11, "year": 2026, "cached_tokens": 7}
    manual = {"service": "Lambda", "amount": 12.25, "month": 11, "year": 2026, "category": "GPU", "project": "apollo"}
    return [
        release.post("/api/ingest", {"type": "cost", "service": "OpenAI", "data": cost})["recordId"],
        release.post("/api/ingest", {"type": "tokens", "service": "Anthropic", "data": tokens})["recordId"],
        release.post("/api/costs/manual", manual)["data"]["id"],
    ]


def expectations(release: Release, fed: dict[str, Any]) -> dict[str, Any]:
    """What the release says of its ledger."""
    shown = ["request-7", "rare-0", "dear", "tracked", "by-its-key", fed["calls"][0].request_id]
    return {
        "reports": {names: release.say("report", "--since", "all", "--by", names) for names in REPORTS},
        "days": release.say("report", "--since", "all", "--by", "model", "--bucket", "day"),
        "shown": {request_id: release.say("show", request_id) for request_id in shown},
        "months": [
            release.daemon.client.get(f"/api/costs/all?year=2026&month={month}").json()["data"]["entries"]
            for month in (10, 11)
        ],
        "lists": {
            kind: release.say(kind, "list")[kind] for kind in ("keys", "users", "projects", "teams", "workspaces")
        },
        "prices": release.say("prices", "list", "--removed"),
        "secrets": fed["keys"],
        "calls": [list(call) for call in fed["calls"][::7]],
        "batch_ids": fed["batch_ids"],
        "entries": fed["entries"],
    }


def main() -> None:
    """Feed, ask, stop, and keep the ledger."""
    tree, version = Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        release = Release(tree, Path(folder))
        expected = expectations(release, feed(release, random.Random(version)))
        expected["secrets"]["admin"] = release.daemon.admin_key
        release.stop()
        database = release.daemon.database.read_bytes()
        expected["counts"] = {
            table: release.daemon.query(f"SELECT count(*) FROM {table}")[0][0]
            for table in ("event", "request", "record_batch", "month_entry", "adjustment", "api_key", "price_rule")
        }
        expected["schema"] = release.daemon.query("SELECT max(version) FROM schema_migration")[0][0]
    RELEASED.mkdir(exist_ok=True)
    (RELEASED / f"{version}.db.gz").write_bytes(gzip.compress(database, 9, mtime=0))
    (RELEASED / f"{version}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
