"""The demo: a sidecar on loopback, usage over every door, and the bill that comes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from costd.v1 import query_pb2, query_pb2_grpc, usage_pb2, usage_pb2_grpc

START_S = 30.0
CALLS = 60
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514", "gemini-2.5-pro", "text-embedding-3-small")
TEAMS = ("search", "support", "growth")

console = Console(width=None if sys.stdout.isatty() else 110)


class Sidecar:
    """A daemon of the demo's own, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ready_path = folder / "ready.json"
        command = [sys.executable, "-m", "costd", "run", "--data-dir", str(folder / "data")]
        command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", str(ready_path)]
        with (folder / "costd.log").open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_S
        while not ready_path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the sidecar did not start:\n{(folder / 'costd.log').read_text()}")
            time.sleep(0.02)
        self.ready: dict[str, Any] = json.loads(ready_path.read_text())
        self.key = Path(self.ready["admin_key_file"]).read_text().strip()

    def http(self, method: str, path: str, body: object = None) -> Any:
        """One HTTP call; the decoded answer."""
        request = urllib.request.Request(f"http://{self.ready['http']}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def main() -> None:
    """Run the demo; with --keep leave the sidecar running."""
    keep = "--keep" in sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="costd-demo-"))
    started_s = time.monotonic()
    sidecar = Sidecar(folder)
    console.print(f"[bold]costd[/] is ready after {time.monotonic() - started_s:.2f} s, data in {folder / 'data'}\n")
    rng = random.Random(7)
    try:
        with grpc.insecure_channel(f"unix:{sidecar.ready['socket']}") as channel:
            over_grpc(sidecar, channel, rng)
            over_http(sidecar, rng)
            by_the_month(sidecar)
            show_bill(sidecar, channel)
        show_state(sidecar)
    except BaseException:
        sidecar.stop()
        raise
    show_next(sidecar, keep=keep)
    if not keep and sidecar.stop():
        sys.exit("the sidecar did not stop cleanly")


def over_grpc(sidecar: Sidecar, channel: grpc.Channel, rng: random.Random) -> None:
    """Preflight and record over gRPC, on the unix socket; one record is sent twice and counts once."""
    stub = usage_pb2_grpc.UsageServiceStub(channel)
    metadata = (("authorization", f"Bearer {sidecar.key}"),)
    duplicates = 0
    for number in range(CALLS):
        dimensions = usage_pb2.Dimensions(
            source_app="demo", model=rng.choice(MODELS), user=f"user-{number % 7}", team=rng.choice(TEAMS)
        )
        tokens_in, tokens_out = rng.randint(200, 20_000), rng.randint(20, 2_000)
        if "embedding" in dimensions.model:
            tokens_out = 0
        units = [usage_pb2.Quantity(unit="input_tokens", count=tokens_in)]
        if tokens_out:
            units.append(usage_pb2.Quantity(unit="output_tokens", count=tokens_out))
        asked = stub.Preflight(
            usage_pb2.PreflightRequest(dimensions=dimensions, estimated_units=units), metadata=metadata
        )
        record = usage_pb2.RecordRequest(
            dimensions=dimensions, units=units, request_id=asked.request_id, latency_ms=rng.randint(200, 4000)
        )
        for _ in range(2 if number == 0 else 1):
            duplicates += stub.Record(record, metadata=metadata).duplicate
    console.print(
        f"gRPC   {CALLS} preflights, {CALLS} records, and one sent twice: {duplicates} duplicate, counted once"
    )


def over_http(sidecar: Sidecar, rng: random.Random) -> None:
    """The same over plain HTTP, a dashboard's way of tracking, and a model that nobody has a price for."""
    for number in range(CALLS // 2):
        call = {"user_external_id": f"user-{number % 5}", "source_app": "demo", "model": rng.choice(MODELS[:2])}
        units = {"input_tokens": rng.randint(500, 9000), "output_tokens": rng.randint(50, 900)}
        call["team"] = rng.choice(TEAMS)
        asked = sidecar.http("POST", "/v1/preflight", {**call, "estimated_units": units})
        answer = {**call, "request_id": asked["request_id"], "units": units, "latency_ms": 900, "status": "success"}
        sidecar.http("POST", "/v1/usage/record", answer)
    tracked = {"provider": "openai", "model": "gpt-4-turbo", "inputTokens": 1000, "outputTokens": 500, "flush": True}
    sidecar.http("POST", "/api/tokens/track", tracked)
    unknown = {"user_external_id": "user-1", "source_app": "demo", "model": "our-own-llama", "status": "success"}
    sidecar.http("POST", "/v1/usage/record", {**unknown, "units": {"input_tokens": 1200, "output_tokens": 90}})
    console.print(f"HTTP   {CALLS // 2} preflights and records, one tracked call, one of a model without a price")


def by_the_month(sidecar: Sidecar) -> None:
    """Bills and totals that come by the month."""
    now = time.gmtime()
    month = {"month": now.tm_mon, "year": now.tm_year}
    sidecar.http("POST", "/api/ingest", {"type": "cost", "service": "OpenAI", "data": {"amount": 125.5, **month}})
    tokens = {"tokens_used": 2_500_000, "cost": 45.75, **month}
    sidecar.http("POST", "/api/ingest", {"type": "tokens", "service": "Anthropic", "data": tokens})
    console.print("ingest one bill and one month of tokens\n")


def show_bill(sidecar: Sidecar, channel: grpc.Channel) -> None:
    """The bill by model and by team, from the rollups."""
    stub = query_pb2_grpc.QueryServiceStub(channel)
    for dimension in ("model", "team"):
        request = query_pb2.SummarizeRequest(group_by=[dimension])
        summary = stub.Summarize(request, metadata=(("authorization", f"Bearer {sidecar.key}"),))
        table = Table(title=f"The bill by {dimension}", title_justify="left", show_footer=True)
        table.add_column(dimension, footer="total")
        for name in ("requests", "input_tokens", "output_tokens", "unpriced"):
            table.add_column(name.replace("_", " "), justify="right", footer=f"{getattr(summary.total, name):,}")
        table.add_column("USD", justify="right", footer=summary.total.cost_usd)
        for row in summary.rows:
            numbers = (row.requests, row.input_tokens, row.output_tokens, row.unpriced)
            cost = "no price" if row.unpriced == row.requests else row.cost_usd
            table.add_row(row.dimensions[dimension] or "(none)", *(f"{number:,}" for number in numbers), cost)
        console.print(table)
    month = sidecar.http("GET", "/api/costs/all")["data"]
    console.print(f"\nThis month with the entries of bills: [bold]{month['total']} USD[/], {month['byProvider']}\n")


def show_state(sidecar: Sidecar) -> None:
    """How fresh it all is, and what Prometheus sees."""
    health = sidecar.http("GET", "/api/tracking-health")["data"]
    console.print(f"Freshness: [bold]{health['dataFreshness']}[/], buffer: {health['buffer']}\n")
    shown = ("costd_cost_usd_total", "costd_records_", "costd_commit_duration_seconds_sum", "costd_queue_records")
    lines = [line for line in sidecar.http("GET", "/metrics").splitlines() if line.startswith(shown)]
    console.print(Panel("\n".join(lines), title="/metrics (excerpt)", title_align="left", highlight=True))


def show_next(sidecar: Sidecar, *, keep: bool) -> None:
    """Where to go from here."""
    data_dir = sidecar.folder / "data"
    costd = Path(sys.executable).with_name("costd")
    if not keep:
        console.print(
            "\nDone; the sidecar is stopped. [bold]make demo KEEP=1[/] leaves it running, [bold]make run[/] "
            "starts one that stays. README.md says how services use it."
        )
        return
    script = "\n".join(
        (
            f"export COSTD={sidecar.ready['http']} KEY=$(cat {sidecar.ready['admin_key_file']})",
            'curl -H "Authorization: Bearer $KEY" http://$COSTD/api/costs/all',
            "curl http://$COSTD/metrics",
            f"{os.path.relpath(costd)} report --by model,team --data-dir {data_dir}",
            f"kill {sidecar.ready['pid']}   # ends it",
        )
    )
    console.print("\nThe sidecar goes on running:")
    console.print(Syntax(script, "bash", background_color="default", word_wrap=False))


if __name__ == "__main__":
    main()
