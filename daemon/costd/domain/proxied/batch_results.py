"""Results of batches: a line of JSON for each request, with the answer it would have had, at the price of batches.

Formats: https://platform.openai.com/docs/guides/batch (the output file: `id`, `custom_id`, `response.body`) and
https://docs.anthropic.com/en/api/retrieving-message-batch-results (`custom_id`, `result.type`, `result.message`).
What a batch used is recorded when its results are fetched, line by line, so that every request has its own model and
its own tier of price; the id of the line makes fetching them again count nothing.
"""

from __future__ import annotations

from costd.domain.proxied.anthropic_messages import MESSAGES
from costd.domain.proxied.openai_chat import CHAT
from costd.domain.proxied.openai_responses import RESPONSES
from costd.domain.proxied.plain import PLAIN
from costd.domain.proxied.said import Said, inner, word
from costd.domain.proxied.sold import Sold
from costd.domain.proxied.tally import Dialect, Tally

_BATCH_TIER = "batch"
_BY_OBJECT = {"response": RESPONSES, "chat.completion": CHAT, "text_completion": CHAT}


def sold_by_line(line: Said) -> Sold | None:
    """What one request of a batch used; None for a line that tells of none, or that nothing tells from others."""
    message = inner(inner(line, "result"), "message")
    if message:
        return _sold(MESSAGES, message, word(message, "id"))
    body = inner(inner(line, "response"), "body")
    return _sold(_BY_OBJECT.get(word(body, "object"), PLAIN), body, word(line, "id")) if body else None


def _sold(dialect: Dialect, answer: Said, once_id: str) -> Sold | None:
    tally = Tally()
    dialect.document(tally, answer)
    if not (once_id and tally.usage):
        return None
    tally.once_id = once_id
    tally.tier = _BATCH_TIER
    tally.usage["service_tier"] = _BATCH_TIER
    return tally.sold(is_begun=True, is_complete=True)
