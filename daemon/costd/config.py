"""The daemon's configuration: every setting once, read from a file, then COSTD_* variables, then flags."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from costd.addresses import Address, is_in_the_clear
from costd.alert_settings import Alerts
from costd.domain.errors import ConfigError
from costd.places import auto_socket, default_data_dir
from costd.proxy_settings import Proxy
from costd.sections import (
    Budgets,
    Disk,
    Grpc,
    Http,
    Hub,
    Limits,
    Log,
    Metrics,
    Queue,
    Retention,
    Said,
    Shutdown,
    Storage,
    Sync,
    Tls,
)
from costd.settings import AUTO, SOCKET_PATH_MAX_BYTES, FilePath, Kind, SocketPath, Switch, Truth, Unfit

__all__ = ["HUB", "SETTINGS", "SIDECAR", "Address", "Config", "Loaded", "Setting", "load", "settings_of"]

#: What a daemon is: a sidecar beside callers, or a hub of sidecars.
SIDECAR = "sidecar"
HUB = "hub"

ENVIRONMENT_PREFIX = "COSTD_"

#: Variables of the command line's own, which are no settings of a daemon.
CLIENT_VARIABLES = ("COSTD_ADDRESS", "COSTD_KEY", "COSTD_CA")

_HIDDEN = "********"
#: Nobody answers faster than that over a network.
_LEAST_TIMEOUT_S = 0.05


@dataclass(frozen=True)
class Setting:
    """One setting: `name` is its key in the file ("grpc.listen"), `default` what a user would write."""

    name: str
    kind: Kind
    default: object
    doc: str
    default_text: str
    secret: bool
    in_file: bool
    hub_default: object = None
    own_flag: str = ""
    own_variable: str = ""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.own_variable or ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """Its flag of `costd run` and `costd hub`."""
        return self.own_flag or "--" + self.name.replace(".", "-").replace("_", "-")

    def default_of(self, mode: str) -> object:
        """The default of a daemon of that mode."""
        return self.hub_default if mode == HUB and self.hub_default is not None else self.default

    @property
    def shown_default(self) -> str:
        """The default for documentation."""
        return self.default_text or str(self.default).lower()


@dataclass(frozen=True)
class Config:
    """The effective configuration; each section's fields are settings, and `origins` says where each came from.

    `mode` is SIDECAR or HUB: no setting, but what the daemon was started as.
    """

    config: Annotated[
        Path | None, Said(FilePath(), None, "A TOML file to read settings from.", default_text="none", in_file=False)
    ]
    data_dir: Annotated[
        Path,
        Said(
            FilePath(),
            None,
            "The folder of the database and the admin key; made, for its owner alone, if it is missing.",
            default_text="$XDG_STATE_HOME/costd or ~/.local/state/costd; /var/lib/costd as root; costd-hub at a hub",
        ),
    ]
    grpc: Grpc
    http: Http
    tls: Tls
    insecure: Annotated[
        bool,
        Said(Truth(), False, "Allow listening beyond loopback without TLS: keys and usage then travel in the clear."),
    ]
    auth: Annotated[
        bool, Said(Switch(), "on", 'Whether callers need a key. "off" only where nothing listens beyond loopback.')
    ]
    hub: Hub
    sync: Sync
    queue: Queue
    limits: Limits
    budgets: Budgets
    alerts: Alerts
    proxy: Proxy
    retention: Retention
    shutdown: Shutdown
    disk: Disk
    storage: Storage
    log: Log
    metrics: Metrics
    ready_file: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "A file to write, once ready, with the addresses, the pid and the admin key's path as JSON.",
            default_text="none",
        ),
    ]
    origins: Mapping[str, str]
    mode: str

    def written(self, name: str) -> str:
        """The setting `name` as the user wrote it: its flag, its variable, or its key with the file's name."""
        return self.origins.get(name, name)

    def value(self, name: str) -> Any:
        """The value of the setting `name` ("grpc.listen")."""
        found: object = self
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def shown(self) -> dict[str, dict[str, object]]:
        """`{name: {"value", "origin"}}` of every setting in JSON's types, secrets hidden."""
        return {
            setting.name: {
                "value": _shown(setting, self.value(setting.name)),
                "origin": self.origins.get(setting.name, "default"),
            }
            for setting in SETTINGS
        }


class Loaded(NamedTuple):
    """A configuration, and sentences about what was odd but not wrong."""

    config: Config
    warnings: list[str]


class _Given(NamedTuple):
    """A value as the user wrote it, and where."""

    raw: object
    is_text: bool
    written: str
    folder: Path | None  # what a relative path is relative to


def _members(struct: type) -> Iterator[tuple[str, type | Said]]:
    """The fields of a section: a section of its own, or what is said about the setting."""
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        said = [extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Said)]
        if said:
            yield name, said[0]
        elif is_dataclass(annotation) and isinstance(annotation, type):
            yield name, annotation


def _walk(struct: type, prefix: str = "") -> Iterator[Setting]:
    for name, member in _members(struct):
        if isinstance(member, Said):
            yield Setting(prefix + name, *member)
        else:
            yield from _walk(member, f"{prefix}{name}.")


#: Every setting, in the order of the documentation.
SETTINGS: tuple[Setting, ...] = tuple(_walk(Config))


def settings_of(mode: str) -> tuple[Setting, ...]:
    """The settings that a daemon of that mode has: a hub belongs to no hub."""
    return tuple(setting for setting in SETTINGS if mode == SIDECAR or not setting.name.startswith("hub."))


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    mode: str = SIDECAR,
    to_run: bool = True,
) -> Loaded:
    """The configuration from defaults < file < `environ` < `flags`.

    `flags` maps names ("grpc.listen") to text as typed, or to values of the setting's TOML type; None counts as not
    given. `environ` is the process's own unless given. Not `to_run`: it only serves to find a daemon, and the road to
    a hub need not be complete, as its key may be known to the daemon alone. Raises ConfigError naming the setting as
    the user wrote it.
    """
    environ = os.environ if environ is None else environ
    given, warnings = _from_environment(environ)
    given |= _from_flags(flags or {})
    if "config" in given:
        given = _from_file(_file_path(given["config"]), given["config"].written) | given
    values = {setting.name: _read(setting, given.get(setting.name), mode) for setting in SETTINGS}
    values["data_dir"] = values["data_dir"] or default_data_dir(environ, mode)
    if values["grpc.socket"] is AUTO:
        values["grpc.socket"] = auto_socket(values["data_dir"], environ, explicit="data_dir" in given)
    config = _build(values, {name: entry.written for name, entry in given.items()}, mode)
    _check(config)
    return Loaded(config, warnings + ([*_check_hub(config), *_check_alerts(config)] if to_run else []))


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, _Given], list[str]]:
    by_variable = {setting.variable: setting.name for setting in SETTINGS}
    given: dict[str, _Given] = {}
    warnings = []
    for variable in sorted(environ):
        if variable in by_variable:
            if environ[variable].strip():  # compose files pass unset variables on as empty ones
                given[by_variable[variable]] = _Given(environ[variable], True, variable, None)
        elif variable.startswith(ENVIRONMENT_PREFIX) and variable not in CLIENT_VARIABLES:
            # Never refused: Kubernetes injects COSTD_SERVICE_HOST and its like into pods beside a service "costd".
            warnings.append(f"{variable} is not a setting and is ignored{_nearest(variable, list(by_variable))}")
    return given, warnings


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    by_name = {setting.name: setting for setting in SETTINGS}
    return {
        name: _Given(raw, isinstance(raw, str), by_name[name].flag, None)
        for name, raw in flags.items()
        if raw is not None
    }


def _file_path(given: _Given) -> Path:
    path: Path = _read(next(setting for setting in SETTINGS if setting.name == "config"), given, SIDECAR)
    return path


def _from_file(path: Path, written: str) -> dict[str, _Given]:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(written, str(path), f"must be a file that can be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(written, str(path), f"must be a TOML file ({error})") from error
    return dict(_flattened(document, path, ""))


def _flattened(table: Mapping[str, object], path: Path, prefix: str) -> Iterator[tuple[str, _Given]]:
    names = [setting.name for setting in SETTINGS if setting.in_file]
    for key, raw in table.items():
        name = prefix + key
        written = f"{name} in {path}"
        if name in names:
            yield name, _Given(raw, False, written, path.parent)
        elif not any(known.startswith(f"{name}.") for known in names):
            # The value is not repeated: under an unknown name it could be a secret.
            raise ConfigError(written, "…", f"there is no such setting{_nearest(name, names)}")
        elif isinstance(raw, dict):
            yield from _flattened(raw, path, f"{name}.")
        else:
            raise ConfigError(written, raw, f"must be a table ([{name}])")


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _read(setting: Setting, given: _Given | None, mode: str) -> Any:
    if given is None:
        default = setting.default_of(mode)
        return None if default is None else setting.kind.read(default, is_text=False)
    try:
        value = setting.kind.read(given.raw, is_text=given.is_text)
    except Unfit as unfit:
        raise ConfigError(given.written, unfit.shown, unfit.allowed) from None
    except (ValueError, TypeError, KeyError):
        shown = _HIDDEN if setting.secret else given.raw
        raise ConfigError(given.written, shown, setting.kind.allowed) from None
    if isinstance(value, Path) and value is not AUTO:
        # A path in a file is relative to that file, so that the file means the same wherever costd is started.
        return Path(os.path.abspath((given.folder or Path()) / value))
    return value


def _shown(setting: Setting, value: object) -> object:
    return _HIDDEN if setting.secret and value is not None else setting.kind.show(value)


def _build(values: Mapping[str, Any], origins: Mapping[str, str], mode: str) -> Config:
    def section(struct: type, prefix: str) -> dict[str, Any]:
        return {
            name: values[prefix + name] if isinstance(member, Said) else member(**section(member, f"{prefix}{name}."))
            for name, member in _members(struct)
        }

    return Config(**section(Config, ""), origins=dict(origins), mode=mode)


def _check(config: Config) -> None:
    """What single values cannot say: rules between settings."""
    _check_listeners(config)
    _check_ages(config)
    socket = config.grpc.socket
    if socket is not None and len(os.fsencode(socket)) > SOCKET_PATH_MAX_BYTES:
        raise ConfigError(config.written("grpc.socket"), str(socket), SocketPath().allowed)


def _check_listeners(config: Config) -> None:
    listeners = {"grpc.listen": config.grpc.listen, "http.listen": config.http.listen}
    exposed = [name for name, address in listeners.items() if address is not None and not address.is_loopback]
    _check_pair(config, "tls.cert", "tls.key")
    if config.tls.client_ca is not None and config.tls.cert is None:
        allowed = "needs tls.cert beside it: certificates of clients are asked for over TLS"
        raise ConfigError(config.written("tls.client_ca"), str(config.tls.client_ca), allowed)
    if exposed and not config.auth:
        allowed = f'may be "off" only where nothing listens beyond loopback; {exposed[0]} is {listeners[exposed[0]]}'
        raise ConfigError(config.written("auth"), "off", allowed)
    if exposed and config.tls.cert is None and not config.insecure:
        allowed = "listening beyond loopback needs TLS (--tls-cert and --tls-key), or --insecure to do without"
        raise ConfigError(config.written(exposed[0]), str(listeners[exposed[0]]), allowed)
    if config.grpc.listen == config.http.listen and config.http.listen.port:
        raise ConfigError(config.written("http.listen"), str(config.http.listen), "must differ from grpc.listen")


def _check_hub(config: Config) -> list[str]:
    """Sentences about what of the road to a hub is given in vain."""
    hub = config.hub
    given = [name for name in config.origins if name.startswith("hub.")]
    if given and config.mode == HUB:
        raise ConfigError(config.written(given[0]), "…", "must not be set: a hub belongs to no hub")
    if hub.address is None:
        return [f"{config.written(name)} is ignored: there is no {config.written('hub.address')}" for name in given]
    if hub.key is not None and hub.key_file is not None:
        allowed = "must not be given beside hub.key"
        raise ConfigError(config.written("hub.key_file"), str(hub.key_file), allowed)
    if hub.key is None and hub.key_file is None:
        allowed = (
            "needs a key beside it: COSTD_HUB_KEY or --hub-key-file, as `costd sources create` at the hub prints it"
        )
        raise ConfigError(config.written("hub.address"), str(hub.address), allowed)
    if hub.plaintext and (at_fault := next((name for name in ("hub.ca", "hub.cert") if config.value(name)), None)):
        raise ConfigError(config.written("hub.plaintext"), "true", f"must not be given beside {at_fault}")
    _check_pair(config, "hub.cert", "hub.cert_key")
    return []


def _check_alerts(config: Config) -> list[str]:
    """Sentences about what of alerts is given in vain, or travels in the clear."""
    alerts = config.alerts
    lack = alerts.lack()
    if lack is not None:
        setting = next(setting for setting in SETTINGS if setting.name == lack.name)
        shown = _shown(setting, config.value(lack.name))
        raise ConfigError(config.written(lack.name), shown, lack.allowed)
    if alerts.timeout_s < _LEAST_TIMEOUT_S:
        allowed = f"must be at least {_LEAST_TIMEOUT_S}"
        raise ConfigError(config.written("alerts.timeout_s"), alerts.timeout_s, allowed)
    warnings = [
        f"{config.written(name)} is no https: alerts travel in the clear"
        for name in ("alerts.webhook_url", "alerts.slack_url")
        if is_in_the_clear(config.value(name))
    ]
    if config.hub.address is not None and alerts.channels:
        warnings.append("alerts come from the hub; here only those are delivered that were found before it was joined")
    return warnings


def _check_pair(config: Config, certificate: str, key: str) -> None:
    """A certificate and its private key come together."""
    if (config.value(certificate) is None) != (config.value(key) is None):
        name, other = (certificate, key) if config.value(key) is None else (key, certificate)
        raise ConfigError(config.written(name), str(config.value(name)), f"needs {other} beside it")


def _check_ages(config: Config) -> None:
    past, events, rollups = config.limits.past_days, config.retention.events_days, config.retention.rollups_days
    if past >= events:
        blamed = "retention.events_days" if "retention.events_days" in config.origins else "limits.past_days"
        allowed = f"retention.events_days ({events}) must be more than limits.past_days ({past})"
        raise ConfigError(config.written(blamed), config.value(blamed), f"{allowed}: request ids outlive timestamps")
    if rollups < events:
        blamed = "retention.rollups_days" if "retention.rollups_days" in config.origins else "retention.events_days"
        allowed = f"retention.rollups_days ({rollups}) must be at least retention.events_days ({events})"
        raise ConfigError(config.written(blamed), config.value(blamed), allowed)
