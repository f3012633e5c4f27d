"""`costd doctor`: what is wrong with what costd stands on, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType

import click

from costd.cli.doctor_daemon import check_daemon, check_remote
from costd.cli.main import ANSWER_IS_NO
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json, print_table
from costd.clock import Clock
from costd.config import Config, load
from costd.domain.errors import CostdError
from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.services.doctor.clock import check_clock
from costd.services.doctor.disk import check_room, check_sync
from costd.services.doctor.folder import check_filesystem, check_folder
from costd.services.doctor.machine import check_open_files, check_versions
from costd.services.doctor.ports import check_ports, check_socket
from costd.store import ledger_probe, lock
from costd.store.connection import DATABASE_NAME
from costd.wire.outbound.hub_check import check_hub
from costd.wire.tls_check import check_tls

_COLOURS = MappingProxyType({OK: "green", WARN: "yellow", FAIL: "red"})


@click.command("doctor", epilog="Example: costd doctor --strict --config /etc/costd/costd.toml")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@daemon_options
@json_option
@click.pass_context
def command(context: click.Context, reach: Reach, *, strict: bool, as_json: bool) -> None:
    """Check the configuration, the data folder, disk, clock, database, prices, doors and the daemon.

    Changes nothing, and works whatever is broken. Exits 1 if a check failed. With --address it asks that daemon alone.
    """
    findings = _elsewhere(reach) if reach.address is not None else _here(reach)
    bad = {FAIL, WARN} if strict else {FAIL}
    is_well = not any(finding.state in bad for finding in findings)
    if as_json:
        print_json({"ok": is_well, "checks": [finding._asdict() for finding in findings]})
    else:
        _print(findings)
    if not is_well:
        context.exit(ANSWER_IS_NO)


def _print(findings: list[Finding]) -> None:
    rows = [[finding.state, finding.name, finding.found, finding.advice] for finding in findings]
    print_table(["", "check", "found", "what to do"], rows, colours=_COLOURS)
    counts = Counter(finding.state for finding in findings)
    click.echo(f"{counts[OK]} ok, {counts[WARN]} to look at, {counts[FAIL]} failed")


def _elsewhere(reach: Reach) -> list[Finding]:
    return [*_looked("daemon", lambda: check_remote(reach)), *_looked("versions", check_versions)]


def _here(reach: Reach) -> list[Finding]:
    config, findings = _configuration(reach)
    findings += _looked("versions", check_versions)
    if config is not None:
        findings += _folder_and_disk(config)
        findings += _ledger_and_clock(config)
        findings += _doors(config, reach)
    return findings


def _folder_and_disk(config: Config) -> list[Finding]:
    folder = config.data_dir
    return [
        *_looked("data folder", lambda: check_folder(folder)),
        *_looked("file system", lambda: check_filesystem(folder)),
        *_looked("free space", lambda: check_room(folder, config.disk.reserve_bytes)),
        *_looked("disk sync", lambda: check_sync(folder, Clock().monotonic_s)),
    ]


def _ledger_and_clock(config: Config) -> list[Finding]:
    clock = Clock()
    looked: list[ledger_probe.Looked] = []

    def look() -> list[Finding]:
        looked.append(ledger_probe.look(config.data_dir / DATABASE_NAME, clock.now_ms(), clock.monotonic_s))
        return looked[0].findings

    findings = _looked("database", look)
    last_commit_ms = looked[0].last_commit_ms if looked else None
    return [*_looked("clock", lambda: check_clock(clock.now_ms(), last_commit_ms)), *findings]


def _doors(config: Config, reach: Reach) -> list[Finding]:
    holder: list[int | None] = []

    def daemon() -> list[Finding]:
        holder.append(lock.holder(config.data_dir))
        return check_daemon(config.data_dir, holder[0], reach)

    findings = _looked("daemon", daemon)
    findings += _looked("open files", lambda: check_open_files(holder[0] if holder else None))
    tls = config.tls
    findings += _looked("tls", lambda: check_tls(tls.cert, tls.key, tls.client_ca, Clock().now_ms() / 1000))
    findings += _looked("hub", lambda: check_hub(config))
    if not holder or holder[0] is None:
        listeners = {"grpc.listen": config.grpc.listen, "http.listen": config.http.listen}
        findings += _looked("ports", lambda: check_ports(listeners))
        findings += _looked("grpc.socket", lambda: check_socket(config.grpc.socket))
    return findings


def _configuration(reach: Reach) -> tuple[Config | None, list[Finding]]:
    """What a daemon here would be told; where that is wrong, as much as is not, so that the rest can be looked at."""
    try:
        loaded = reach.load()
    except CostdError as error:
        findings = [Finding("configuration", FAIL, error.message, "`costd config init -` shows what may be set")]
    else:
        source = loaded.config.origins.get("config")
        about = f"{loaded.config.config} ({source})" if source else "no file: variables and defaults"
        odd = [Finding("configuration", WARN, text, "unset it, or give it its right name") for text in loaded.warnings]
        return loaded.config, odd or [Finding("configuration", OK, about)]
    plain = {name: os.environ[name] for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR") if name in os.environ}
    folder = {"COSTD_DATA_DIR": os.environ["COSTD_DATA_DIR"]} if "COSTD_DATA_DIR" in os.environ else {}
    for environ in (plain | folder, plain):
        try:
            config = load({"data_dir": reach.data_dir}, environ).config
        except CostdError:
            continue
        findings.append(Finding("configuration", WARN, f"the rest is of the defaults, with {config.data_dir}"))
        return config, findings
    return None, findings


def _looked(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """What `check` finds; that it could not look is a finding, too: a doctor who faints helps nobody."""
    try:
        return check()
    except Exception as error:
        about = error.message if isinstance(error, CostdError) else f"{type(error).__name__}: {error}"
        return [Finding(name, FAIL, f"could not be looked at ({about})", "run this as the daemon's user")]
