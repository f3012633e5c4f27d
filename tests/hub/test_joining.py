"""Joining a hub as operators do: by the key that `costd sources create` printed, over TLS, with files that change."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callers import BatchDoor, Call, GrpcDoor, send, summed
from certificates import make_certs
from harness import Daemon, costd, until

Launch = Callable[..., Daemon]


def make_source(hub: Daemon, name: str, *organizations: str) -> str:
    """The key of a new source."""
    named = [f"--org={organization}" for organization in organizations]
    made = costd("sources", "create", name, "--json", "--data-dir", str(hub.data_dir), *named)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["key"])


def source(hub: Daemon, name: str) -> dict[str, Any]:
    """What the hub says of a source."""
    listed = costd("sources", "list", "--json", "--data-dir", str(hub.data_dir))
    return next(one for one in json.loads(listed.stdout)["sources"] if one["name"] == name)


def record(sidecar: Daemon, first: int, count: int = 5) -> None:
    """Some records, kept."""
    outcomes = [send(GrpcDoor, sidecar, Call(number))[0] for number in range(first, first + count)]
    assert {outcome.word for outcome in outcomes} == {"kept"}, outcomes


def arrive(hub: Daemon, sidecar: Daemon) -> None:
    """Wait until the hub has counted what the sidecar has."""
    until(lambda: summed(hub) == summed(sidecar), f"{summed(sidecar)} to arrive; {sidecar.log[-2000:]}")


def replace(path: Path, source_path: Path) -> None:
    """Put a copy in a file's place, in one step."""
    new = path.with_name(f".{path.name}.new")
    shutil.copy(source_path, new)
    os.replace(new, path)


def test_the_two_printed_lines_are_all_a_sidecar_needs(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    made = costd("sources", "create", "web-1", "--org", "acme", "--data-dir", str(hub.data_dir))
    environment = dict(line.split("=", 1) for line in made.stdout.splitlines())
    sidecar = launch(env=environment)
    record(sidecar, 0)
    arrive(hub, sidecar)
    until(lambda: source(hub, "web-1")["lag_records"] == 0, "the lag to be told")
    told = source(hub, "web-1")
    assert (told["state"], told["organizations"], told["problem"], told["epochs"]) == ("connected", ["acme"], None, 1)
    assert (told["records"], told["host"] is not None, told["version"] is not None) == (5, True, True)
    assert hub.query("SELECT DISTINCT name FROM series JOIN org ON org.id = org_id") == [("acme",)]
    assert sidecar.stop() == 0
    until(lambda: source(hub, "web-1")["state"] == "away", "the hub to notice")


def test_a_road_with_certificates_at_both_ends_goes_on_when_all_of_them_are_renewed(
    launch: Launch, tmp_path: Path
) -> None:
    certs, others = make_certs(tmp_path / "certs"), make_certs(tmp_path / "others")
    mine = shutil.copytree(certs, tmp_path / "mine")  # the sidecar's own copies
    trusted = shutil.copy(certs / "ca.pem", tmp_path / "trusted.pem")
    tls = {"cert": certs / "server.pem", "key": certs / "server-key.pem", "client-ca": trusted}
    hub = launch(*(f"--tls-{name}={path}" for name, path in tls.items()), name="hub", command="hub")
    port = hub.grpc.rpartition(":")[2]
    shown = {"ca": mine / "ca.pem", "cert": mine / "client.pem", "cert-key": mine / "client-key.pem"}
    flags = [f"--hub-{name}={path}" for name, path in shown.items()]
    sidecar = launch(f"--hub=localhost:{port}", *flags, env={"COSTD_HUB_KEY": make_source(hub, "web-1")})
    record(sidecar, 0)
    arrive(hub, sidecar)
    # Another authority, another server, another client: first at the hub, then at the sidecar.
    replace(certs / "server-key.pem", others / "server-key.pem")
    replace(certs / "server.pem", others / "server.pem")
    replace(Path(trusted), others / "ca.pem")
    for name in ("client-key.pem", "client.pem", "ca.pem"):
        replace(mine / name, others / name)
    record(sidecar, 5)
    arrive(hub, sidecar)
    # A sidecar that shows the certificate of before is not let in any more, whatever its key.
    old = [f"--hub-ca={others / 'ca.pem'}", f"--hub-cert={tmp_path / 'certs' / 'client.pem'}"]
    old.append(f"--hub-cert-key={tmp_path / 'certs' / 'client-key.pem'}")
    stranger = launch(f"--hub=localhost:{port}", *old, name="other", env={"COSTD_HUB_KEY": make_source(hub, "web-2")})
    record(stranger, 100)
    record(sidecar, 10)
    arrive(hub, sidecar)
    assert source(hub, "web-2")["state"] == "never"


def test_a_key_in_a_file_is_replaced_without_a_restart(launch: Launch, tmp_path: Path) -> None:
    hub = launch(name="hub", command="hub")
    path = tmp_path / "hub.key"
    path.write_text("ct_live_" + "A" * 43)  # a stranger's: refused, and tried again
    sidecar = launch(f"--hub={hub.grpc}", f"--hub-key-file={path}", "--hub-name=web-1")
    record(sidecar, 0)
    replaced = tmp_path / "new.key"
    replaced.write_text(make_source(hub, "web-1") + "\n")
    os.replace(replaced, path)
    arrive(hub, sidecar)
    renewed = costd("sources", "create", "web-1", "--renew", "--json", "--data-dir", str(hub.data_dir))
    record(sidecar, 5)
    replaced.write_text(json.loads(renewed.stdout)["key"])
    os.replace(replaced, path)
    arrive(hub, sidecar)
    assert source(hub, "web-1")["epochs"] == 1


def test_files_that_are_not_there_yet_keep_no_sidecar_from_starting_and_joining_later(
    launch: Launch, tmp_path: Path
) -> None:
    certs = make_certs(tmp_path / "certs")
    hub = launch(
        f"--tls-cert={certs / 'server.pem'}", f"--tls-key={certs / 'server-key.pem'}", name="hub", command="hub"
    )
    key, ca = tmp_path / "hub.key", tmp_path / "ca.pem"
    address = f"localhost:{hub.grpc.rpartition(':')[2]}"
    sidecar = launch(f"--hub={address}", f"--hub-key-file={key}", f"--hub-ca={ca}")
    record(sidecar, 0)
    until(lambda: "--hub-ca" in sidecar.log or "--hub-key-file" in sidecar.log, "the missing file to be named")
    key.write_text(make_source(hub, "web-1"))
    shutil.copy(certs / "ca.pem", ca)
    arrive(hub, sidecar)


def test_the_doctor_looks_at_the_road_to_the_hub(launch: Launch, tmp_path: Path) -> None:
    hub = launch(name="hub", command="hub")
    (tmp_path / "hub.key").write_text(make_source(hub, "web-1"))
    (tmp_path / "hub.key").chmod(0o600)
    config = tmp_path / "costd.toml"

    def found(**settings: str) -> dict[str, str]:
        lines = [
            f'data_dir = "{tmp_path / "data"}"',
            "[hub]",
            *(f'{name} = "{text}"' for name, text in settings.items()),
        ]
        config.write_text("\n".join(lines))
        checks = json.loads(costd("doctor", "--json", "--config", str(config)).stdout)["checks"]
        return {check["name"]: f"{check['state']}: {check['found']}" for check in checks}

    well = found(address=hub.grpc, key_file="hub.key")
    assert (well["hub"], well["hub.key"][:2]) == (f"ok: {hub.grpc}, in the clear: it answers", "ok")
    (tmp_path / "hub.key").chmod(0o644)
    assert "others can read it" in found(address=hub.grpc, key_file="hub.key")["hub.key"]
    assert found(address=hub.grpc)["hub.key"] == "warn: no key is known here"
    assert found(address=hub.grpc, key_file="none")["hub.key"].startswith("fail: hub.key_file in ")
    assert found(address=hub.grpc, key_file="hub.key", ca="none")["hub"].startswith("fail: hub.ca in ")
    assert hub.stop() == 0
    assert found(address=hub.grpc, key_file="hub.key")["hub"] == f"warn: {hub.grpc}, in the clear: nobody answers"


def test_a_forgotten_source_records_on_and_is_let_in_no_more(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    sidecar = launch(f"--hub={hub.grpc}", env={"COSTD_HUB_KEY": make_source(hub, "web-1")})
    record(sidecar, 0)
    arrive(hub, sidecar)
    assert costd("sources", "forget", "web-1", "--data-dir", str(hub.data_dir)).returncode == 0
    record(sidecar, 5)
    until(lambda: "revoked" in sidecar.log or "unknown" in sidecar.log, "the sidecar to say why it is refused")
    assert (summed(hub)[0], summed(sidecar)[0]) == (5, 10)
    assert source(hub, "web-1")["state"] == "forgotten"


def test_a_sidecar_that_is_taken_for_another_is_refused_and_keeps_what_it_has(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_source(hub, "web-1")
    sidecar = launch(f"--hub={hub.grpc}", "--hub-name=web-2", env={"COSTD_HUB_KEY": key})
    record(sidecar, 0)
    until(lambda: "hub.name" in sidecar.log, "the refusal to be logged")
    assert (summed(hub)[0], summed(sidecar)[0]) == (0, 5)
    assert source(hub, "web-1")["state"] == "never"


def test_a_hub_at_its_size_limit_makes_its_sources_wait_and_gets_everything_once_there_is_room(
    launch: Launch,
) -> None:
    hub = launch("--storage-max-bytes=1MiB", name="hub", command="hub")
    sidecar = launch(f"--hub={hub.grpc}", env={"COSTD_HUB_KEY": make_source(hub, "web-1")})
    until(lambda: source(hub, "web-1")["state"] == "connected", "the sidecar to join")
    for first in range(0, 40_000, 1_000):
        outcomes = send_many(sidecar, first, 1_000)
        assert outcomes == {"kept"}
        if hub.client.get("/v1/health").status_code == 503:
            break
    else:
        raise AssertionError("the hub never filled up")
    assert send_many(sidecar, 50_000, 500) == {"kept"}
    assert hub.stop() == 0
    bigger = launch(f"--grpc-listen={hub.grpc}", name="hub", command="hub")
    arrive(bigger, sidecar)


def test_a_sidecar_at_its_size_limit_refuses_records_and_forwards_all_that_it_has(launch: Launch) -> None:
    hub = launch(name="hub", command="hub")
    key = make_source(hub, "web-1")
    assert hub.stop() == 0
    sidecar = launch("--storage-max-bytes=1MiB", f"--hub={hub.grpc}", env={"COSTD_HUB_KEY": key})
    for first in range(0, 40_000, 500):
        if "refused" in send_many(sidecar, first, 500):
            break
    else:
        raise AssertionError("the sidecar never filled up")
    hub = launch(f"--grpc-listen={hub.grpc}", name="hub", command="hub")
    arrive(hub, sidecar)
    assert summed(hub)[0] >= 500
    assert send_many(sidecar, 50_000, 10) == {"refused"}


def send_many(daemon: Daemon, first: int, count: int) -> set[str]:
    """What became of a batch of records with long ids."""
    calls = [Call(number, f"call-{number}-{'x' * 100}") for number in range(first, first + count)]
    return {outcome.word for outcome in send(BatchDoor, daemon, *calls)}
