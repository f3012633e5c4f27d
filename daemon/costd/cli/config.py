"""`costd config`: what the settings come to."""

from __future__ import annotations

import click

from costd.cli.options import json_option, setting_options
from costd.cli.output import print_json, print_table
from costd.config import Loaded


@click.group("config")
def command() -> None:
    """Look at the configuration."""


@command.command("show")
@setting_options
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
