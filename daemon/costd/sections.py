"""The sections of the configuration: what settings there are, each with its kind, its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from costd.addresses import Address, HostNames, Listener, Remote
from costd.domain.series import DIMENSIONS
from costd.settings import (
    Choice,
    Duration,
    FilePath,
    Kind,
    Minutes,
    Seconds,
    Size,
    SocketPath,
    Token,
    Truth,
    Whole,
    Word,
    Words,
)

_MIB = 1 << 20


class Said(NamedTuple):
    """What an annotation of a field says about its setting."""

    kind: Kind
    default: object
    doc: str
    default_text: str = ""
    secret: bool = False
    in_file: bool = True
    hub_default: object = None  # what it is at a hub instead
    own_flag: str = ""  # where it is not made of the name
    own_variable: str = ""


@dataclass(frozen=True)
class Grpc:
    """The gRPC door."""

    listen: Annotated[
        Address | None,
        Said(
            Listener(may_be_off=True),
            "127.0.0.1:7430",
            "Where gRPC listens.",
            default_text="127.0.0.1:7430; 127.0.0.1:7432 at a hub",
            hub_default="127.0.0.1:7432",
        ),
    ]
    socket: Annotated[
        Path | None,
        Said(
            SocketPath(),
            "auto",
            'The unix socket for gRPC. "auto" is costd.sock in the data folder if that was given, else in the runtime '
            "folder ($XDG_RUNTIME_DIR/costd, /run/costd as root), and a short hashed name where that is too long.",
        ),
    ]


@dataclass(frozen=True)
class Http:
    """The HTTP door."""

    listen: Annotated[
        Address,
        Said(
            Listener(may_be_off=False),
            "127.0.0.1:7431",
            "Where HTTP listens.",
            default_text="127.0.0.1:7431; 127.0.0.1:7433 at a hub",
            hub_default="127.0.0.1:7433",
        ),
    ]
    allowed_hosts: Annotated[
        tuple[str, ...],
        Said(
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
        Said(FilePath(), None, "Certificate chain (PEM) of both doors; re-read when it changes.", default_text="none"),
    ]
    key: Annotated[
        Path | None,
        Said(FilePath(), None, "Private key (PEM) of the certificate; re-read when it changes.", default_text="none"),
    ]
    client_ca: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "Authorities (PEM), one of which must have signed the certificate that every client of gRPC over TCP then "
            "has to show; re-read when it changes.",
            default_text="none",
        ),
    ]


@dataclass(frozen=True)
class Hub:
    """The hub that this daemon belongs to, if any."""

    address: Annotated[
        Address | None,
        Said(
            Remote(),
            None,
            "The gRPC address of the hub to join.",
            default_text="none",
            own_flag="--hub",
            own_variable="COSTD_HUB",
        ),
    ]
    key: Annotated[
        str | None,
        Said(
            Token(),
            None,
            "The key of this source, as `costd sources create` prints it; better in the variable or in hub.key_file.",
            default_text="none",
            secret=True,
        ),
    ]
    key_file: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "A file that holds that key; read at every connection, so that the key can be replaced.",
            default_text="none",
        ),
    ]
    name: Annotated[
        str,
        Said(
            Word(256),
            "",
            "The name this source must have at the hub; a hub that knows the key by another refuses it.",
            default_text="whichever the key has",
        ),
    ]
    ca: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "Authorities (PEM) to trust the hub's certificate by; re-read when it changes.",
            default_text="the usual ones",
        ),
    ]
    cert: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "Certificate chain (PEM) to show the hub; re-read when it changes.",
            default_text="none",
        ),
    ]
    cert_key: Annotated[
        Path | None,
        Said(
            FilePath(),
            None,
            "Private key (PEM) of that certificate; re-read when it changes.",
            default_text="none",
        ),
    ]
    plaintext: Annotated[
        bool,
        Said(
            Truth(), False, "Allow a hub beyond loopback without TLS: its key and all usage then travel in the clear."
        ),
    ]

    @property
    def is_secure(self) -> bool:
        """Whether the road to the hub is encrypted: beyond loopback unless told otherwise, and where TLS is set up."""
        if self.plaintext or self.address is None:
            return False
        return not self.address.is_loopback or self.ca is not None or self.cert is not None


@dataclass(frozen=True)
class Sync:
    """What a daemon does with its copy of the hub's keys, prices and catalog."""

    max_age: Annotated[
        int,
        Said(
            Duration(1, 3650 * 86_400),
            "24h",
            "How long after the hub's last word the copy of its keys, prices and catalog counts as fresh.",
        ),
    ]
    stale_keys: Annotated[
        str,
        Said(
            Choice(("accept", "refuse")),
            "accept",
            "What happens to keys that are known from a copy which is no longer fresh.",
        ),
    ]


@dataclass(frozen=True)
class Queue:
    """What may wait for the disk."""

    max_records: Annotated[
        int,
        Said(
            Whole(1, 10_000_000), 50_000, "Records that may wait to be written; one more is refused with a retry time."
        ),
    ]
    max_bytes: Annotated[
        int,
        Said(Size(1024, 16 << 30), 64 * _MIB, "Bytes of records that may wait to be written.", default_text="64 MiB"),
    ]


@dataclass(frozen=True)
class Limits:
    """What a request may be."""

    past_days: Annotated[int, Said(Whole(0, 3650), 35, "How far back a record's timestamp may lie.")]
    future_minutes: Annotated[int, Said(Whole(0, 1440), 5, "How far ahead a record's timestamp may lie.")]
    http_body_bytes: Annotated[int, Said(Size(1024, 64 * _MIB), _MIB, "The largest HTTP body.", default_text="1 MiB")]


@dataclass(frozen=True)
class Budgets:
    """How calls reserve money of budgets before they are made."""

    reservation_minutes: Annotated[
        float,
        Said(
            Minutes(0.01, 10_080),
            15,
            "How long what a preflight reserved stays so, in minutes, where nothing is recorded or released.",
        ),
    ]
    max_reservations: Annotated[
        int,
        Said(
            Whole(1, 10_000_000),
            200_000,
            "Calls that may have money reserved at one time; one more is refused with a retry time.",
        ),
    ]
    hub_wait_ms: Annotated[
        int,
        Said(
            Whole(0, 60_000),
            250,
            "How long a preflight may wait for the hub, in milliseconds, where the money at hand does not suffice.",
        ),
    ]
    use_minutes: Annotated[
        float,
        Said(
            Minutes(0.01, 10_080),
            10,
            "How long sources may use the money they were given without a word from their hub, in minutes; of a hub.",
        ),
    ]


@dataclass(frozen=True)
class Retention:
    """How long the ledger keeps what."""

    # Request ids live in events: they must outlive every timestamp that is still accepted, or a late retry would
    # count twice.
    events_days: Annotated[
        int,
        Said(
            Whole(45, 36_500),
            45,
            "How long single records and their request ids are kept; always more than limits.past_days.",
        ),
    ]
    rollups_days: Annotated[
        int, Said(Whole(45, 36_500), 400, "How long hourly totals are kept; at least retention.events_days.")
    ]


@dataclass(frozen=True)
class Shutdown:
    """How the daemon stops."""

    grace_s: Annotated[
        float,
        Said(Seconds(3600), 10, "How long a stop may take, in seconds: requests under way are answered within it."),
    ]


@dataclass(frozen=True)
class Disk:
    """Room on the disk."""

    reserve_bytes: Annotated[
        int,
        Said(
            Size(0, 1 << 40),
            8 * _MIB,
            "Disk space that records leave free, so that keys and other control writes still succeed.",
            default_text="8 MiB",
        ),
    ]


@dataclass(frozen=True)
class Storage:
    """How large the ledger may become."""

    max_bytes: Annotated[
        int,
        Said(
            Size(0, 1 << 50),
            0,
            "The size that the ledger may grow to, in bytes of pages in use; from there on records are refused until "
            "there is room. 0: no limit.",
        ),
    ]


@dataclass(frozen=True)
class Log:
    """The log on stderr."""

    level: Annotated[str, Said(Choice(("debug", "info", "warning", "error")), "info", "The least that is logged.")]
    format: Annotated[str, Said(Choice(("text", "json")), "text", "Lines of text or of JSON.")]


@dataclass(frozen=True)
class Metrics:
    """What Prometheus sees."""

    labels: Annotated[
        tuple[str, ...],
        Said(
            Words(DIMENSIONS),
            ["source_app", "team", "project", "provider", "model", "status"],
            "The dimensions of a record that cost, tokens, requests and latency are shown by.",
            default_text="source_app, team, project, provider, model, status",
        ),
    ]
    max_series: Annotated[
        int,
        Said(
            Whole(1, 1_000_000),
            2000,
            "Series a metric may have (a histogram counts as one); what is beyond is summed up in the series other.",
        ),
    ]
