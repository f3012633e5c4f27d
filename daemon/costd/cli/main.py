"""The `costd` command: which commands there are, and what an error becomes on stderr and in the exit code."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import MappingProxyType

import click
from click.shell_completion import CompletionItem

from costd.domain.errors import (
    ConfigError,
    CostdError,
    DaemonUnreachable,
    DamagedDatabase,
    DataFolderHeld,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
)

#: Exit codes; docs/cli.md tells them.
ANSWER_IS_NO = 1
USAGE = 2
UNREACHABLE = 3
LEDGER = 4
FAILED = 5
BUG = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

#: The first that fits an error says the exit code.
_CODES: tuple[tuple[type[CostdError], int], ...] = (
    (NotFound, ANSWER_IS_NO),
    (ConfigError, USAGE),
    (Invalid, USAGE),
    (DaemonUnreachable, UNREACHABLE),
    (Unauthenticated, UNREACHABLE),
    (Forbidden, UNREACHABLE),
    (DataFolderHeld, LEDGER),
    (DamagedDatabase, LEDGER),
    (CostdError, FAILED),
)

#: Each command's module and the line it has in `costd --help`. The module is imported when the command is wanted:
#: gRPC and rich would make every `costd --help` wait.
COMMANDS = MappingProxyType(
    {
        "run": ("costd.cli.run", "Run the daemon in the foreground."),
        "hub": ("costd.cli.hub", "Run a hub in the foreground."),
        "config": ("costd.cli.config", "Look at the configuration, or begin one."),
        "keys": ("costd.cli.keys", "Make, list and revoke keys."),
        "audit": ("costd.cli.audit", "Read who did what."),
        "proxy": ("costd.cli.proxy", "Proxy endpoints: point an SDK at costd and be done."),
        "sources": ("costd.cli.sources", "Make, list and forget the sidecars of a hub."),
        "flush": ("costd.cli.flush", "Forward everything to the hub, now."),
        "quarantine": ("costd.cli.quarantine", "List, retry and drop what a hub could not take."),
        "alerts": ("costd.cli.alerts", "List alerts of budgets, and test where they go."),
        "users": ("costd.cli.users", "List users, name them, assign them to teams."),
        "projects": ("costd.cli.projects", "List projects, assign them to teams and workspaces."),
        "teams": ("costd.cli.teams", "List teams, assign them to workspaces."),
        "workspaces": ("costd.cli.workspaces", "List workspaces and what belongs to them."),
        "status": ("costd.cli.status", "Show how a daemon is."),
        "report": ("costd.cli.report", "Show what was used and what it cost."),
        "void": ("costd.cli.void", "Take a wrong record back."),
        "show": ("costd.cli.show", "Show one record."),
        "tail": ("costd.cli.tail", "Show records as they come."),
        "export": ("costd.cli.export", "Write single records, as JSON Lines or CSV."),
        "import": ("costd.cli.importing", "Read records that were exported, or kept elsewhere."),
        "backup": ("costd.cli.backup", "Copy the ledger, verified, while records keep coming."),
        "restore": ("costd.cli.restore", "Put a backup in the place of the ledger."),
        "prices": ("costd.cli.prices", "Set, import and show prices; rate history again."),
        "budgets": ("costd.cli.budgets", "Set budgets, and see how they stand."),
        "check": ("costd.cli.check", "Prove that the ledger is sound."),
        "doctor": ("costd.cli.doctor", "Find what is wrong around a daemon, and what to do."),
        "health": ("costd.cli.health", "Exit 0 if a daemon is ready (for probes)."),
        "completion": ("costd.cli.completion", "Print what makes a shell complete costd's command lines."),
    }
)


class Commands(click.Group):
    """A group that imports a command only when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # what is imported stays, and is not to be searched for garbage
        try:
            command = importlib.import_module(COMMANDS[cmd_name][0]).command
        finally:
            gc.enable()
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin like that, without importing the commands."""
        begun = [CompletionItem(name, help=COMMANDS[name][1]) for name in COMMANDS if name.startswith(incomplete)]
        return begun + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `costd --help`, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _say_version(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        from costd import __version__  # noqa: PLC0415 - no other command waits for it

        click.echo(f"costd {__version__}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Meters, prices and keeps what AI API calls cost.

    `costd run` starts the daemon. The other commands ask the daemon that holds the data folder (--data-dir), or one
    elsewhere (--address and --key); where no daemon holds the folder, they open the ledger themselves.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and exit with its code."""
    if "_COSTD_COMPLETE" in os.environ:  # a shell asks for completions
        cli.main(prog_name="costd")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what we say ourselves
    _prepare_streams()
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it is open until the end
        elif hasattr(stream, "reconfigure"):  # names in records may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    """The exit code of one command line, everything said that is to be said."""
    try:
        with cli.make_context("costd", arguments) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return _flushed(leave.exit_code)
    except click.exceptions.NoArgsIsHelpError as nothing:
        nothing.show()
        return USAGE
    except click.ClickException as error:
        return _say(error.format_message() + _hint(error), USAGE)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _closed_pipe()
    except CostdError as error:
        return _say(error.message, next(code for kind, code in _CODES if isinstance(error, kind)))
    except OSError as error:
        return _no_room(error)
    except Exception:  # the last resort: anything else is a mistake of ours
        traceback.print_exc()
        return _say("this is a mistake in costd; please report it with the lines above", BUG)
    return 0


def _no_room(error: OSError) -> int:
    """Output that goes to a full disk is nobody's mistake; any other error of the system should not have come here."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}:
        traceback.print_exception(error)
    _silence_stdout()
    return _say(f"cannot write: {error}", FAILED)


def _say(message: str, code: int) -> int:
    click.echo("costd: " + " ".join(message.split()), err=True)
    return code


def _hint(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f" (see {error.ctx.command_path} --help)"
    return ""


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    except OSError as error:
        return _no_room(error)
    return code


def _closed_pipe() -> int:
    """Whoever read our output has left."""
    _silence_stdout()
    return PIPE_CLOSED


def _silence_stdout() -> None:
    """What is still buffered must not be complained about at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
