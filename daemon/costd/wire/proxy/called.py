"""A proxied call as it came: who calls, which upstream and route, and what the body says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from multidict import CIMultiDict

from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.domain.proxied.batch_files import FileReader
from costd.domain.proxied.refusals import Speech
from costd.domain.proxied.routes import Route
from costd.domain.proxy_endpoint import ProxyEndpoint
from costd.domain.usage import MAX_TEXT, Usage
from costd.proxy_settings import Upstream
from costd.store.proxied_bodies import Bodies

PROMPT_PROXY = "/api/proxy/v1/"
SLUG_PROXY = "/proxy/"
#: Whose application a record is of, where neither the key nor anybody else says so.
SOURCE_APP = "proxy"
#: The model of a call that names none: it is refused by the provider, but it was made.
NO_MODEL = "unknown"
_MAX_TAGS = 32
#: Claude Code says the session behind the user: a user of its own for each would say nothing.
_SESSION = "_session_"


@dataclass(slots=True)
class Called:
    """One call. `path` is clean, `query` as it came; `headers` are those that go upstream, with the key in them."""

    caller: Caller
    upstream: Upstream
    route: Route
    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    speech: Speech
    request_id: str
    began_s: float
    #: The proxy endpoint it came by, if any.
    endpoint: ProxyEndpoint | None = None
    is_sandbox: bool = False
    #: Headers of the answer that are costd's own.
    own_headers: Mapping[str, str] = field(default_factory=dict)
    #: The status of the upstream's answer, once it is there.
    answered: int = 0
    #: Under which ids money is reserved besides `request_id`: a batch may be of many models.
    also_reserved: tuple[str, ...] = ()
    #: The body, parsed; {} where it is no JSON object.
    said: Mapping[str, Any] = field(default_factory=dict)
    metadata: Metadata | None = None
    #: What is read of an upload that may be the input of a batch.
    file: FileReader | None = None
    #: What is kept of the bodies, where the endpoint stores them.
    kept: KeptBodies | None = None

    @property
    def labels(self) -> tuple[str, str]:
        """For metrics."""
        return self.upstream.name, self.route.endpoint

    @property
    def results_path(self) -> str:
        """The path at costd that batches are below, by the way this call came."""
        way = f"{PROMPT_PROXY}{self.upstream.name}" if self.endpoint is None else f"{SLUG_PROXY}{self.endpoint.slug}"
        return f"{way}/v1/{self.path.partition('messages/batches')[0]}".rstrip("/")

    @property
    def model(self) -> str:
        """The model that was asked for; "" where none was."""
        model = self.said.get("model")
        return model if isinstance(model, str) and len(model) <= MAX_TEXT else ""

    @property
    def streams(self) -> bool:
        """Whether events were asked for."""
        return self.said.get("stream") is True

    def usage(self, **known: Any) -> Usage:
        """What budgets and the ledger are told of it; `known` are units, model, status and the like."""
        said = self.metadata or _NOTHING
        return Usage(
            source_app="" if self.caller.source_app else SOURCE_APP,
            project="" if self.caller.project or self.endpoint is None else self.endpoint.slug,
            user=_user_of(self.said),
            prompt_key=said.prompt_key,
            prompt_version=said.version,
            tags=said.tags,
            endpoint=self.route.endpoint,
            **known,
        )


class KeptBodies:
    """Bodies as they pass, each up to a limit."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._request, self._response = bytearray(), bytearray()

    def sent(self, piece: bytes) -> None:
        """Of the request."""
        self._request += piece[: self._most - len(self._request)]

    def answered(self, piece: bytes) -> None:
        """Of the answer, unpacked."""
        self._response += piece[: self._most - len(self._response)]

    def both(self) -> Bodies:
        """What there is."""
        return Bodies(bytes(self._request), bytes(self._response))


class Metadata(msgspec.Struct, frozen=True):
    """What a caller says to costd in `_aipromptcost`."""

    prompt_key: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()


_NOTHING = Metadata()


class _Sent(msgspec.Struct):
    prompt_key: str | None = None
    version: int | str | None = None
    feature_tags: list[str] | None = None


def read_metadata(text: bytes | None) -> Metadata | None:
    """The metadata of a body; raises Invalid naming the field."""
    if text is None or text == b"null":
        return None
    try:
        sent = msgspec.json.decode(text, type=_Sent)
    except (msgspec.DecodeError, RecursionError) as error:
        place = str(error).partition("`$")[2].rstrip("`").lstrip(".")
        raise Invalid(".".join(filter(None, ("_aipromptcost", place))), _reason(error)) from None
    tags = tuple(sorted(set(sent.feature_tags or ())))
    version = "" if sent.version is None else str(sent.version)
    for name, value in (("prompt_key", sent.prompt_key or ""), ("version", version)):
        if len(value) > MAX_TEXT:
            raise Invalid(f"_aipromptcost.{name}", f"must be at most {MAX_TEXT} characters")
    if len(tags) > _MAX_TAGS:
        raise Invalid("_aipromptcost.feature_tags", f"must be at most {_MAX_TAGS}")
    return Metadata(sent.prompt_key or "", version, tags)


def _reason(error: BaseException) -> str:
    return str(error).partition(" - at ")[0][:200].lower() or "is no JSON object"


#: Fields of a form that say what it costs, as SDKs write them; values of a line.
_FIELD = re.compile(
    rb'name="(model|stream|n|size|quality|response_format|user)"\r\n\r\n([^\r\n]{0,256})\r\n', re.IGNORECASE
)


def form_fields(begun: bytes) -> dict[str, Any]:
    """What the beginning of a multipart form says, as a JSON body would."""
    said: dict[str, Any] = {}
    for name, value in _FIELD.findall(begun):
        text = value.decode("utf-8", "replace")
        if name == b"stream":
            said["stream"] = text.lower() == "true"
        elif name == b"n":
            said["n"] = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 1
        else:
            said[name.decode()] = text
    return said


def _user_of(said: Mapping[str, Any]) -> str:
    """The end user, under the providers' own names for it."""
    metadata = said.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    if isinstance(named, str):
        named = named.partition(_SESSION)[0]
    for value in (said.get("safety_identifier"), said.get("user"), named):
        if isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable():
            return value
    return ""
