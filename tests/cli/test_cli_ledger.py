"""Commands on a ledger: through the daemon that holds it, through an address, and without a daemon."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from costd.store.lock import FolderLock
from harness import Daemon, clean_env, costd

Launch = Callable[..., Daemon]


def record(daemon: Daemon, **changes: Any) -> dict[str, Any]:
    """Send one record over HTTP; the answer."""
    body = {
        "user_external_id": "u1",
        "source_app": "shop",
        "provider": "openai",
        "model": "gpt-4o",
        "units": {"input_tokens": 1000, "output_tokens": 10},
        "status": "success",
    }
    answer = daemon.client.post("/v1/usage/record", json=body | changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def answer(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> Any:
    """What a command prints with --json; stdout is that and nothing else."""
    done = costd(*arguments, "--json", env=env)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def ways(launch: Launch) -> Callable[[], list[tuple[str, list[str], dict[str, str]]]]:
    """A ledger with three records, and each way there is to it; the last is without a daemon, which then has ended."""
    daemon = launch()
    record(daemon, request_id="first", team="red", latency_ms=120, feature_tags=["b", "a"])
    record(daemon, request_id="failed", team="blue", status="error")
    record(daemon, request_id="odd", team="red", model="model-nobody-knows", provider="nobody", units={"chars": 5})
    folder = ["--data-dir", str(daemon.data_dir)]

    def each() -> Any:
        yield "socket", folder, {}
        yield "address", ["--address", daemon.grpc, "--key", daemon.admin_key], {}
        yield "variables", [], {"COSTD_ADDRESS": daemon.grpc, "COSTD_KEY": daemon.admin_key}
        assert daemon.stop() == 0
        yield "stopped", folder, {}

    return each


def test_every_command_answers_the_same_on_every_way(ways: Callable[[], Any]) -> None:
    """Reports, records and checks are alike, whether a daemon runs or not."""
    seen = []
    for _, options, env in ways():
        report = answer("report", "--by", "team,model", *options, env=env)
        first = answer("show", "first", *options, env=env)
        seen.append((report, first, answer("check", *options, env=env)))
    assert len(seen) == 4
    assert all(entry == seen[0] for entry in seen)
    report, first, check = seen[0]
    assert [(row["team"], row["model"]) for row in report["rows"]][-1] == ("red", "model-nobody-knows")
    total = report["total"]
    # gpt-4o: $2.50 and $10 a million, twice.
    assert total.pop("cost_usd") == "0.0052"
    assert total == {"requests": 3, "errors": 1, "input_tokens": 2000, "output_tokens": 20, "unpriced": 1}
    assert sum(Decimal(row["cost_usd"]) for row in report["rows"]) == Decimal("0.0052")
    assert (first["request_id"], first["cost_usd"], first["latency_ms"]) == ("first", "0.0026", 120)
    assert first["dimensions"]["team"] == "red"
    assert first["units"] == {"input_tokens": "1000", "output_tokens": "10"}
    assert check["ok"]
    assert check["findings"] == []


def test_keys_made_listed_and_revoked_on_every_way(ways: Callable[[], Any]) -> None:
    for way, options, env in ways():
        made = answer("keys", "create", way, "--role", "read", "--team", "red", *options, env=env)
        assert set(made) == {"id", "name", "key", "key_prefix"}
        assert made["key"].startswith("ct_live_")
        listed = {key["name"]: key for key in answer("keys", "list", *options, env=env)["keys"]}
        assert (listed[way]["roles"], listed[way]["team"], listed[way]["revoked"]) == (["read"], "red", None)
        assert made["key"] not in json.dumps(listed)
        assert answer("keys", "revoke", made["id"], *options, env=env)["revoked"]
        absent = costd("keys", "revoke", "nobody", *options, env=env)
        assert absent.returncode == 1
        assert "nobody" in absent.stderr


def test_a_change_is_in_force_when_the_command_returns(launch: Launch) -> None:
    daemon = launch()
    key = daemon.key("web", role="read")
    asking = {"Authorization": f"Bearer {key}"}
    assert daemon.client.get("/api/tokens", headers=asking).status_code == 200
    costd("keys", "revoke", "web", "--data-dir", str(daemon.data_dir))
    assert daemon.client.get("/api/tokens", headers=asking).status_code == 401


def test_a_key_can_be_made_before_the_first_start(tmp_path: Path, launch: Launch) -> None:
    made = costd("keys", "create", "early", "--data-dir", str(tmp_path / "data"))
    assert made.returncode == 0, made.stderr
    # The secret stands alone on stdout: KEY=$(costd keys create …)
    secret = made.stdout.strip()
    assert secret.startswith("ct_live_")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert record(launch(), request_id="x")["duplicate"] is False
    assert secret not in made.stderr


def test_status_tells_of_a_running_and_of_a_stopped_daemon(launch: Launch) -> None:
    daemon = launch()
    record(daemon)
    folder = ["--data-dir", str(daemon.data_dir)]
    running = answer("status", *folder)
    assert (running["state"], running["events"], running["accepted"]) == ("ok", 1, 1)
    assert (running["grpc"], running["http"], running["socket"]) == (
        daemon.grpc, daemon.ready["http"], daemon.socket,
    )  # fmt: skip
    assert running["providers"]["openai"]["freshness"] == "fresh"
    assert "openai" in costd("status", *folder).stdout
    daemon.kill()
    stopped = answer("status", *folder)
    assert (stopped["state"], stopped["events"], stopped["grpc"]) == ("stopped", 1, None)


def test_health_says_yes_only_while_a_daemon_is_ready(launch: Launch) -> None:
    daemon = launch()
    near, far = ["--data-dir", str(daemon.data_dir)], ["--address", daemon.grpc]
    for options in (near, far, [*far, "--service", "costd.v1.UsageService"]):
        assert answer("health", *options) == {"ready": True, "status": "SERVING", "reason": ""}
    assert costd("health", *far, "--service", "no.such.Service").returncode == 1
    daemon.kill()
    for options in (near, far):
        gone = costd("health", *options)
        assert (gone.returncode, gone.stdout) == (1, "")
        assert gone.stderr.startswith("costd: not ready")


def test_tables_show_values_in_full_and_what_is_unpriced_as_such(launch: Launch) -> None:
    daemon = launch()
    long = "model-" + "x" * 200
    record(daemon, model=long, provider="nobody")
    record(daemon)
    table = costd("report", "--by", "model,user", "--data-dir", str(daemon.data_dir)).stdout
    assert long in table
    assert "unpriced: 1" in table
    assert "$0.0026 + unpriced: 1" in table
    assert "$0 " not in table


def test_csv_has_a_line_for_each_row(launch: Launch) -> None:
    daemon = launch()
    record(daemon, project_external_id='a "quoted", one')
    done = costd("report", "--by", "project", "--csv", "--data-dir", str(daemon.data_dir))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["project"], row["requests"], row["cost_usd"]) for row in rows] == [('a "quoted", one', "1", "0.0026")]


def test_reports_can_be_narrowed_by_time_and_by_filter(launch: Launch) -> None:
    daemon = launch()
    record(daemon, team="red")
    record(daemon, team="blue")
    folder = ["--data-dir", str(daemon.data_dir)]
    assert [row["team"] for row in answer("report", "--by", "team", "--filter", "team=red", *folder)["rows"]] == ["red"]
    assert answer("report", "--since", "2020-01-01", "--until", "2020-01-31", *folder)["rows"] == []
    assert answer("report", "--by", "", "--since", "all", *folder)["total"]["requests"] == 2
    hours = answer("report", "--by", "", "--bucket", "hour", "--since", "2h", *folder)["rows"]
    assert sum(row["requests"] for row in hours) == 2
    assert all(row["time"].endswith(":00:00Z") for row in hours)


# --- refusals and exit codes -------------------------------------------------------------------------------------


def refused(code: int, *arguments: str, env: dict[str, str] | None = None) -> str:
    """The one line on stderr of a command that fails with `code`."""
    done = costd(*arguments, env=env)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("costd: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_second_daemon_is_refused_and_the_first_goes_on(launch: Launch) -> None:
    daemon = launch()
    said = refused(4, "run", "--data-dir", str(daemon.data_dir), "--grpc-listen", "127.0.0.1:0")
    assert f"process {daemon.process.pid}" in said
    assert record(daemon)["cost_usd"] == 0.0026


def test_a_held_folder_that_cannot_be_reached_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from costd.cli import connection
    from costd.cli.options import Reach
    from costd.domain.errors import DataFolderHeld

    monkeypatch.setattr(connection, "_ATTEMPTS", 2)
    with FolderLock.acquire(tmp_path):
        with (
            pytest.raises(DataFolderHeld, match=f"process {os.getpid()}"),
            connection.connected(Reach(data_dir=str(tmp_path))),
        ):
            pass
        assert costd("health", "--data-dir", str(tmp_path)).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["run", "--bogus"], "--bogus"),
        (["run", "--grpc-listen", "7430"], "--grpc-listen = '7430'"),
        (["run", "--http-listen", "0.0.0.0:0"], "needs TLS"),
        (["config", "show", "--config", "/none.toml"], "--config"),
        (["report", "--by", "colour"], "--by = 'colour'"),
        (["report", "--since", "yesterday"], "--since"),
        (["report", "--since", "1d", "--until", "2d"], "--until"),
        (["report", "--filter", "team"], "--filter"),
        (["report", "--json", "--csv"], "--json and --csv"),
        (["keys", "create", "x", "--role", "king"], "--role"),
        (["status", "--address", "nowhere"], "--address"),
        (["status", "--address", "a:1", "--data-dir", "/d"], "--address"),
        (["status", "--address", "a:1", "--ca", "/none.pem"], "--ca"),
        (["status", "--address", "a:1", "--key", "k\n"], "--key"),
        (["status", "--data-dir", "/nowhere/at/all"], "must hold a ledger"),
    ],
)
def test_a_wrong_command_line_ends_with_two_and_names_what_is_wrong(
    arguments: list[str], part: str, tmp_path: Path
) -> None:
    assert part in refused(2, *arguments, env={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)})


def test_a_run_without_its_certificate_ends_with_two(tmp_path: Path) -> None:
    folder = ["--data-dir", str(tmp_path / "data"), "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    done = costd("run", *folder, "--tls-cert", "/none.pem", "--tls-key", "/none.key")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("costd: --tls-cert = '/none.pem'")


def test_what_a_terminal_would_obey_is_shown_as_an_escape() -> None:
    from costd.cli.output import safe

    assert safe("\x1b[31mred\r\n\u202eä") == "\\x1b[31mred\\r\\n\\u202eä"


def test_a_typed_folder_without_a_ledger_is_left_as_it_is(tmp_path: Path) -> None:
    refused(2, "report", "--data-dir", str(tmp_path / "typo"))
    assert not list(tmp_path.iterdir())


def test_no_daemon_or_a_refused_key_ends_with_three(launch: Launch) -> None:
    daemon = launch()
    weak = daemon.key("weak", role="ingest")
    assert "no answer from 127.0.0.1:1" in refused(3, "status", "--address", "127.0.0.1:1")
    assert "--key" in refused(3, "status", "--address", daemon.grpc)
    wrong = refused(3, "status", "--address", daemon.grpc, "--key", "ct_live_wrong")
    assert "ct_live_wrong" not in wrong
    assert "admin" in refused(3, "status", "--address", daemon.grpc, "--key", weak)
    assert "TLS" in refused(3, "status", "--address", daemon.ready["http"])


def test_what_is_not_there_ends_with_one(launch: Launch) -> None:
    folder = ["--data-dir", str(launch().data_dir)]
    assert '"nothing"' in refused(1, "show", "nothing", *folder)
    assert '"nothing"' in refused(1, "keys", "revoke", "nothing", *folder)


def test_a_ledger_that_does_not_add_up_ends_a_check_with_one(launch: Launch) -> None:
    import sqlite3

    daemon = launch()
    record(daemon)
    daemon.stop()
    with sqlite3.connect(daemon.database) as connection:
        connection.execute("UPDATE rollup SET cost_nano = cost_nano + 1")
    connection.close()
    found = answer("check", "--data-dir", str(daemon.data_dir), code=1)
    assert found["ok"] is False
    assert found["findings"]


def test_a_damaged_database_ends_with_four_and_says_the_way_out(launch: Launch) -> None:
    daemon = launch()
    daemon.stop()
    for path in daemon.data_dir.glob("costd.db*"):
        path.write_bytes(b"this is no database " * 1000)
    for command in ("status", "run"):
        assert "costd does not start over by itself" in refused(4, command, "--data-dir", str(daemon.data_dir))


def test_a_reader_that_leaves_and_an_interrupt_are_quiet(launch: Launch) -> None:
    daemon = launch()
    for number in range(30):
        record(daemon, model=f"model-{number}-{'x' * 240}", provider="nobody")
    command = [sys.executable, "-m", "costd", "report", "--json", "--by", "model", "--data-dir", str(daemon.data_dir)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": clean_env()}
    for words in (command, [word for word in command if word != "--json"]):
        with subprocess.Popen(words, **pipes) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert (process.stderr.read(), process.wait()) == (b"", 141)
    # A daemon that is stopped does not answer: the command waits, and is interrupted.
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        # Whoever runs the suite in the background has it ignore interrupts, and so would every child.
        heed: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        with subprocess.Popen([*command[:3], "check", *command[-2:]], **pipes, **heed) as process:
            assert process.stderr is not None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            process.send_signal(signal.SIGINT)
            assert (process.wait(10), process.stderr.read()) == (130, b"")
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_output_that_cannot_be_written_is_said_and_one_nobody_wants_is_not(option: list[str]) -> None:
    command = [sys.executable, "-m", "costd", "config", "show", *option]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=clean_env(), check=False)
    assert done.returncode == 5
    assert done.stderr == "costd: cannot write: [Errno 28] No space left on device\n"
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    assert subprocess.run(closed, check=True, capture_output=True, env=clean_env()).stderr == b""


def test_a_daemon_with_tls_is_reached_with_its_authority(launch: Launch, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_certs.py"
    subprocess.run([sys.executable, script, tmp_path / "certs"], check=True, stdout=subprocess.DEVNULL)
    pair = [
        f"--tls-{kind}={tmp_path}/certs/{file}" for kind, file in (("cert", "server.pem"), ("key", "server-key.pem"))
    ]
    daemon = launch(*pair, "--grpc-socket", "off")
    port = daemon.grpc.rpartition(":")[2]
    far = ["--address", f"localhost:{port}", "--key", daemon.admin_key]
    authority = ["--ca", str(tmp_path / "certs" / "ca.pem")]
    assert answer("status", *far, *authority)["state"] == "ok"
    assert answer("status", *far, env={"COSTD_CA": authority[1]})["state"] == "ok"
    # Without a socket the data folder leads to the TLS door as well.
    assert answer("status", "--data-dir", str(daemon.data_dir), *authority)["state"] == "ok"
    assert "TLS" in refused(3, "status", *far)


def test_config_show_prints_what_a_run_would_use(tmp_path: Path) -> None:
    shown = answer("config", "show", "--data-dir", str(tmp_path), env={"COSTD_LOG_LEVEL": "debug", "COSTD_PORT": "1"})
    assert shown["settings"]["data_dir"] == {"value": str(tmp_path), "origin": "--data-dir"}
    assert shown["settings"]["log.level"] == {"value": "debug", "origin": "COSTD_LOG_LEVEL"}
    assert shown["warnings"] == ["COSTD_PORT is not a setting and is ignored"]
    table = costd("config", "show", "--insecure", "--http-listen", "0.0.0.0:1")
    assert table.returncode == 0
    assert "0.0.0.0:1" in table.stdout


def test_help_and_version_are_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys; from costd.cli.main import _run; _run([sys.argv[1]]); print(sorted(m for m in sys.modules if m.split('.')[0] in {'grpc', 'aiohttp', 'rich', 'google', 'asyncio'}))"  # noqa: E501
    for argument in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("[]")
        assert "costd" in done.stdout
