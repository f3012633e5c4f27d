"""`costd backup`: a copy of the ledger in one file, while records keep coming."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json
from costd.cli.patience import ended_by_a_signal
from costd.cli.progress import progress
from costd.cli.suggestions import files
from costd.config import Config
from costd.domain.errors import ConfigError
from costd.store import backup, ledger_file
from costd.store.connection import DATABASE_NAME
from costd.store.part_file import part_path

#: What the daemon needs on its own disk while a backup is made there, besides its reserve: its log grows meanwhile.
_LOG_ROOM_BYTES = 64 << 20
#: The copy yields to the daemon, and to whoever calls it.
_NICENESS = 10

NOT_IN_IT = "the configuration, TLS files and admin.key are not in it: keep them where you keep your secrets"


@click.command("backup", epilog="Example: costd backup /backup/costd-2026-11-24.db")
@click.argument("target", metavar="FILE", shell_complete=files)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@daemon_options
@json_option
def command(target: str, reach: Reach, *, force: bool, as_json: bool) -> None:
    """Copy the ledger into FILE, whether or not a daemon is running on it.

    The copy is of one moment, and is proved before it gets its name: its database is sound, its rollups equal its
    events. FILE is for its owner alone. `costd restore` puts it back.
    """
    config = local_config(reach, "costd backup FILE")
    database, place = config.data_dir / DATABASE_NAME, _place(target, config.data_dir, force=force)
    if not ledger_file.is_there(config.data_dir):
        raise ConfigError(config.written("data_dir"), str(config.data_dir), "must hold a ledger; there is none to copy")
    is_same_disk = config.data_dir.stat().st_dev == place.parent.stat().st_dev
    spare_bytes = config.disk.reserve_bytes + _LOG_ROOM_BYTES if is_same_disk else 0
    os.nice(_NICENESS)
    started_s = time.monotonic()
    with progress("backup") as told:
        made = ended_by_a_signal(
            lambda stopped: backup.back_up(database, place, spare_bytes=spare_bytes, told=told, stopped=stopped),
            lambda: part_path(place).unlink(missing_ok=True),
        )
    _print(made, time.monotonic() - started_s, as_json=as_json)


def local_config(reach: Reach, words: str) -> Config:
    """The configuration of a data folder on this machine; ConfigError for a daemon elsewhere, saying what to do."""
    if reach.address is not None:
        allowed = (
            f"is a daemon elsewhere: this works on the files of a data folder. Run `{words}` on that machine, "
            "as the daemon's user, or name a folder here with --data-dir"
        )
        raise ConfigError("--address", reach.address, allowed)
    return reach.load().config


def _place(target: str, data_dir: Path, *, force: bool) -> Path:
    place = Path(os.path.abspath(os.path.expanduser(target)))
    if not os.path.isdir(place.parent):  # no method of Path: those raise where they may not look
        raise ConfigError("FILE", target, "must be in a folder that is there")
    if place.parent.resolve() == data_dir.resolve():
        raise ConfigError("FILE", target, "must not be in the data folder: what loses the ledger would lose it too")
    if os.path.lexists(place) and not os.path.isfile(place):
        raise ConfigError("FILE", target, "must be a file; it is something else")
    if os.path.lexists(place) and not force:
        raise ConfigError("FILE", target, "is there already; give another name, or --force to replace it")
    return place


def _print(made: backup.Backup, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "path": str(made.path),
                "bytes": made.size,
                "events": made.contents.events,
                "last_seq": made.contents.last_seq,
                "schema": made.contents.schema,
                "seconds": round(seconds, 3),
                "sha256": made.sha256,
            }
        )
        return
    held = f"{made.contents.events:,} records, up to number {made.contents.last_seq:,}"
    click.echo(f"{made.path}: {held}; {made.size:,} bytes in {seconds:.1f} s, verified")
    click.echo(f"sha256 {made.sha256}")
    click.echo(NOT_IN_IT, err=True)
