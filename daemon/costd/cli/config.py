"""`costd config`: what the settings come to, and a file to set them in."""

from __future__ import annotations

import os

import click

from costd.cli.config_file import commented_file
from costd.cli.options import json_option, setting_options
from costd.cli.output import print_json, print_table
from costd.cli.sink import sink
from costd.cli.suggestions import files
from costd.config import SIDECAR, Loaded
from costd.domain.errors import ConfigError


@click.group("config")
def command() -> None:
    """Look at the configuration, or begin one."""


@command.command("init", epilog="Example: costd config init /etc/costd/costd.toml")
@click.argument("file", default="costd.toml", metavar="[FILE]", shell_complete=files)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def init(file: str, *, force: bool) -> None:
    """Write FILE (costd.toml), with every setting, its default and what it means; - prints it.

    Everything in it is commented out: take away the mark of what you want to set.
    """
    if file != "-" and os.path.lexists(file) and not force:
        raise ConfigError("FILE", file, "is there already; give another name, or --force to replace it")
    with sink(None if file == "-" else file, "FILE") as write:
        write(commented_file().encode())
    if file != "-":
        click.echo(f"wrote {file}; `costd run --config {file}` uses it")


@command.command("show", epilog="Example: costd config show --config /etc/costd/costd.toml")
@setting_options(SIDECAR)
@json_option
def show(loaded: Loaded, *, as_json: bool) -> None:
    """Print every setting's value and where it comes from, secrets hidden.

    Takes the flags of `costd run` and reads the same file and variables.
    """
    for warning in loaded.warnings:
        click.echo(f"costd: {warning}", err=True)
    shown = loaded.config.shown()
    if as_json:
        print_json({"settings": shown, "warnings": loaded.warnings})
        return
    rows = [[name, _plain(entry["value"]), str(entry["origin"])] for name, entry in shown.items()]
    print_table(["setting", "value", "from"], rows)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
