"""Meters calls to paid AI APIs with costd, and never gets in their way.

tracker = costd_client.Tracker(source_app="my-app")
with tracker.call(model="gpt-4o", user="u1", estimate={"input_tokens": 900, "output_tokens": 500}) as call:
    response = client.chat.completions.create(...)
    call.usage(response)
"""

from costd_client.budget import Budget
from costd_client.call import AsyncCall, BaseCall, Call
from costd_client.context import context
from costd_client.decision import Decision
from costd_client.errors import BudgetExceeded, CostdClientError, Undecided
from costd_client.provider_usage import ProviderUsage
from costd_client.stats import Stats
from costd_client.tracker import AsyncTracker, Tracker
from costd_client.wrap_anthropic import wrap_anthropic
from costd_client.wrap_openai import wrap_openai

__version__ = "0.1.0"

__all__ = [
    "AsyncCall",
    "AsyncTracker",
    "BaseCall",
    "Budget",
    "BudgetExceeded",
    "Call",
    "CostdClientError",
    "Decision",
    "ProviderUsage",
    "Stats",
    "Tracker",
    "Undecided",
    "context",
    "wrap_anthropic",
    "wrap_openai",
]
