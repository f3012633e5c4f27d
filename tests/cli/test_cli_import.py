"""`costd import`: everything looked at before anything is sent, each record once, mistakes named by line and field."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callers import stubs
from costd.v1 import usage_pb2
from harness import Daemon, clean_env, costd
from record_calls import export, import_file, record
from rpc_calls import details_of, refusal_of

CSV = "id,time,source_app,model,input_tokens,output_tokens\n"


@pytest.fixture
def empty(tmp_path: Path) -> list[str]:
    """Options for a folder in which nothing has been made yet; a file that is wrong must leave it so."""
    return ["--data-dir", str(tmp_path / "never")]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


WRONG: list[tuple[str, str | bytes, str]] = [
    ("garbage.jsonl", "hello\n", "line 1: it is not JSON"),
    ("array.jsonl", "[{}]\n", "line 1: must be an object, not an array"),
    ("broken.jsonl", record() + '{"id": "x", "ti\n' + record(id="y"), "line 2: it is not JSON"),
    ("latin.jsonl", record(user="ä").replace("\\u00e4", "ä").encode("latin-1"), "line 1"),
    ("wide.jsonl", record().encode("utf-16"), "is UTF-16; save it as UTF-8"),
    ("packed.jsonl", gzip.compress(record().encode()), "is compressed"),
    ("empty.jsonl", "", "has no records in it"),
    ("blank.jsonl", "\n \n", "has no records in it"),
    ("noid.jsonl", record(id=None), "line 1: id: is required"),
    ("notime.jsonl", record(time=None), "line 1: time: is required"),
    ("nomodel.jsonl", record(model=""), "line 1: model: is required"),
    ("oldtime.jsonl", record(time="1999-12-31T23:59:59Z"), "line 1: time: must be between 2000"),
    ("badtime.jsonl", record(time="yesterday"), "line 1: time: must be an RFC 3339 time"),
    ("future.jsonl", record(time="2099-01-01T00:00:00Z"), "line 1: time: must be between"),
    ("long.jsonl", record(user="u" * 257), "line 1: user: must be a string"),
    ("control.jsonl", record(user="a\nb"), "line 1: user: must not contain control characters"),
    ("tag.jsonl", record(tags=["a,b"]), "line 1: tags: must not contain a comma"),
    ("part.jsonl", record(units={"input_tokens": 1, "cache_read_tokens": 2}), "line 1: units.cache_read_tokens: is 2"),
    ("minus.jsonl", record(units={"input_tokens": -1}), "line 1: units.input_tokens: must not be negative"),
    ("nan.jsonl", record().replace("}", ', "latency_ms": NaN}'), "line 1: latency_ms: must be a finite number"),
    ("money.jsonl", record(cost_usd="1e9"), "line 1: cost_usd: must be an amount"),
    ("euro.jsonl", record(cost_usd=1, currency="EUR"), "line 1: currency: must be USD"),
    ("both.jsonl", record(request_id="other"), "line 1: request_id: differs from id"),
    ("wide line.jsonl", record(note="x" * 2_000_000) + "oops\n", "line 1: is longer than 1,024 KiB"),
    ("header.csv", "id,model\n", "line 1: the header has no column time or timestamp"),
    ("twice.csv", "id,time,model,id\n", 'line 1: the header names the column "id" twice'),
    ("cells.csv", CSV + "a,2026-01-01T00:00:00Z,shop,gpt-4o,1\n", "line 2: has 5 cells; the header has 6"),
    ("number.csv", CSV + "a,2026-01-01T00:00:00Z,shop,gpt-4o,1e3,2\n", "line 2: input_tokens: must be a number"),
    ("quote.csv", CSV + 'a,"2026\n' + "b,c,d\n" * 3, "line 2"),
    ("none.csv", CSV, "has no records in it"),
    ("what.txt", record(), "give --format jsonl or --format csv"),
]


@pytest.mark.parametrize(("name", "text", "says"), WRONG, ids=[name for name, _, _ in WRONG])
def test_what_is_wrong_is_named_and_nothing_is_imported(
    name: str, text: str | bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way of the file is the same in this process; one of them goes through a process of its own below."""
    from costd.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["import", str(write(tmp_path / name, text)), "--data-dir", str(tmp_path / "never")])
    error = capsys.readouterr().err
    assert ended.value.code == 2, error
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "never").exists()


def test_many_wrong_lines_in_the_middle(tmp_path: Path, empty: list[str]) -> None:
    """Up to 20 lines are told, in one run."""
    lines = [record(id=str(number)) for number in range(100)]
    for at in range(40, 70):
        lines[at] = record(id=str(at), units={"input_tokens": "many"})
    done = costd("import", str(write(tmp_path / "f.jsonl", "".join(lines))), *empty)
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert told[0].endswith("line 41: units.input_tokens: must be a number")
    assert len(told) == 21
    assert told[-1].endswith("nothing was imported")
    assert not Path(empty[1]).exists()


def test_what_is_no_file_is_said_so(tmp_path: Path, empty: list[str]) -> None:
    for path, why in ((tmp_path / "absent.csv", "No such file"), (tmp_path, "")):
        done = costd("import", str(path), "--format", "csv", *empty)
        assert done.returncode == 2
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_record_counts_once_however_often_it_is_imported(daemon: Daemon, tmp_path: Path) -> None:
    """New, then already there; also where only some of a file are new; conflicts are listed by line."""
    lines = [record(id=f"once-{n}", user="once", units={"input_tokens": n}) for n in range(30)]
    path = write(tmp_path / "a.jsonl", "".join(lines[:20]))
    first = import_file(daemon, path)
    assert (first["records"], first["new"], first["already_there"]) == (20, 20, 0)
    assert import_file(daemon, path)["already_there"] == 20
    lines[3] = record(id="once-3", user="once", units={"input_tokens": 77})
    third = import_file(daemon, write(tmp_path / "b.jsonl", "".join(lines)), code=1)
    assert (third["new"], third["already_there"], third["conflicting"]) == (10, 19, 1)
    assert [(each["line"], each["id"]) for each in third["not_imported"]] == [(4, "once-3")]
    with stubs(daemon) as services:
        held = [json.loads(line) for line in export(services, user="once").splitlines()]
    assert [each["id"] for each in held] == [f"once-{n}" for n in range(30)]
    assert held[3]["units"] == {"input_tokens": 3}


def test_the_same_id_twice_in_a_file(daemon: Daemon, tmp_path: Path) -> None:
    again = record(id="twice", user="twice")
    path = write(tmp_path / "a.jsonl", again * 2 + record(id="twice", user="other"))
    found = import_file(daemon, path, code=1)
    assert (found["new"], found["already_there"], found["conflicting"]) == (1, 1, 1)
    assert found["not_imported"][0]["line"] == 3


def test_records_as_the_http_door_takes_them(daemon: Daemon, tmp_path: Path) -> None:
    """Other names of fields, the provider's own usage object, Unix seconds, a cost of the caller's own."""
    lines = [
        {
            "request_id": "http-1",
            "timestamp": 1_735_689_600.5,
            "user_external_id": "u7",
            "project_external_id": "p7",
            "job_external_id": "j7",
            "feature_tags": ["b", "a", "b"],
            "source_app": "http-form",
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "prompt_version": 3,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 2},
        },
        {
            "request_id": "http-2",
            "timestamp": "2025-01-01T01:00:00+01:00",
            "source_app": "http-form",
            "model": "whisper-1",
            "provider": "openai",
            "units": {"gpu_seconds": 1.5, "chars": 7},
            "cost_usd": 0.25,
            "unknown_field": {"is": "ignored"},
        },
    ]
    path = write(tmp_path / "h.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert import_file(daemon, path)["new"] == 2
    with stubs(daemon) as services:
        first, second = (json.loads(line) for line in export(services, source_app="http-form").splitlines())
    assert first["time"] == "2025-01-01T00:00:00.500Z"
    assert (first["user"], first["project"], first["job"], first["tags"]) == ("u7", "p7", "j7", ["a", "b"])
    assert (first["prompt_version"], first["cost_source"]) == ("3", "list")
    assert first["units"] == {"input_tokens": 15, "output_tokens": 2, "cache_read_tokens": 5}
    assert second["time"] == "2025-01-01T00:00:00.000Z"
    assert (second["cost_usd"], second["cost_source"]) == ("0.25", "caller")
    assert second["units"] == {"gpu_seconds": 1.5, "input_characters": 7}


def test_a_pipe_without_a_daemon_makes_the_ledger(tmp_path: Path) -> None:
    """Old history, from stdin, into a folder where nothing was: reports have it, and the ledger is sound."""
    folder = ["--data-dir", str(tmp_path / "data")]
    csv = CSV + "".join(f"old-{n},2011-0{1 + n % 9}-01T00:00:00Z,shop,gpt-4o,{n},1\n" for n in range(50))
    command = [sys.executable, "-m", "costd", "import", "-", "--format", "csv", *folder]
    done = subprocess.run(command, input=csv.encode(), capture_output=True, env=clean_env(), check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"50 records: 50 new, 0 already there, 0 conflicting\n"
    report = json.loads(costd("report", "--by", "", "--since", "all", "--json", *folder).stdout)
    assert report["total"]["requests"] == 50
    assert costd("check", *folder).returncode == 0


def test_a_dry_run_imports_nothing(tmp_path: Path, empty: list[str]) -> None:
    done = costd("import", str(write(tmp_path / "a.jsonl", record() * 3)), "--dry-run", *empty)
    assert done.returncode == 0, done.stderr
    assert "3 records" in done.stdout
    assert not Path(empty[1]).exists()


def test_only_an_admin_brings_history(daemon: Daemon, tmp_path: Path) -> None:
    """A key that records cannot reach back behind the limit on times."""
    key = daemon.key("recorder", role="ingest")
    path = write(tmp_path / "a.jsonl", record(id="forbidden"))
    done = costd("import", str(path), "--address", daemon.grpc, "--key", key)
    assert done.returncode == 3
    assert '"admin"' in done.stderr
    old = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(source_app="x", model="gpt-4o"), time_ms=1_262_304_000_000
    )
    with stubs(daemon) as services:
        batch = usage_pb2.RecordBatchRequest(rows=[old])
        plain = services.usage.RecordBatch(batch, metadata=services.metadata, timeout=20)
        assert [(each.field, plain.accepted) for each in plain.refusals] == [("time_ms", 0)]
        batch.history = True
        metadata = (("authorization", f"Bearer {key}"),)
        error = refusal_of(lambda: services.usage.RecordBatch(batch, metadata=metadata, timeout=20))
        assert error.code().name == "PERMISSION_DENIED", details_of(error)


def test_an_import_outlasts_a_restart_and_a_kill(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    """Killed in the middle, the daemon comes back: the import goes on, and everything is there once, in order."""
    daemon = launch()
    count = 60_000
    path = write(tmp_path / "many.jsonl", "".join(record(id=f"k-{n}", user=f"u{n % 50}") for n in range(count)))
    process = subprocess.Popen(
        [sys.executable, "-m", "costd", "import", str(path), "--data-dir", str(daemon.data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_env(),
        text=True,
    )
    while not daemon.query("SELECT 1 FROM event LIMIT 1"):
        assert process.poll() is None
    daemon.kill()
    again = launch()
    out, error = process.communicate(timeout=90)
    assert process.returncode == 0, error
    assert out.startswith(f"{count:,} records: ")
    assert again.query("SELECT count(*), count(DISTINCT request_id) FROM request") == [(count, count)]
    assert again.query("SELECT request_id FROM request ORDER BY seq DESC LIMIT 1") == [(f"k-{count - 1}",)]


def test_a_copy_of_stdin_that_has_no_room_is_said_so(tmp_path: Path) -> None:
    """A full temporary folder, brought about by a limit on the size of files."""
    command = f"ulimit -f 64; exec {sys.executable} -m costd import - --format jsonl --data-dir {tmp_path / 'never'}"
    text = (record(note="x" * 1000) * 500).encode()
    done = subprocess.run(["bash", "-c", command], input=text, capture_output=True, env=clean_env(), check=False)
    assert done.returncode == 5, done.stderr
    assert b"set TMPDIR" in done.stderr
    assert os.listdir(tmp_path) == []


def answered(daemon: Daemon, body: dict[str, Any]) -> None:
    assert daemon.client.post("/v1/usage/record", json=body).status_code == 200


def test_an_export_adds_nothing_where_it_came_from(daemon: Daemon, tmp_path: Path) -> None:
    """However records came in first: without ids, without a provider or a time, with a cost of their own."""
    body = {"user_external_id": "own", "source_app": "own", "model": "gpt-4o", "units": {"input_tokens": 5}}
    answered(daemon, body)
    answered(daemon, body | {"request_id": "own-1", "feature_tags": ["z", "a"], "cost_usd": 0.5})
    answered(daemon, body | {"request_id": "own-2", "model": "nobodys-model", "status": "timeout", "latency_ms": 4})
    with stubs(daemon) as services:
        text = export(services, source_app="own")
    found = import_file(daemon, write(tmp_path / "own.jsonl", text))
    assert (found["new"], found["already_there"]) == (0, 3)
    changed = [json.loads(line) for line in text.splitlines()]
    changed[0]["units"] = {"input_tokens": 6}
    changed[1]["cost_usd"] = "0.6"
    lines = "".join(json.dumps(each) + "\n" for each in changed)
    found = import_file(daemon, write(tmp_path / "changed.jsonl", lines), code=1)
    assert (found["new"], found["already_there"], found["conflicting"]) == (0, 1, 2)
