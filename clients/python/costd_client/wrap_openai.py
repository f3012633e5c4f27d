"""Wraps clients of the `openai` package, so that what they spend is tracked.

Where the seam is, and why: costd_client.metered_client. Tracked are chat completions, completions, responses,
embeddings, images, speech, transcriptions, translations and decisions, in every form the SDK has for them. A response
that is made in the background is recorded when its result is fetched with the same wrapped client or a copy of it. Not
tracked are requests that cost nothing, batches and fine-tuning jobs (billed when they run), videos, and what goes over
a WebSocket.

Nothing is imported from `openai`: any release from 1.0 will do, and this module can be imported without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costd_client import estimate
from costd_client.metered_client import ClientT, metered
from costd_client.metering import Dimensions, EstimateHook, Fetch, PaidCall, body_of
from costd_client.tracker import AsyncTracker, Tracker

if TYPE_CHECKING:
    from typing import Unpack

#: What a call may write where it does not say itself, in tokens.
UNLIMITED_OUTPUT_TOKENS = 4_096

#: Others who speak OpenAI's dialect, by the host their clients are pointed at, and the provider's id.
_HOSTS = {
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
#: They end every stream with its usage without being asked.
_SEND_USAGE_UNASKED = frozenset({"mistral", "perplexity"})

#: Requests for a response that goes on in the background: to look at it, and to end it.
_FETCHES = {
    "get": re.compile(r"(?:\A|/)responses/([^/]+)\Z"),
    "post": re.compile(r"(?:\A|/)responses/([^/]+)/cancel\Z"),
}
_NOTHING = re.compile(r"(?!)")

_STANDARD_TIERS = frozenset({"", "auto", "default"})


def wrap_openai(
    client: ClientT,
    tracker: Tracker | AsyncTracker,
    *,
    provider: str = "",
    include_usage: bool = True,
    unlimited_output_tokens: int = UNLIMITED_OUTPUT_TOKENS,
    estimate_with: EstimateHook | None = None,
    **dimensions: Unpack[Dimensions],
) -> ClientT:
    """A client that behaves as `client` does and tracks every paid call: preflight before it, record after it.

    `client` is an openai.OpenAI, AsyncOpenAI or one of their subclasses; it is left as it is. A call that the preflight
    refuses raises BudgetExceeded and does not reach the provider.

    `provider` is the provider's id in the price list; by default it follows from the client's host, and is "openai"
    for hosts that are not known. `include_usage`: ask for the usage of streams that would not have it, and take the
    event that brings it out of what the caller gets. `unlimited_output_tokens` is reserved for output where a request
    sets no limit. `estimate_with(endpoint, body)` returns the units to reserve instead of costd_client.estimate's rule
    of thumb. `dimensions` are those of Tracker.call; costd_client.context overrides them for a block.
    """

    def plan(wrapped: Any, path: str, options: Any) -> PaidCall | Fetch | None:
        fetched = _FETCHES.get(options.method.lower(), _NOTHING).search(path)
        if fetched:
            return Fetch(fetched[1])
        endpoint = _endpoint(options.method, path)
        if endpoint is None:
            return None
        body = body_of(options)
        seller = provider or _provider(wrapped, endpoint)
        reserve = estimate_with or (lambda named, said: _estimate(named, said, unlimited_output_tokens))
        streams = body.get("stream") is True
        asks = include_usage and seller not in _SEND_USAGE_UNASKED
        changes = _asking_for_usage(endpoint, options) if asks and streams else {}
        return PaidCall(
            endpoint,
            _model(endpoint, body),
            seller,
            reserve(endpoint, body),
            _price_context(body),
            streams or body.get("stream_format") == "sse",
            {"input_characters": len(str(body.get("input", "")))} if endpoint == "audio/speech" else {},
            changes,
            bool(changes),
        )

    return metered(client, "openai", tracker, plan, **dimensions)


def _endpoint(method: str, path: str) -> str | None:
    """The endpoint, where it is one that costs; a gateway may have put something before it."""
    if method.lower() != "post":
        return None
    for endpoint in _ENDPOINTS:
        if path == endpoint or path.endswith(f"/{endpoint}"):
            return endpoint
    return None


def _provider(client: Any, endpoint: str) -> str:
    if "Azure" in type(client).__name__:
        return "azure"
    host = str(client.base_url).partition("//")[2].partition("/")[0].partition(":")[0].lower()
    for known, provider in _HOSTS.items():
        if host == known or host.endswith(f".{known}"):
            return provider
    # Decisions have a price list of their own.
    return "openai-decisions" if endpoint == "decisions" else "openai"


def _model(endpoint: str, body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if isinstance(model, str) and model:
        return model
    # The API's own choice for images; a stored prompt names its model where it is stored.
    return "dall-e-2" if endpoint.startswith("images/") else "unknown"


def _price_context(body: Mapping[str, Any]) -> dict[str, str]:
    tier = body.get("service_tier")
    return {"service_tier": tier} if isinstance(tier, str) and tier not in _STANDARD_TIERS else {}


def _asking_for_usage(endpoint: str, options: Any) -> dict[str, Any]:
    """Changes that make a stream say what it used; {} where it does anyway."""
    if endpoint not in ("chat/completions", "completions"):
        return {}
    # extra_body is laid over the body: the options must be changed where they are.
    extra = getattr(options, "extra_json", None)
    field = "extra_json" if isinstance(extra, Mapping) and "stream_options" in extra else "json_data"
    body = getattr(options, field)
    if not isinstance(body, Mapping):
        return {}
    said = body.get("stream_options")
    asked = dict(said) if isinstance(said, Mapping) else {}
    if asked.get("include_usage") is True:
        return {}
    return {field: {**body, "stream_options": {**asked, "include_usage": True}}}


def _estimate(endpoint: str, body: Mapping[str, Any], unlimited: int) -> estimate.Estimate:
    return _ENDPOINTS[endpoint](body, unlimited)


def _chat(body: Mapping[str, Any], unlimited: int) -> estimate.Estimate:
    parts = (body.get(name) for name in ("messages", "tools", "functions", "response_format"))
    output = estimate.limit(body, "max_completion_tokens", "max_tokens", unless_limited=unlimited)
    # A prediction that does not come true is billed as output.
    output += estimate.text_tokens(body.get("prediction"))
    return {"input_tokens": estimate.text_tokens(*parts), "output_tokens": output * estimate.count(body, "n")}


def _responses(body: Mapping[str, Any], unlimited: int) -> estimate.Estimate:
    parts = (body.get(name) for name in ("input", "instructions", "tools", "text", "prompt"))
    output = estimate.limit(body, "max_output_tokens", unless_limited=unlimited)
    return {"input_tokens": estimate.text_tokens(*parts), "output_tokens": output}


def _completions(body: Mapping[str, Any], _unlimited: int) -> estimate.Estimate:
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list | tuple) and prompt and not isinstance(prompt[0], int) else 1
    output = estimate.limit(body, "max_tokens", unless_limited=estimate.LEGACY_COMPLETION_TOKENS)
    answers = prompts * estimate.count(body, "n", "best_of")
    return {"input_tokens": estimate.text_tokens(prompt, body.get("suffix")), "output_tokens": output * answers}


def _embeddings(body: Mapping[str, Any], _unlimited: int) -> estimate.Estimate:
    return {"input_tokens": estimate.text_tokens(body.get("input"))}


def _images(body: Mapping[str, Any], _unlimited: int) -> estimate.Estimate:
    each = estimate.IMAGE_OUTPUT_TOKENS.get(str(body.get("quality")), estimate.DEAREST_IMAGE_OUTPUT_TOKENS)
    each += estimate.PARTIAL_IMAGE_TOKENS * estimate.limit(body, "partial_images", unless_limited=0)
    output = each * estimate.count(body, "n")
    return {
        "input_tokens": estimate.text_tokens(body.get("prompt")),
        "output_tokens": output,
        "output_image_tokens": output,
    }


def _edits(body: Mapping[str, Any], unlimited: int) -> estimate.Estimate:
    # The images come as files, at most sixteen; nearly always it is one with a mask.
    made = _images(body, unlimited)
    return {**made, "input_tokens": made["input_tokens"] + 2 * estimate.IMAGE_TOKENS}


def _speech(body: Mapping[str, Any], _unlimited: int) -> estimate.Estimate:
    return {"input_characters": len(str(body.get("input", "")))}


def _unknown(_body: Mapping[str, Any], _unlimited: int) -> estimate.Estimate:
    """How long a recording is cannot be seen."""
    return {}


_ENDPOINTS = {
    "chat/completions": _chat,
    "responses": _responses,
    "responses/compact": _responses,
    "embeddings": _embeddings,
    "completions": _completions,
    "decisions": _responses,
    "images/generations": _images,
    "images/edits": _edits,
    "images/variations": _edits,
    "audio/speech": _speech,
    "audio/transcriptions": _unknown,
    "audio/translations": _unknown,
}
