"""The section of the configuration that says where proxied calls go, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from costd.addresses import Url
from costd.domain.proxied.hosts import provider_of
from costd.sections import Said
from costd.settings import Choice, Kind, Seconds, Size, Truth, Unfit, Whole, read_path, text_of

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
            found[str(name)] = self._one(str(name), said)
        return tuple(found.values())

    def _one(self, name: str, said: object) -> Upstream:
        try:
            return _upstream(name, said)
        except Unfit:
            raise
        except (ValueError, TypeError):
            raise Unfit(name, self.allowed) from None

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
            raise Unfit(_shown(text), "must be NAME=BASE_URL, the base with its /v1 (https://api.openai.com/v1)")
        yield name.strip(), url.strip()


def _upstream(name: str, said: object) -> Upstream:
    if not _NAME.match(name):
        shown = name if isinstance(said, Mapping) else f"{name}={_shown(said)}"
        raise Unfit(shown, "its name must have lower-case letters, digits, - and _, and not begin with the last two")
    members = dict(said) if isinstance(said, Mapping) else {"base_url": said}
    for member in members.keys() - _MEMBERS:
        raise Unfit(f"{name}.{member}", f"there is no such member; it may be {', '.join(sorted(_MEMBERS))}")
    default = DEFAULTS.get(name)
    base_url = _member(name, members, "base_url", default, _BASE_URL)
    provider = provider_of(base_url)
    dialect = ANTHROPIC if ANTHROPIC in (name, provider) else OPENAI
    key_file, ca = members.get("key_file"), members.get("ca")
    return Upstream(
        name,
        base_url,
        _member(name, members, "dialect", dialect, Choice(DIALECTS)),
        text_of(members.get("provider", provider or (name if default else ""))),
        None if key_file is None else read_path(key_file),
        _member(name, members, "connect_s", _TIMES.connect_s, _SECONDS),
        _member(name, members, "answer_s", _TIMES.answer_s, _SECONDS),
        _member(name, members, "idle_s", _TIMES.idle_s, _SECONDS),
        _member(name, members, "include_usage", True, Truth()),
        None if ca is None else read_path(ca),
    )


class _BaseUrl(Url):
    """The address of an API."""

    @property
    def allowed(self) -> str:
        """The form."""
        return "must be a URL that begins with https:// or http:// and ends in /v1 or the like: no query, no user in it"

    def read(self, raw: object, *, is_text: bool) -> str:
        """The URL without slashes at its end."""
        base_url = super().read(raw, is_text=is_text).rstrip("/")
        if urlsplit(base_url).query or urlsplit(base_url).username is not None:
            raise ValueError
        return base_url


def _member(name: str, members: Mapping[str, object], member: str, default: object, kind: Kind) -> Any:
    raw = members.get(member, default)
    try:
        return kind.read(raw, is_text=False)
    except (ValueError, TypeError):
        raise Unfit(f"{name}.{member}={_shown(raw)}", kind.allowed) from None


def _shown(raw: object) -> str:
    """What was written, without who stands in a URL: there may be a password."""
    return _USER.sub("//********@", str(raw))[:256]


_USER = re.compile(r"//[^/]*@")
_SECONDS = Seconds(86_400)
_BASE_URL = _BaseUrl()
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
