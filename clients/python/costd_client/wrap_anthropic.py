"""Wraps clients of the `anthropic` package, so that what they spend is tracked.

Where the seam is, and why: costd_client.metered_client. Tracked is what creates a message, in every form the SDK has
for it, beta and tool runners included. Not tracked are counting tokens (free) and message batches (billed when they
run; their results carry the usage).

Nothing is imported from `anthropic`: any release with messages will do, and this module can be imported without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costd_client import estimate
from costd_client.metered_client import ClientT, metered
from costd_client.metering import Dimensions, EstimateHook, PaidCall, body_of
from costd_client.tracker import AsyncTracker, Tracker

if TYPE_CHECKING:
    from typing import Unpack

#: Whose bill a call is on, by a word in the name of the client's class.
_CLOUDS = {"Bedrock": "aws", "Vertex": "google", "Foundry": "azure"}


def wrap_anthropic(
    client: ClientT,
    tracker: Tracker | AsyncTracker,
    *,
    provider: str = "",
    estimate_with: EstimateHook | None = None,
    **dimensions: Unpack[Dimensions],
) -> ClientT:
    """A client that behaves as `client` does and tracks every paid call: preflight before it, record after it.

    `client` is an anthropic.Anthropic, AsyncAnthropic or one of their relatives for clouds; it is left as it is. A call
    that the preflight refuses raises BudgetExceeded and does not reach the provider.

    `provider` is the provider's id in the price list; by default it follows from the client's class.
    `estimate_with(endpoint, body)` returns the units to reserve instead of costd_client.estimate's rule of thumb.
    `dimensions` are those of Tracker.call; costd_client.context overrides them for a block.
    """
    seller = provider or _provider(type(client).__name__)

    def plan(_wrapped: Any, path: str, options: Any) -> PaidCall | None:
        if options.method.lower() != "post" or not (path == "v1/messages" or path.endswith("/v1/messages")):
            return None
        body = body_of(options)
        model = body.get("model")
        return PaidCall(
            "messages",
            model if isinstance(model, str) and model else "unknown",
            seller,
            (estimate_with or _estimate)("messages", body),
            _price_context(body),
            body.get("stream") is True,
        )

    return metered(client, "anthropic", tracker, plan, **dimensions)


def _provider(class_name: str) -> str:
    return next((cloud for word, cloud in _CLOUDS.items() if word in class_name), "anthropic")


def _price_context(body: Mapping[str, Any]) -> dict[str, str]:
    return {"speed": "fast"} if body.get("speed") == "fast" else {}


def _estimate(_endpoint: str, body: Mapping[str, Any]) -> estimate.Estimate:
    parts = (body.get(name) for name in ("system", "messages", "tools", "output_format", "output_config"))
    own = estimate.TOOLS_TOKENS if body.get("tools") else 0
    # The API takes no request without a limit.
    output = estimate.limit(body, "max_tokens", unless_limited=0)
    return {"input_tokens": estimate.text_tokens(*parts) + own, "output_tokens": output}
