"""Finds the provider's own usage object in what an SDK returned, in a dict of the same shape, or in a stream's events.

Nothing is converted here: costd does that, from the raw object, in one place for every language. What leaves this
module is numbers and the few words that select a price (`service_tier`, `speed`, …), never text of a prompt or an
answer.

Nothing is imported from any SDK: objects are told by their fields, so every release of every SDK will do, and none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

SUCCESS: Final = "success"
ERROR: Final = "error"
INCOMPLETE: Final = "incomplete"
#: Accepted by the provider and not yet worked on: what it uses is not known.
PENDING: Final = "pending"

#: Where providers keep their counts: OpenAI and most others, Google (REST and SDK), Mistral's document reading.
_HOLDERS = ("usage", "usageMetadata", "usage_metadata", "usage_info")
#: Fields that only an object of counts has.
_COUNTS = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "inputTokens",
        "outputTokens",
        "promptTokenCount",
        "prompt_token_count",
        "totalTokenCount",
        "total_token_count",
        "billed_units",
        "pages_processed",
    }
)
#: The only fields of a usage object whose text is sent on.
_WORDS = frozenset({"service_tier", "serviceTier", "speed", "ttl", "modality", "type", "trafficType", "traffic_type"})
_MAX_WORD = 64
#: Deeper and longer than any usage object; a broken one does no harm.
_MAX_DEPTH = 6
_MAX_WRAPPERS = 4
_MAX_ITEMS = 256

#: The word a provider's SDK begins its modules with, and the provider's id.
_SDK_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "google", "mistralai": "mistral"}
_SDK_PROVIDERS |= {"cohere": "cohere", "groq": "groq", "voyageai": "voyageai", "together": "together"}

#: Tools of OpenAI's responses that cost by the call, by the type of the output item they leave.
_TOOL_CALLS = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}

_RESPONSE_STATES = {"failed": ERROR, "cancelled": INCOMPLETE, "queued": PENDING, "in_progress": PENDING}
#: Events after which nothing that costs comes any more.
_LAST_EVENTS = frozenset(
    {
        "message_stop",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "image_generation.completed",
        "image_edit.completed",
        "transcript.text.done",
        "speech.audio.done",
    }
)


class ProviderUsage(NamedTuple):
    """What a response says about its own use.

    `usage` is the provider's raw object, as JSON has it ({} where it said nothing); `provider` is "" where the object
    does not tell; `model` is the model that answered; `tool_calls` counts tools that cost by the call, by unit;
    `status` is "success", "error", "incomplete" or "pending", and then `job_id` is what to ask for the result by.
    """

    provider: str
    model: str
    usage: dict[str, Any]
    tool_calls: dict[str, int]
    status: str
    job_id: str = ""


def find_usage(response: object) -> ProviderUsage | None:
    """The usage in `response`; None where there is none.

    Takes objects of SDKs (responses, messages, raw responses, single events), dicts of the same shape, usage objects
    themselves, lists of a stream's events, and what this returned before.
    """
    if isinstance(response, ProviderUsage):
        return response
    if isinstance(response, list | tuple):
        return StreamUsage.of(response).found()
    found = _read(response)
    # A tier without counts is no usage.
    return found._replace(usage={}) if found is not None and not _counts(found.usage) else found


def _read(response: object) -> ProviderUsage | None:
    """What a response says; its usage may be words alone."""
    holder = _holder(response)
    if holder is None:
        return None
    usage = _usage_of(holder)
    status = _RESPONSE_STATES.get(_text(_field(holder, "status")), SUCCESS)
    return ProviderUsage(
        _provider_of(response) or _provider_of(holder),
        _text(_field(holder, "model") or _field(holder, "modelVersion") or _field(holder, "model_version")),
        usage,
        _tool_calls(holder),
        status,
        _text(_field(holder, "id")) if status == PENDING else "",
    )


class StreamUsage:
    """The usage of a stream, from its events as they pass: dicts or the SDK's objects."""

    def __init__(self) -> None:
        self._provider = ""
        self._model = ""
        self._usage: dict[str, Any] = {}
        self._tool_calls: dict[str, int] = {}
        self._finished = False
        self._failed = False

    @classmethod
    def of(cls, events: Iterable[object]) -> StreamUsage:
        """The usage of events at hand."""
        stream = cls()
        for event in events:
            stream.see(event)
        return stream

    @property
    def is_finished(self) -> bool:
        """Whether the event that ends the stream, with all usage, has passed."""
        return self._finished

    def end(self) -> None:
        """The provider has marked the end in another way than by an event."""
        self._finished = True

    def see(self, event: object) -> None:
        """Take note of one event."""
        kind = _text(_field(event, "type"))
        if kind == "error" or _field(event, "error"):
            self._failed = self._finished = True
        if kind == "message_delta":
            # Anthropic's counts are cumulative: what is named again replaces what was said before.
            self._usage |= {name: value for name, value in _usage_of(event).items() if value is not None}
            self._finished = self._finished or bool(_field(_field(event, "delta"), "stop_reason"))
        else:
            self._take(_read(event))
        if kind in _LAST_EVENTS:
            self._finished = True
            self._failed = self._failed or kind == "response.failed"

    def _take(self, found: ProviderUsage | None) -> None:
        if found is None:
            return
        self._provider = found.provider or self._provider
        self._model = found.model or self._model
        tier = self._usage.get("service_tier")
        if _counts(found.usage):
            self._usage = found.usage
        else:
            self._usage |= found.usage
        if tier is not None:
            self._usage.setdefault("service_tier", tier)
        self._tool_calls = found.tool_calls or self._tool_calls

    def found(self) -> ProviderUsage:
        """All that was seen; "incomplete" where the end was not seen, nor counts that come only with it."""
        counted = _counts(self._usage)
        usage = self._usage if counted else {}
        # Anthropic counts from the first event on; there only the end is a proof of the end.
        complete = self._finished or (counted and self._provider != "anthropic")
        status = ERROR if self._failed else SUCCESS if complete else INCOMPLETE
        return ProviderUsage(self._provider, self._model, dict(usage), dict(self._tool_calls), status)


def _holder(response: object) -> object | None:
    """What holds the usage: the response itself or what it wraps; None where nothing does."""
    candidate = response
    for _ in range(_MAX_WRAPPERS):
        if candidate is None or isinstance(candidate, str | bytes | int | float):
            return None
        if _is_http_response(candidate):
            candidate = _json_body(candidate)
        elif _tells_usage(candidate):
            return candidate
        else:
            candidate = _inner(candidate)
    return None


def _tells_usage(candidate: object) -> bool:
    """Whether it has counts, or says what they depend on: a tier, or the state of a job."""
    if any(_field(candidate, name) is not None for name in _HOLDERS) or _is_usage(candidate):
        return True
    return _field(candidate, "object") == "response" or isinstance(_field(candidate, "service_tier"), str)


def _inner(candidate: object) -> object | None:
    """What an event or a raw response wraps."""
    for name in ("response", "message", "http_response", "x_groq", "metadata"):
        inner: object = _field(candidate, name)
        if inner is not None and not isinstance(inner, str):
            return inner
    return None


def _usage_of(holder: object) -> dict[str, Any]:
    """The raw usage with the tier that selects its price, which OpenAI says beside it."""
    raw = next((found for name in _HOLDERS if (found := _field(holder, name)) is not None), None)
    if raw is None and _is_usage(holder):
        raw = holder
    usage = _plain(raw, _MAX_DEPTH) if raw is not None else {}
    if not isinstance(usage, dict):
        return {}
    tier = _field(holder, "service_tier")
    if isinstance(tier, str) and not usage.get("service_tier"):
        usage["service_tier"] = tier[:_MAX_WORD]
    return usage


def _counts(usage: dict[str, Any]) -> bool:
    return bool(usage.keys() - _WORDS)


def _is_usage(candidate: object) -> bool:
    # A duration alone tells a transcription's usage from anything else that has seconds.
    if _field(candidate, "type") == "duration":
        return _field(candidate, "seconds") is not None
    return any(_field(candidate, name) is not None for name in _COUNTS)


def _tool_calls(holder: object) -> dict[str, int]:
    output = _field(holder, "output")
    counts: dict[str, int] = {}
    if isinstance(output, list | tuple):
        for item in output:
            unit = _TOOL_CALLS.get(_text(_field(item, "type")))
            # OpenAI bills searches, not the pages that the model opens afterwards.
            if unit and _text(_field(_field(item, "action"), "type")) in {"", "search"}:
                counts[unit] = counts.get(unit, 0) + 1
    return counts


def _provider_of(response: object) -> str:
    sdk = type(response).__module__.partition(".")[0]
    if sdk in _SDK_PROVIDERS:
        return _SDK_PROVIDERS[sdk]
    if _text(_field(response, "type")) in {"message", "message_start"}:
        return "anthropic"
    if any(_field(response, name) is not None for name in ("usageMetadata", "usage_metadata")):
        return "google"
    return ""


def _is_http_response(candidate: object) -> bool:
    return all(hasattr(candidate, name) for name in ("status_code", "headers", "is_stream_consumed"))


def _json_body(response: Any) -> object | None:
    """The body of an HTTP response that has been read; None where it has not been, or is not JSON."""
    try:
        return response.json() if "json" in response.headers.get("content-type", "") else None
    except Exception:
        # Not read yet, or not JSON in spite of what it says: then there is no usage to be found.
        return None


def _field(holder: object, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    # Only what the object itself holds: an SDK's `usage` may be a method or a lazy resource.
    return _fields(holder).get(name)


def _fields(holder: object) -> dict[str, Any]:
    """An object's own fields; pydantic keeps those it does not know apart."""
    own = getattr(holder, "__dict__", None)
    if not isinstance(own, dict):
        return {}
    extra = getattr(holder, "__pydantic_extra__", None)
    return {**own, **extra} if isinstance(extra, dict) else own


def _plain(value: object, depth: int) -> Any:
    """Numbers and the words that select a price, nested as they were; everything else is left out."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return None
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value[:_MAX_ITEMS] if not isinstance(item, str)]
    pairs = value.items() if isinstance(value, Mapping) else _fields(value).items()
    plain: dict[str, Any] = {}
    for name, inner in list(pairs)[:_MAX_ITEMS]:
        if not isinstance(name, str) or name.startswith("_"):
            continue
        if isinstance(inner, str):
            if name in _WORDS:
                plain[name] = inner[:_MAX_WORD]
        elif inner is not None:
            plain[name] = _plain(inner, depth - 1)
    return plain


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
