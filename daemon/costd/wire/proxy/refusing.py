"""What a refused proxied call is told, in words and in fields of ours."""

from __future__ import annotations

from typing import Any

from costd.domain.errors import Invalid, Overloaded, RateLimited, Refused, Unauthenticated
from costd.domain.money import usd_text
from costd.domain.proxied.refusals import Refusal
from costd.services.admission import Decision
from costd.services.funding import LEASE_UNAVAILABLE, MODEL_BLOCKED
from costd.wire.status import INTERNAL_MESSAGE, retry_after_s, status_of
from costd.wire.web.answers import money, money_or_null, rfc3339


class NoWebSocket(Invalid):
    """WebSockets are not proxied.

    426 is what Codex, which tries one first, takes as the word to go on over HTTP; after anything else it tries again.
    """

    def __init__(self) -> None:
        super().__init__(
            "Upgrade",
            "costd does not proxy WebSockets: make the same call over HTTP, where responses stream as server-sent "
            "events, or connect to the provider itself, where costd does not see what is used",
        )


def refusal_of(error: BaseException) -> Refusal:
    """A failure of ours as the provider would put it."""
    status = status_of(error)
    message = getattr(error, "message", INTERNAL_MESSAGE) if isinstance(error, Refused) else INTERNAL_MESSAGE
    if isinstance(error, RateLimited):
        return Refusal(429, message, code="rate_limit_exceeded", retry_after_s=retry_after_s(error))
    if isinstance(error, NoWebSocket):
        return Refusal(426, error.reason, may_retry=False)
    if isinstance(error, Unauthenticated):
        return Refusal(401, message, code="invalid_api_key")
    if isinstance(error, Overloaded):
        return Refusal(503, message, retry_after_s=retry_after_s(error))
    return Refusal(status.http, message, param=getattr(error, "field", "") or "", retry_after_s=retry_after_s(error))


def denied_sentence(decision: Decision) -> str:
    """Why a budget said no, and when it will not any more."""
    budget = decision.budget
    if budget is None:
        return f"a budget refused this call ({decision.deny_reason})"
    if decision.deny_reason == MODEL_BLOCKED:
        return f'budget "{budget.name}" refuses models whose price is not known'
    if decision.deny_reason == LEASE_UNAVAILABLE:
        # The last of the warnings says why; those before it are about the price.
        return f'budget "{budget.name}" cannot say yes: {decision.warnings[-1]}'
    resets = "" if budget.resets_ms is None else f"; it resets at {rfc3339(budget.resets_ms)}"
    estimate = (
        "" if not decision.estimated_cost_nano else f", and this call may cost {usd_text(decision.estimated_cost_nano)}"
    )
    left = f"{usd_text(budget.remaining_nano)} of {usd_text(budget.limit_nano)} USD left{estimate}"
    return f'budget "{budget.name}" has {left}{resets}'


def denied_fields(decision: Decision, sentence: str, request_id: str) -> dict[str, Any]:
    """Our own fields of the answer."""
    budget = decision.budget
    return {
        "success": False,
        "message": sentence,
        "code": "BUDGET_EXCEEDED",
        "requestId": request_id,
        "deny_reason": decision.deny_reason,
        "estimated_cost_usd": money_or_null(decision.estimated_cost_nano),
        "budget": None
        if budget is None
        else {
            "id": budget.id,
            "name": budget.name,
            "scope_type": budget.scope_type,
            "limit_usd": money(budget.limit_nano),
            "spent_usd": money(budget.spent_nano),
            "remaining_usd": money(budget.remaining_nano),
            "resets_at": None if budget.resets_ms is None else rfc3339(budget.resets_ms),
        },
    }
