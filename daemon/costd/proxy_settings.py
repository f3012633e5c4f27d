"""The section of the configuration that says where proxied calls go, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from costd.addresses import Url
from costd.domain.proxied.hosts import provider_of
from costd.sections import Said
from costd.settings import Choice, Seconds, Size, Whole, read_path, text_of

OPENAI = "openai"
ANTHROPIC = "anthropic"
DIALECTS = (OPENAI, ANTHROPIC)

OPEN = "open"
CLOSED = "closed"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_MIB = 1 << 20


class Upstream(NamedTuple):
    """A provider's API that proxied calls may go to.

    `base_url` has the `/v1` in it, and no slash at its end. `provider` is the id in the price list ("" where callers'
    models are looked up by themselves). `key_file` holds a key that callers then need not have. Times are in seconds:
    for the connection, for the beginning of the answer, and between two pieces of it. `include_usage`: whether the
    usage of OpenAI's streams is asked for; a few servers refuse to be asked. `ca` are the authorities (PEM) that vouch
    for a server of one's own.
    """

    name: str
    base_url: str
    dialect: str
    provider: str
    key_file: Path | None = None
    connect_s: float = 10.0
    answer_s: float = 600.0
    idle_s: float = 300.0
    include_usage: bool = True
    ca: Path | None = None


DEFAULTS = {
    OPENAI: "https://api.openai.com/v1",
    ANTHROPIC: "https://api.anthropic.com/v1",
}
_MEMBERS = frozenset(Upstream._fields) - {"name"}


@dataclass(frozen=True)
class Upstreams:
    """Upstreams by name: as text NAME=BASE_URL, separated by commas; in a file, tables or base URLs by name."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "NAME=BASE_URL"

    @property
    def allowed(self) -> str:
        """The form."""
        return (
            "must be NAME=BASE_URL, the base with its /v1 (https://api.openai.com/v1); in a file a table "
            "[proxy.upstreams.NAME] with base_url, and where wanted dialect (openai, anthropic), provider, key_file, "
            "connect_s, answer_s, idle_s, include_usage, ca"
        )

    def read(self, raw: object, *, is_text: bool) -> tuple[Upstream, ...]:
        """The upstreams, those that are always there among them."""
        named = dict(_pairs(raw)) if is_text or not isinstance(raw, Mapping) else dict(raw)
        found = {name: _upstream(name, url) for name, url in DEFAULTS.items()}
        for name, said in named.items():
            found[str(name)] = _upstream(str(name), said)
        return tuple(found.values())

    def show(self, value: object) -> object:
        """{name: base URL}."""
        if not isinstance(value, tuple):
            return value
        return {upstream.name: upstream.base_url for upstream in value}


def _pairs(raw: object) -> Iterator[tuple[str, str]]:
    texts = raw if isinstance(raw, list | tuple) else text_of(raw).split(",")
    for text in texts:
        name, equals, url = text_of(text).strip().partition("=")
        if not equals:
            raise ValueError
        yield name.strip(), url.strip()


def _upstream(name: str, said: object) -> Upstream:
    if not _NAME.match(name):
        raise ValueError
    members = dict(said) if isinstance(said, Mapping) else {"base_url": said}
    if not members.keys() <= _MEMBERS:
        raise ValueError
    default = DEFAULTS.get(name)
    base_url = Url().read(members.get("base_url", default), is_text=True).rstrip("/")
    if urlsplit(base_url).query or urlsplit(base_url).username is not None:
        raise ValueError
    provider = provider_of(base_url)
    dialect = ANTHROPIC if ANTHROPIC in (name, provider) else OPENAI
    key_file = members.get("key_file")
    return Upstream(
        name,
        base_url,
        Choice(DIALECTS).read(members.get("dialect", dialect), is_text=True),
        text_of(members.get("provider", provider or (name if default else ""))),
        None if key_file is None else read_path(key_file),
        _seconds(members.get("connect_s", _TIMES.connect_s)),
        _seconds(members.get("answer_s", _TIMES.answer_s)),
        _seconds(members.get("idle_s", _TIMES.idle_s)),
        members.get("include_usage", True) is True,
        None if members.get("ca") is None else read_path(members["ca"]),
    )


def _seconds(raw: object) -> float:
    return Seconds(86_400).read(raw, is_text=False)


_TIMES = Upstream("", "", "", "")


@dataclass(frozen=True)
class Proxy:
    """Proxied calls."""

    upstreams: Annotated[
        tuple[Upstream, ...],
        Said(
            Upstreams(),
            [],
            "Where proxied calls may go, besides openai and anthropic, which are there by themselves and may be given "
            "another base URL. Nothing else is ever called.",
            default_text="openai and anthropic",
            own_flag="--upstream",
        ),
    ]
    body_bytes: Annotated[
        int,
        Said(
            Size(1, 1024 * _MIB),
            32 * _MIB,
            "The largest body of a proxied call that has to be read before it is sent on.",
            default_text="32MiB",
        ),
    ]
    on_failure: Annotated[
        str,
        Said(
            Choice((OPEN, CLOSED)),
            OPEN,
            "What becomes of a call when budgets cannot be asked, or its record could not be taken (a full queue, a "
            'disk in trouble): "open" makes it, "closed" refuses it.',
        ),
    ]
    waiting_records: Annotated[
        int,
        Said(
            Whole(1, 1_000_000),
            10_000,
            "Records of proxied calls that may wait in memory because the ledger takes none; with so many, calls are "
            "refused, whatever proxy.on_failure says.",
        ),
    ]
    unlimited_output_tokens: Annotated[
        int,
        Said(
            Whole(1, 10_000_000),
            4096,
            "What a call that sets itself no limit of tokens is taken to answer at most, when budgets are asked.",
        ),
    ]
    drain_s: Annotated[
        float,
        Said(Seconds(3600), 60.0, "How long an answer is read on after its caller has left, to see what it used."),
    ]
    requests_per_minute: Annotated[
        int, Said(Whole(1, 1_000_000), 300, "Calls a minute by way of one proxy endpoint (/proxy/SLUG/…).")
    ]
    counts_per_minute: Annotated[
        int, Said(Whole(1, 1_000_000), 600, "Counts of tokens a minute by way of one proxy endpoint.")
    ]
