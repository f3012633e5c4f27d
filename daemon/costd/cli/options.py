"""The options that commands share: the settings of a daemon, and which daemon a command talks to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import click

from costd.cli.suggestions import Suggest, comma_words, files, folders, words
from costd.config import HUB, SIDECAR, Loaded, Setting, load, settings_of
from costd.proxy_settings import Upstreams
from costd.settings import Choice, FilePath, SocketPath, Switch, Truth, Words

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Reach:
    """Which daemon or data folder a command is about; None and "" where nothing was said."""

    data_dir: str | None = None
    config: str | None = None
    address: str | None = None
    key: str = ""
    ca: str | None = None
    plaintext: bool = False
    mode: str = SIDECAR  # of the daemon it is where nothing else is said

    def load(self) -> Loaded:
        """The configuration that names the data folder."""
        return load({"data_dir": self.data_dir, "config": self.config}, mode=self.mode, to_run=False)


def daemon_options(command: _Command) -> _Command:
    """Give `command` the options that choose a daemon; it receives them as `reach`."""
    return _reaching(command, SIDECAR)


def hub_options(command: _Command) -> _Command:
    """The same, where a hub is meant unless something else is said."""
    return _reaching(command, HUB)


def _reaching(command: _Command, mode: str) -> _Command:

    @functools.wraps(command)
    def with_reach(
        *, data_dir: str | None, config: str | None, address: str | None, key: str | None, ca: str | None, **rest: Any
    ) -> Any:
        if address is not None and (data_dir is not None or config is not None):
            raise click.UsageError("--address is a daemon elsewhere: give it without --data-dir and --config")
        if address is None and data_dir is None and config is None:
            address = os.environ.get("COSTD_ADDRESS") or None
        reach = Reach(
            data_dir=data_dir,
            config=config,
            address=address,
            key=key or os.environ.get("COSTD_KEY", ""),
            ca=ca or os.environ.get("COSTD_CA") or None,
            plaintext=rest.pop("plaintext"),
            mode=mode,
        )
        return command(reach=reach, **rest)

    options = (
        click.option(
            "--data-dir",
            metavar="DIR",
            shell_complete=folders,
            help="The data folder, of a daemon on this machine or of none.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            shell_complete=files,
            help="The daemon's TOML file, which may name the data folder.",
        ),
        click.option(
            "--address",
            metavar="ADDR",
            help="A daemon elsewhere, by its gRPC address: HOST:PORT or unix:PATH. [COSTD_ADDRESS]",
        ),
        click.option("--key", metavar="KEY", help="The key for --address; better in the variable. [COSTD_KEY]"),
        click.option(
            "--ca",
            metavar="FILE",
            shell_complete=files,
            help="Use TLS and trust this certificate authority (PEM). [COSTD_CA]",
        ),
        click.option("--plaintext", is_flag=True, help="Reach an --address beyond loopback without TLS."),
    )
    return _with(with_reach, options)  # type: ignore[return-value]


def setting_options(mode: str) -> Callable[[_Command], _Command]:
    """Give a command a flag for every setting of that mode; it receives the effective configuration as `loaded`."""
    settings = settings_of(mode)

    def decorated(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_config(**given: Any) -> Any:
            said = {setting.name: given.pop(_parameter(setting)) for setting in settings}
            flags = {name: None if value == () else value for name, value in said.items()}
            return command(loaded=load(flags, mode=mode), **given)

        return _with(with_config, tuple(_option(setting) for setting in settings))  # type: ignore[return-value]

    return decorated


def _only_form(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    for other, flag in _FORMS.items():
        if value and other != parameter.name and context.params.get(other):
            both = sorted([flag, parameter.opts[0]], key=[*_FORMS.values()].index)
            raise click.UsageError(f"{' and '.join(both)} exclude each other")
    return value


def _form(flag: str, text: str) -> Callable[[_Command], _Command]:
    """A flag that chooses the form of the output, and goes with none of the others."""
    name = next(name for name, known in _FORMS.items() if known == flag)
    return click.option(flag, name, is_flag=True, callback=_only_form, help=text)


#: The flags that exclude each other, by the parameters that commands receive them as.
_FORMS = MappingProxyType({"as_json": "--json", "as_csv": "--csv", "as_plot": "--plot"})

json_option = _form("--json", "Print JSON, and nothing else, on stdout.")
csv_option = _form("--csv", "Print CSV: a header and a line for each row.")
plot_option = _form("--plot", "Draw what was spent over time.")


def _with(command: Callable[..., Any], options: tuple[Callable[[Any], Any], ...]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def _parameter(setting: Setting) -> str:
    return setting.name.replace(".", "__")


def _option(setting: Setting) -> Callable[[Any], Any]:
    text = f"{setting.doc} [{setting.variable}; default: {setting.shown_default}]"
    if isinstance(setting.kind, Truth):
        return click.option(setting.flag, _parameter(setting), flag_value=True, is_flag=True, default=None, help=text)
    metavar, suggest = setting.kind.metavar, _suggest(setting)
    if isinstance(setting.kind, Upstreams):
        return click.option(setting.flag, _parameter(setting), metavar=metavar, multiple=True, help=text)
    return click.option(setting.flag, _parameter(setting), metavar=metavar, shell_complete=suggest, help=text)


def _suggest(setting: Setting) -> Suggest | None:
    if setting.name == "data_dir":
        return folders
    match setting.kind:
        case FilePath() | SocketPath():
            return files
        case Choice(known):
            return words(known)
        case Switch():
            return words(("on", "off"))
        case Words(known):
            return comma_words(known)
    return None
