"""Records for the tests of exports and imports: sent as rows over gRPC, exported over gRPC, imported by the command."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from callers import Stubs
from costd.cli import importing
from costd.v1 import records_pb2, usage_pb2
from harness import Daemon


def send(services: Stubs, rows: Iterable[usage_pb2.RecordRequest], *, history: bool = True) -> Any:
    """Send records as one batch; all of them must be accepted."""
    request = usage_pb2.RecordBatchRequest(rows=rows, history=history)
    answer = services.usage.RecordBatch(request, metadata=services.metadata, timeout=30)
    assert answer.accepted == len(request.rows), list(answer.refusals)
    return answer


def export(services: Stubs, form: str = "jsonl", **filters: str) -> str:
    """The text of an export."""
    request = records_pb2.ExportRequest(format=form, filters=filters)
    chunks = services.query.Export(request, metadata=services.metadata, timeout=60)
    return b"".join(chunk.text for chunk in chunks).decode()


def import_file(daemon: Daemon, path: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """What `costd import --json` prints, run in this process against a real daemon."""
    arguments = [str(path), "--address", daemon.grpc, "--key", daemon.admin_key, "--json", *options]
    done = CliRunner().invoke(importing.command, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return dict(json.loads(done.stdout))


def record(**fields: Any) -> str:
    """A line of JSON Lines with what is required, and these."""
    plain = {"id": "r", "time": "2026-01-02T03:04:05Z", "source_app": "shop", "model": "gpt-4o"}
    return json.dumps(plain | fields) + "\n"
