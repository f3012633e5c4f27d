"""`costd run`: the daemon in the foreground."""

from __future__ import annotations

import gc

import click

from costd.cli.options import setting_options
from costd.config import SIDECAR, Loaded


@click.command("run", epilog="Example: costd run --data-dir /srv/costd --http-listen 127.0.0.1:7431")
@setting_options(SIDECAR)
@click.pass_context
def command(context: click.Context, loaded: Loaded) -> None:
    """Run the daemon in the foreground.

    Settings come from the TOML file named by --config, then COSTD_* variables, then these flags. The log goes to
    stderr. With --hub and a key it joins a hub. SIGTERM and Ctrl-C stop it: what it has accepted is committed and
    answered first.
    """
    gc.disable()  # until it is ready: what is imported and built stays, and is not to be searched for garbage
    from costd import app  # noqa: PLC0415 - the whole daemon, which --help need not wait for

    context.exit(app.run(loaded.config, loaded.warnings))
