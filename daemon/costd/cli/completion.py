"""`costd completion`: what a shell needs to complete costd's command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_COSTD_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")

#: click's script for fish takes what follows a second comma away, and our values are lists with commas.
_CUT, _WHOLE = 'string split ","', 'string split -m 1 ","'


@click.command("completion", epilog="Example: costd completion bash > ~/.local/share/bash-completion/completions/costd")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL (bash, zsh or fish) complete commands, options and their values.

    Put it where the shell looks for completions; docs/cli.md says where that is.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this release of click has no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "costd", _VARIABLE).source().replace(_CUT, _WHOLE))
