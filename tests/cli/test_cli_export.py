"""`costd export`: every record in its one form, into a pipe or a file that is whole or not there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from callers import stubs
from costd.v1 import records_pb2, usage_pb2
from harness import Daemon, clean_env, costd
from record_calls import export, import_file, record, send
from rpc_calls import details_of, refusal_of

JSONL = (
    '{"id":"snap-1","time":"2026-01-02T03:04:05.678Z","source_app":"snap","team":"red","project":"p1","user":"=u,1",'
    '"provider":"openai","model":"gpt-4o","prompt_key":"sum","prompt_version":"3","tags":["a","b"],'
    '"endpoint":"chat/completions","status":"timeout","job":"j1","latency_ms":120,'
    '"units":{"input_tokens":1000,"output_tokens":10,"cache_read_tokens":5,"gpu_seconds":0.0000015,"zebras":0},'
    '"price_context":{"a;b":"c=d"},"cost_usd":"2.5","cost_source":"caller","key_id":"KEY"}\n'
    '{"id":"snap-2","time":"2026-01-02T03:04:06.000Z","source_app":"snap","provider":"nobody","model":"none",'
    '"status":"success","cost_usd":null,"key_id":"KEY"}\n'
)
CSV = (
    "id,time,source_app,workspace,team,project,product,user,provider,model,prompt_key,prompt_version,tags,endpoint,status,"
    "job,latency_ms,input_tokens,output_tokens,cache_read_tokens,cache_write_tokens,output_reasoning_tokens,other_units,"
    "price_context,cost_usd,cost_source,price_version,key_id\n"
    'snap-1,2026-01-02T03:04:05.678Z,snap,,red,p1,,"\'=u,1",openai,gpt-4o,sum,3,"a,b",chat/completions,timeout,j1,120,1000,10,'
    "5,,,gpu_seconds=0.0000015;zebras=0,a\\;b=c\\=d,2.5,caller,,KEY\n"
    "snap-2,2026-01-02T03:04:06.000Z,snap,,,,,,nobody,none,,,,,success,,,,,,,,,,,,,KEY\n"
)


def rows() -> list[usage_pb2.RecordRequest]:
    units = [("input_tokens", 1000), ("output_tokens", 10), ("cache_read_tokens", 5), ("zebras", 0)]
    first = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(
            source_app="snap", team="red", project="p1", user="=u,1", provider="openai", model="gpt-4o", job="j1",
            prompt_key="sum", prompt_version="3", tags=["b", "a"], endpoint="chat/completions",
        ),
        units=[usage_pb2.Quantity(unit=unit, count=count) for unit, count in units],
        status="timeout", latency_ms=120, time_ms=1_767_323_045_678, request_id="snap-1", cost_nano_usd=2_500_000_000,
        price_context={"a;b": "c=d"},
    )  # fmt: skip
    first.units.add(unit="gpu_seconds", decimal="0.0000015")
    second = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(source_app="snap", provider="nobody", model="none"),
        time_ms=1_767_323_046_000,
        request_id="snap-2",
    )
    return [first, second]


def test_both_formats_to_the_byte(daemon: Daemon) -> None:
    with stubs(daemon) as services:
        send(services, rows())
        key = str(daemon.query("SELECT id FROM api_key")[0][0])
        assert export(services, source_app="snap").replace(key, "KEY") == JSONL
        assert export(services, "csv", source_app="snap").replace(key, "KEY") == CSV


def test_every_way_to_a_ledger_gives_the_same(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    """Through the daemon that holds it, by address, and without a daemon; to stdout and to a file."""
    daemon = launch()
    with stubs(daemon) as services:
        send(services, rows())
    ways = [["--data-dir", str(daemon.data_dir)], ["--address", daemon.grpc, "--key", daemon.admin_key]]
    seen = [costd("export", "--format", "csv", *way).stdout for way in ways]
    assert daemon.stop() == 0
    path = tmp_path / "out.CSV"
    path.write_text("what was there before")
    done = costd("export", "--output", str(path), "--json", *ways[0])
    assert json.loads(done.stdout) == {
        "file": str(path), "format": "csv", "records": 2, "bytes": path.stat().st_size,
    }  # fmt: skip
    seen.append(path.read_text())
    assert seen[0].count("\n") == 3
    assert seen == [seen[0]] * 3
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_times_and_filters_choose_records(daemon: Daemon, tmp_path: Path) -> None:
    """Exactly, not by the hour; a team that a project was assigned to later counts as in reports."""
    path = tmp_path / "f.jsonl"
    moments = ("2025-12-31T23:59:59.999Z", "2026-01-01T00:00:00Z", "2026-01-31T23:59:59.999Z", "2026-02-01T00:00:00Z")
    lines = [record(id=f"t{n}", source_app="times", time=moment, user=f"u{n}") for n, moment in enumerate(moments)]
    path.write_text("".join(lines))
    assert import_file(daemon, path)["new"] == 4
    folder = ["--data-dir", str(daemon.data_dir), "--filter", "source_app=times"]
    january = costd("export", "--since", "2026-01-01", "--until", "2026-01-31", *folder).stdout
    assert re.findall(r'"id":"(t\d)"', january) == ["t1", "t2"]
    one = costd("export", "--filter", "user=u3", *folder).stdout
    assert re.findall(r'"id":"(t\d)"', one) == ["t3"]
    assert costd("export", "--filter", "user=nobody", *folder).stdout == ""
    for flags, says in (
        (["--since", "2026-02-01", "--until", "2026-01-01"], "--until"),
        (["--filter", "colour=red"], "--filter"),
        (["--json"], "--output"),
    ):
        done = costd("export", *flags, *folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


def test_corrections_show(launch: Callable[..., Daemon]) -> None:
    """What was taken back is left out; what was re-rated has its present cost and price."""
    daemon = launch()
    folder = ["--data-dir", str(daemon.data_dir)]
    body = {"user_external_id": "u", "source_app": "x", "model": "house-model", "units": {"input_tokens": 1_000_000}}
    for number in range(3):
        answer = daemon.client.post("/v1/usage/record", json=body | {"request_id": f"c{number}"})
        assert answer.json()["cost_usd"] is None
    assert costd("void", "c1", "--reason", "test", *folder).returncode == 0
    done = costd("prices", "set", "house-model", "--input-per-mtok", "2", "--from", "2020-01-01", *folder)
    assert done.returncode == 0, done.stderr
    done = costd("prices", "reprice", "--yes", *folder)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in costd("export", *folder).stdout.splitlines()]
    assert [(line["id"], line["cost_usd"], line["cost_source"]) for line in lines] == [
        ("c0", "2", "override"),
        ("c2", "2", "override"),
    ]


def test_an_export_that_broke_off_is_gone_on_with(daemon: Daemon, tmp_path: Path) -> None:
    """From the position of any piece; what came in the meantime is not in it. Pieces are of a few hundred KiB."""
    path = tmp_path / "many.jsonl"
    path.write_text("".join(record(id=f"m{n}", source_app="many", user="u" * 200) for n in range(6_000)))
    assert import_file(daemon, path)["new"] == 6_000
    with stubs(daemon) as services:
        request = records_pb2.ExportRequest(format="csv", filters={"source_app": "many"})
        chunks = list(services.query.Export(request, metadata=services.metadata, timeout=30))
        assert len(chunks) > 3
        assert max(len(chunk.text) for chunk in chunks) < 1 << 20
        assert sum(chunk.records for chunk in chunks) == 6_000
        whole = b"".join(chunk.text for chunk in chunks)
        path.write_text(record(id="late", source_app="many"))
        import_file(daemon, path)
        for at in (0, 2, len(chunks) - 1):
            request.after, request.end = chunks[at].position, chunks[at].end
            rest = services.query.Export(request, metadata=services.metadata, timeout=30)
            begun = b"".join(chunk.text for chunk in chunks[: at + 1])
            assert begun + b"".join(chunk.text for chunk in rest) == whole


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": "xml"}, "format"),
        ({"filters": {"colour": "red"}}, "filters"),
        ({"after": -1}, "after"),
        ({"end": -1}, "end"),
        ({"since_ms": 5, "until_ms": 5}, "until_ms"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(daemon: Daemon, fields: dict[str, Any], named: str) -> None:
    with stubs(daemon) as services:
        call = services.query.Export(records_pb2.ExportRequest(**fields), metadata=services.metadata, timeout=20)
        error = refusal_of(lambda: list(call))
    assert error.code().name == "INVALID_ARGUMENT"
    assert list(details_of(error)[0]) == [named]


def test_a_key_that_may_not_read_gets_nothing(daemon: Daemon) -> None:
    done = costd("export", "--address", daemon.grpc, "--key", daemon.key("writer", role="ingest"))
    assert (done.returncode, done.stdout) == (3, "")
    assert '"read"' in done.stderr


def test_a_full_disk_leaves_what_was_there(daemon: Daemon, tmp_path: Path) -> None:
    """Brought about by a limit on the size of files; the error names the file, and no part stays."""
    many = tmp_path / "many.jsonl"
    many.write_text("".join(record(id=f"f{n}", source_app="full", user="u" * 200) for n in range(1_000)))
    import_file(daemon, many)
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    command = f"ulimit -f 100; exec {sys.executable} -m costd export --data-dir {daemon.data_dir} --output {path}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=clean_env(), check=False)
    assert done.returncode == 5
    assert done.stderr == f"costd: cannot write {path}: File too large; nothing of it was kept\n"
    assert path.read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["many.jsonl", "out.jsonl"]
    nowhere = costd("export", "--data-dir", str(daemon.data_dir), "--output", str(tmp_path / "no" / "x.csv"))
    assert nowhere.returncode == 5
    assert "No such file or directory" in nowhere.stderr


def test_an_export_outlasts_a_restart(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    """The daemon is stopped while somebody reads slowly, and comes back: no line is missing or there twice."""
    daemon = launch()
    path = tmp_path / "many.jsonl"
    path.write_text("".join(record(id=f"r{n}", user="u" * 250, team="t" * 250) for n in range(40_000)))
    import_file(daemon, path)
    command = [sys.executable, "-m", "costd", "export", "--data-dir", str(daemon.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_env()) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        assert daemon.stop() == 0
        launch()
        lines += process.stdout
        assert process.wait(60) == 0
    assert re.findall(rb'"id":"r(\d+)"', b"".join(lines)) == [str(n).encode() for n in range(40_000)]


def test_ctrl_c_leaves_no_part(daemon: Daemon, tmp_path: Path) -> None:
    """Nothing is left of the file; and whoever leaves before the end of a pipe is no mistake either."""
    other = harness.start(tmp_path / "other")
    many = tmp_path / "many.jsonl"
    many.write_text("".join(record(id=f"i{n}", user="u" * 250, team="t" * 250) for n in range(20_000)))
    import_file(other, many)
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "costd", "export", "--data-dir", str(other.data_dir), "--output"]
    process = subprocess.Popen([*command, str(path)], stdout=subprocess.DEVNULL, env=clean_env())
    slow = subprocess.Popen([*command, str(fifo)], stdout=subprocess.DEVNULL, env=clean_env())
    harness.until(lambda: [each for each in tmp_path.iterdir() if each.suffix == ".part"], "a part", 20)
    process.send_signal(signal.SIGINT)
    code = process.wait(20)
    assert code in {0, 130, -signal.SIGINT}  # 0 where it was done first, killed where it was just leaving
    assert [each for each in tmp_path.iterdir() if each.suffix == ".part"] == []
    with fifo.open("rb") as reader:
        assert reader.readline().startswith(b'{"id":"i0"')
    assert slow.wait(20) == 141
    other.kill()
