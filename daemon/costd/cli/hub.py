"""`costd hub`: a hub in the foreground, the daemon that sidecars forward to."""

from __future__ import annotations

import gc

import click

from costd.cli.options import setting_options
from costd.config import HUB, Loaded


@click.command("hub", epilog="Example: costd hub --data-dir /srv/costd-hub --grpc-listen 127.0.0.1:7432")
@setting_options(HUB)
@click.pass_context
def command(context: click.Context, loaded: Loaded) -> None:
    """Run a hub in the foreground: the daemon that holds what all its sidecars have recorded.

    It does whatever `costd run` does, with the same settings, on a data folder and at ports of its own; `costd sources
    create` then makes the keys that sidecars join it with.
    """
    gc.disable()  # until it is ready: what is imported and built stays, and is not to be searched for garbage
    from costd import app  # noqa: PLC0415 - the whole daemon, which --help need not wait for

    context.exit(app.run(loaded.config, loaded.warnings))
