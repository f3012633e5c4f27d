"""Routes of the providers: which cost, how their answers are read, and what may be called at all.

The table is one for all dialects: Anthropic answers OpenAI's chat completions as well, and servers that speak OpenAI's
dialect answer Anthropic's messages. What gateways put before a route does not matter (Azure:
`deployments/NAME/chat/completions`).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote

from costd.domain.proxied.anthropic_messages import MESSAGES
from costd.domain.proxied.batch_orders import BATCH
from costd.domain.proxied.openai_chat import CHAT
from costd.domain.proxied.openai_responses import RESPONSES
from costd.domain.proxied.plain import PLAIN
from costd.domain.proxied.readers import (
    BatchObjectReader,
    DocumentReader,
    EventReader,
    LineReader,
    OpaqueReader,
    Reader,
)
from costd.domain.proxied.said import Loads
from costd.domain.proxied.tally import Dialect

MAX_PATH = 1024
#: Every character that may stand in a path as it is, and percent signs.
_PATH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*\Z")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: Whoever decodes a path more often than this before acting on it is no provider.
_DECODINGS = 4


class Kind(Enum):
    """What a route is to the ledger."""

    METERED = "metered"
    """Costs: preflight before, record after."""
    ORDER = "order"
    """Orders what costs later (a batch): preflight before, and what its results tell is recorded when they come."""
    UPLOAD = "upload"
    """Costs nothing, but its body may hold the requests of batches to come."""
    RESULT = "result"
    """Shows again, or at last, what was paid for: recorded only where Sold.once_id is set and it is not pending."""
    BATCH = "batch"
    """Shows what the requests of a batch used: a record for each Sold of Reader.take, under its once_id."""
    UNKNOWN = "unknown"
    """May cost: recorded if its answer tells its use, counted as unmetered if not."""
    FREE = "free"
    """Costs nothing, or is paid for elsewhere: passed on, and no more."""


_ASKED = frozenset({Kind.METERED, Kind.UNKNOWN, Kind.ORDER})


class Route(NamedTuple):
    """A route: `endpoint` is what records and metrics call it (of a bounded set; "other" where it is not known)."""

    kind: Kind
    endpoint: str
    dialect: Dialect = PLAIN
    can_hide_usage: bool = False
    #: Whether its answer holds addresses that lead past costd (batch_orders.with_results_at).
    tells_results_url: bool = False

    @property
    def is_paid(self) -> bool:
        """Whether a call may cost by itself."""
        return self.kind in {Kind.METERED, Kind.UNKNOWN}

    @property
    def is_asked(self) -> bool:
        """Whether budgets are asked first."""
        return self.kind in _ASKED

    def reader(
        self,
        status: int,
        content_type: str,
        loads: Loads,
        *,
        streams: bool = False,
        hide_usage: bool = False,
        results_at: str = "",
    ) -> Reader:
        """The reader of an answer; `streams`: the request asked for events, `hide_usage` as EventReader says.

        `results_at` is the base of costd's own address for the results of batches, "" to leave addresses as they are.
        """
        kind = content_type.lower()
        if self.tells_results_url and results_at and status < 400 and "json" in kind:
            return BatchObjectReader(self.dialect, loads, results_at)
        if status >= 400 or self.kind is Kind.FREE:
            return OpaqueReader(is_error=status >= 400)
        if self.kind is Kind.BATCH:
            return LineReader(loads)
        if "event-stream" in kind or (streams and "json" not in kind):
            return EventReader(self.dialect, loads, hide_usage=hide_usage and self.can_hide_usage)
        return DocumentReader(self.dialect, loads) if "json" in kind or not kind else OpaqueReader(is_error=False)


_PAID = {
    endpoint: Route(Kind.METERED, endpoint, dialect, hides)
    for endpoint, dialect, hides in (
        ("chat/completions", CHAT, True),
        ("fim/completions", CHAT, False),
        ("completions", CHAT, True),
        ("responses", RESPONSES, False),
        ("responses/compact", RESPONSES, False),
        ("decisions", RESPONSES, False),
        ("messages", MESSAGES, False),
        ("embeddings", PLAIN, False),
        ("images/generations", PLAIN, False),
        ("images/edits", PLAIN, False),
        ("images/variations", PLAIN, False),
        ("audio/speech", PLAIN, False),
        ("audio/transcriptions", PLAIN, False),
        ("audio/translations", PLAIN, False),
        ("rerank", PLAIN, False),
        ("ocr", PLAIN, False),
    )
}
#: What costs nothing by itself when it is posted, by how it begins, or whole.
_FREE_NAMES = ("batches", "containers", "conversations", "files", "uploads", "vector_stores")
_FREE_BEGINNINGS = (*(f"{name}/" for name in _FREE_NAMES), "messages/batches/")
_FREE = frozenset({*_FREE_NAMES, "messages/batches", "messages/count_tokens", "moderations", "responses/input_tokens"})

#: What gateways and clouds put before a route.
_BEFORE = re.compile(r"(?:.*/)?(?:v\d+(?:beta)?|deployments/[^/]+)/")
_FETCHED = re.compile(r"responses/[^/]+\Z")
_CANCELLED = re.compile(r"responses/[^/]+/cancel\Z")
_RESULTS = re.compile(r"(?:files/([^/]+)/content|messages/batches/([^/]+)/results)\Z")
_ORDERS = {
    "batches": Route(Kind.ORDER, "batches", BATCH),
    "messages/batches": Route(Kind.ORDER, "batches", BATCH, tells_results_url=True),
}
_UPLOAD = Route(Kind.UPLOAD, "files", BATCH)
_BATCH = re.compile(r"(messages/)?batches/[^/]+\Z")
_BATCH_CANCELLED = re.compile(r"(messages/)?batches/[^/]+/cancel\Z")

#: The names of all endpoints, for whoever must know them beforehand.
ENDPOINTS = (*_PAID, *_FREE_NAMES, "count_tokens", "input_tokens", "models", "moderations", "other")


def route_of(method: str, path: str) -> Route:
    """The route of a request; `path` as clean_path returns it."""
    route = _BEFORE.sub("", path, count=1)
    if method == "POST":
        return _posted(route)
    if method == "GET" and (found := _BATCH.match(route)):
        return Route(Kind.RESULT, "batches", BATCH, tells_results_url=bool(found[1]))
    if method == "GET" and route == "messages/batches":
        return Route(Kind.FREE, "batches", BATCH, tells_results_url=True)
    if method == "GET" and _RESULTS.match(route):
        return Route(Kind.BATCH, "batches")
    if method == "GET" and _FETCHED.match(route):
        return Route(Kind.RESULT, "responses", RESPONSES)
    return Route(Kind.FREE, _free_name(route))


def _posted(route: str) -> Route:
    if route in _PAID:
        return _PAID[route]
    if route in _ORDERS:
        return _ORDERS[route]
    if route == "files":
        return _UPLOAD
    if found := _BATCH_CANCELLED.match(route):
        return Route(Kind.RESULT, "batches", BATCH, tells_results_url=bool(found[1]))
    if _CANCELLED.match(route):
        return Route(Kind.RESULT, "responses", RESPONSES)
    if route.startswith(_FREE_BEGINNINGS) or route in _FREE:
        return Route(Kind.FREE, _free_name(route))
    return Route(Kind.UNKNOWN, "other")


def _free_name(route: str) -> str:
    segments = route.split("/")
    if "batches" in segments:
        return "batches"
    return next((name for name in (route, segments[-1], segments[0]) if name in ENDPOINTS), "other")


def result_id(path: str) -> str:
    """What a path of Kind.BATCH fetches the results of: the id of a batch or of a file; "" where it is another's."""
    found = _RESULTS.match(_BEFORE.sub("", path, count=1))
    return (found[1] or found[2]) if found else ""


def seller(provider: str, endpoint: str) -> str:
    """The id in the price list of whoever sells a call; OpenAI's decisions have a list of their own."""
    return "openai-decisions" if (provider, endpoint) == ("openai", "decisions") else provider


def clean_path(path: str) -> str | None:
    """The path below an upstream's base, as it goes there; None where it may not be called.

    `path` is what follows the upstream's name, still percent-encoded, without the query. The `v1/` that SDKs add, and
    that is part of the base, is left out. Refused is whatever any server could take for another place: dot segments
    and empty ones, however often encoded, backslashes, control characters, a scheme or host.
    """
    path = path.removeprefix("/").removeprefix("v1/")
    if not path or len(path) > MAX_PATH or not _PATH.match(path) or _BROKEN_ESCAPE.search(path):
        return None
    seen = path
    for _ in range(_DECODINGS):
        if not _is_sound(seen):
            return None
        decoded = unquote(seen, errors="replace")
        if decoded == seen:
            return path
        seen = decoded
    return None


def _is_sound(path: str) -> bool:
    if "\\" in path or not path.isprintable() or "\N{REPLACEMENT CHARACTER}" in path:
        return False
    # Some servers cut a segment's parameters off before they look at it.
    return all(segment.partition(";")[0] not in {"", ".", ".."} for segment in path.split("/"))
