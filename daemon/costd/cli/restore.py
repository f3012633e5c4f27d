"""`costd restore`: a backup in the place of the ledger."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from costd.cli.backup import local_config
from costd.cli.options import Reach, daemon_options, json_option
from costd.cli.output import print_json
from costd.cli.patience import ended_by_a_signal
from costd.cli.progress import progress
from costd.cli.suggestions import files
from costd.clock import Clock
from costd.config import Config
from costd.domain.errors import ConfigError
from costd.services.admin_key import ADMIN_KEY_NAME
from costd.store import ledger_file, restore, restored
from costd.store.connection import DATABASE_NAME
from costd.store.folder import make_private
from costd.store.lock import FolderLock
from costd.store.part_file import part_path


@click.command("restore", epilog="Example: costd restore /backup/costd-2026-11-24.db --yes")
@click.argument("backup", metavar="FILE", shell_complete=files)
@click.option("--yes", is_flag=True, help="Do not ask before a ledger that is there is moved aside.")
@daemon_options
@json_option
def command(backup: str, reach: Reach, *, yes: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the ledger; no daemon may be running on it.

    The backup is copied and proved first; a ledger that is there is moved aside, not deleted. A backup made by an
    older costd is brought up to date at the next start.
    """
    config = local_config(reach, "costd restore FILE")
    source = Path(os.path.abspath(os.path.expanduser(backup)))
    if not os.path.isfile(source):  # no method of Path: those raise where they may not look
        raise ConfigError("FILE", backup, "must be a file that is there")
    database = config.data_dir / DATABASE_NAME
    if source.resolve() == database.resolve():
        raise ConfigError("FILE", backup, "is the ledger itself")
    restore.look(source)
    make_private(config.data_dir, config.written("data_dir"))
    with FolderLock.acquire(config.data_dir):
        restored.finish(database)
        if ledger_file.is_there(config.data_dir) or _log_of(database).exists():
            _confirm(database, yes=yes)
        with progress("restore") as told:
            done = ended_by_a_signal(
                lambda stopped: restore.restore(source, database, Clock().now_ms(), told=told, stopped=stopped),
                lambda: part_path(database).unlink(missing_ok=True),
            )
        note = _about_admin_key(config, database)
    _print(database, source, done, note, as_json=as_json)


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _confirm(database: Path, *, yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("data_dir", str(database.parent), "holds a ledger; give --yes to have it moved aside")
    click.confirm(f"{database} holds a ledger. Move it aside and put the backup in its place?", abort=True, err=True)


def _about_admin_key(config: Config, database: Path) -> str:
    """What is to be said of the keys: they are those of the backup, while admin.key stays what it was."""
    path = config.data_dir / ADMIN_KEY_NAME
    make_one = "`costd keys create NAME --role admin`, before the daemon starts, makes one"
    try:
        secret = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return f"keys are those of the backup; there is no {ADMIN_KEY_NAME} here. If you have no admin key, {make_one}"
    except (OSError, UnicodeDecodeError):
        return ""
    if restore.knows_key(database, secret):
        return ""
    return (
        f"keys are those of the backup, and the one in {path} is not among them. If you have no admin key, {make_one}"
    )


def _print(database: Path, source: Path, done: restore.Restored, note: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "path": str(database),
                "backup": str(source),
                "bytes": done.size,
                "events": done.contents.events,
                "last_seq": done.contents.last_seq,
                "schema": done.contents.schema,
                "replaced": None if done.replaced is None else str(done.replaced),
                "note": note or None,
            }
        )
        return
    held = f"{done.contents.events:,} records, up to number {done.contents.last_seq:,}"
    click.echo(f"{database}: {held}, from {source}")
    if done.replaced is not None:
        click.echo(f"the ledger before is {done.replaced}; delete it, and what is named like it, when you are sure")
    if note:
        click.echo(note, err=True)
