"""The daemon's configuration: every setting once, read from a file, then COSTD_* variables, then flags."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from costd.domain.errors import ConfigError
from costd.domain.series import DIMENSIONS
from costd.places import auto_socket, default_data_dir
from costd.settings import (
    AUTO,
    SOCKET_PATH_MAX_BYTES,
    Address,
    Choice,
    FilePath,
    HostNames,
    Kind,
    Listener,
    Seconds,
    Size,
    SocketPath,
    Switch,
    Truth,
    Whole,
    Words,
)

__all__ = ["SETTINGS", "Address", "Config", "Loaded", "Setting", "load"]

ENVIRONMENT_PREFIX = "COSTD_"

#: Variables of the command line's own, which are no settings of a daemon.
CLIENT_VARIABLES = ("COSTD_ADDRESS", "COSTD_KEY", "COSTD_CA")

_HIDDEN = "********"
_MIB = 1 << 20


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

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """Its flag of `costd run`."""
        return "--" + self.name.replace(".", "-").replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default for documentation."""
        return self.default_text or str(self.default).lower()


class _Said(NamedTuple):
    """What an annotation of a Config field says about its setting."""

    kind: Kind
    default: object
    doc: str
    default_text: str = ""
    secret: bool = False
    in_file: bool = True


@dataclass(frozen=True)
class Grpc:
    """The gRPC door."""

    listen: Annotated[Address | None, _Said(Listener(may_be_off=True), "127.0.0.1:7430", "Where gRPC listens.")]
    socket: Annotated[
        Path | None,
        _Said(
            SocketPath(),
            "auto",
            'The unix socket for gRPC. "auto" is costd.sock in the data folder if that was given, else in the runtime '
            "folder ($XDG_RUNTIME_DIR/costd, /run/costd as root), and a short hashed name where that is too long.",
        ),
    ]


@dataclass(frozen=True)
class Http:
    """The HTTP door."""

    listen: Annotated[Address, _Said(Listener(may_be_off=False), "127.0.0.1:7431", "Where HTTP listens.")]
    allowed_hosts: Annotated[
        tuple[str, ...],
        _Said(
            HostNames(),
            [],
            "Names, besides loopback's, that a request's Host may have. Anything else is refused, so that a web page "
            "cannot reach the daemon by way of a browser.",
            default_text="none",
        ),
    ]


@dataclass(frozen=True)
class Tls:
    """The certificate of both doors."""

    cert: Annotated[
        Path | None,
        _Said(FilePath(), None, "Certificate chain (PEM) of both doors; re-read when it changes.", default_text="none"),
    ]
    key: Annotated[
        Path | None,
        _Said(FilePath(), None, "Private key (PEM) of the certificate; re-read when it changes.", default_text="none"),
    ]


@dataclass(frozen=True)
class Queue:
    """What may wait for the disk."""

    max_records: Annotated[
        int,
        _Said(
            Whole(1, 10_000_000), 50_000, "Records that may wait to be written; one more is refused with a retry time."
        ),
    ]
    max_bytes: Annotated[
        int,
        _Said(Size(1024, 16 << 30), 64 * _MIB, "Bytes of records that may wait to be written.", default_text="64 MiB"),
    ]


@dataclass(frozen=True)
class Limits:
    """What a request may be."""

    past_days: Annotated[int, _Said(Whole(0, 3650), 35, "How far back a record's timestamp may lie.")]
    future_minutes: Annotated[int, _Said(Whole(0, 1440), 5, "How far ahead a record's timestamp may lie.")]
    http_body_bytes: Annotated[int, _Said(Size(1024, 64 * _MIB), _MIB, "The largest HTTP body.", default_text="1 MiB")]


@dataclass(frozen=True)
class Retention:
    """How long the ledger keeps what."""

    # Request ids live in events: they must outlive every timestamp that is still accepted, or a late retry would
    # count twice.
    events_days: Annotated[
        int,
        _Said(
            Whole(45, 36_500),
            45,
            "How long single records and their request ids are kept; always more than limits.past_days.",
        ),
    ]
    rollups_days: Annotated[
        int, _Said(Whole(45, 36_500), 400, "How long hourly totals are kept; at least retention.events_days.")
    ]


@dataclass(frozen=True)
class Shutdown:
    """How the daemon stops."""

    grace_s: Annotated[
        float,
        _Said(Seconds(3600), 10, "How long a stop may take, in seconds: requests under way are answered within it."),
    ]


@dataclass(frozen=True)
class Disk:
    """Room on the disk."""

    reserve_bytes: Annotated[
        int,
        _Said(
            Size(0, 1 << 40),
            8 * _MIB,
            "Disk space that records leave free, so that keys and other control writes still succeed.",
            default_text="8 MiB",
        ),
    ]


@dataclass(frozen=True)
class Log:
    """The log on stderr."""

    level: Annotated[str, _Said(Choice(("debug", "info", "warning", "error")), "info", "The least that is logged.")]
    format: Annotated[str, _Said(Choice(("text", "json")), "text", "Lines of text or of JSON.")]


@dataclass(frozen=True)
class Metrics:
    """What Prometheus sees."""

    labels: Annotated[
        tuple[str, ...],
        _Said(
            Words(DIMENSIONS),
            ["source_app", "team", "project", "provider", "model", "status"],
            "The dimensions of a record that cost, tokens, requests and latency are shown by.",
            default_text="source_app, team, project, provider, model, status",
        ),
    ]
    max_series: Annotated[
        int,
        _Said(
            Whole(1, 1_000_000),
            2000,
            "Series a metric may have (a histogram counts as one); what is beyond is summed up in the series other.",
        ),
    ]


@dataclass(frozen=True)
class Config:
    """The effective configuration; each section's fields are settings, and `origins` says where each came from."""

    config: Annotated[
        Path | None, _Said(FilePath(), None, "A TOML file to read settings from.", default_text="none", in_file=False)
    ]
    data_dir: Annotated[
        Path,
        _Said(
            FilePath(),
            None,
            "The folder of the database and the admin key; made, for its owner alone, if it is missing.",
            default_text="$XDG_STATE_HOME/costd or ~/.local/state/costd; /var/lib/costd as root",
        ),
    ]
    grpc: Grpc
    http: Http
    tls: Tls
    insecure: Annotated[
        bool,
        _Said(Truth(), False, "Allow listening beyond loopback without TLS: keys and usage then travel in the clear."),
    ]
    auth: Annotated[
        bool, _Said(Switch(), "on", 'Whether callers need a key. "off" only where nothing listens beyond loopback.')
    ]
    queue: Queue
    limits: Limits
    retention: Retention
    shutdown: Shutdown
    disk: Disk
    log: Log
    metrics: Metrics
    ready_file: Annotated[
        Path | None,
        _Said(
            FilePath(),
            None,
            "A file to write, once ready, with the addresses, the pid and the admin key's path as JSON.",
            default_text="none",
        ),
    ]
    origins: Mapping[str, str]

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
                "value": _HIDDEN if setting.secret else setting.kind.show(self.value(setting.name)),
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


def _members(struct: type) -> Iterator[tuple[str, type | _Said]]:
    """The fields of a section: a section of its own, or what is said about the setting."""
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        said = [extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, _Said)]
        if said:
            yield name, said[0]
        elif is_dataclass(annotation) and isinstance(annotation, type):
            yield name, annotation


def _walk(struct: type, prefix: str = "") -> Iterator[Setting]:
    for name, member in _members(struct):
        if isinstance(member, _Said):
            yield Setting(prefix + name, *member)
        else:
            yield from _walk(member, f"{prefix}{name}.")


#: Every setting, in the order of the documentation.
SETTINGS: tuple[Setting, ...] = tuple(_walk(Config))


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration from defaults < file < `environ` < `flags`.

    `flags` maps names ("grpc.listen") to text as typed, or to values of the setting's TOML type; None counts as not
    given. `environ` is the process's own unless given. Raises ConfigError naming the setting as the user wrote it.
    """
    environ = os.environ if environ is None else environ
    given, warnings = _from_environment(environ)
    given |= _from_flags(flags or {})
    if "config" in given:
        given = _from_file(_file_path(given["config"]), given["config"].written) | given
    values = {setting.name: _read(setting, given.get(setting.name)) for setting in SETTINGS}
    values["data_dir"] = values["data_dir"] or default_data_dir(environ)
    if values["grpc.socket"] is AUTO:
        values["grpc.socket"] = auto_socket(values["data_dir"], environ, explicit="data_dir" in given)
    config = _build(values, {name: entry.written for name, entry in given.items()})
    _check(config)
    return Loaded(config, warnings)


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
    path: Path = _read(next(setting for setting in SETTINGS if setting.name == "config"), given)
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


def _read(setting: Setting, given: _Given | None) -> Any:
    if given is None:
        return None if setting.default is None else setting.kind.read(setting.default, is_text=False)
    try:
        value = setting.kind.read(given.raw, is_text=given.is_text)
    except (ValueError, TypeError, KeyError):
        shown = _HIDDEN if setting.secret else given.raw
        raise ConfigError(given.written, shown, setting.kind.allowed) from None
    if isinstance(value, Path) and value is not AUTO:
        # A path in a file is relative to that file, so that the file means the same wherever costd is started.
        return Path(os.path.abspath((given.folder or Path()) / value))
    return value


def _build(values: Mapping[str, Any], origins: Mapping[str, str]) -> Config:
    def section(struct: type, prefix: str) -> dict[str, Any]:
        return {
            name: values[prefix + name] if isinstance(member, _Said) else member(**section(member, f"{prefix}{name}."))
            for name, member in _members(struct)
        }

    return Config(**section(Config, ""), origins=dict(origins))


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
    if (config.tls.cert is None) != (config.tls.key is None):
        name, other = ("tls.cert", "tls.key") if config.tls.key is None else ("tls.key", "tls.cert")
        raise ConfigError(config.written(name), str(config.value(name)), f"needs {other} beside it")
    if exposed and not config.auth:
        allowed = f'may be "off" only where nothing listens beyond loopback; {exposed[0]} is {listeners[exposed[0]]}'
        raise ConfigError(config.written("auth"), "off", allowed)
    if exposed and config.tls.cert is None and not config.insecure:
        allowed = "listening beyond loopback needs TLS (--tls-cert and --tls-key), or --insecure to do without"
        raise ConfigError(config.written(exposed[0]), str(listeners[exposed[0]]), allowed)
    if config.grpc.listen == config.http.listen and config.http.listen.port:
        raise ConfigError(config.written("http.listen"), str(config.http.listen), "must differ from grpc.listen")


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
