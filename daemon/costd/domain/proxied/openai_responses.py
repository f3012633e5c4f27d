"""Answers of the Responses API, whole, streamed, or made in the background and fetched later.

Formats: https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming. The usage is in
`response.usage` of the event that ends the stream: response.completed, response.incomplete or response.failed.
Searches cost by the call and are not in the usage, but are items of the output; opening a page that was found is free.
"""

from __future__ import annotations

from costd.domain.proxied.said import Said, inner, listed, spoken_chars, word
from costd.domain.proxied.tally import Dialect, Tally, has_error

_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_PENDING = frozenset({"queued", "in_progress"})
#: Tools that cost by the call, by the type of the item they leave in the output.
_TOOL_CALLS = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}


def _document(tally: Tally, said: Said) -> None:
    _take(tally, said)
    tally.is_pending = word(said, "status") in _PENDING
    tally.is_counted = bool(tally.usage)
    tally.chars = spoken_chars(said.get("output"))
    if has_error(said) or said.get("status") == "failed":
        tally.fail()


def _event(tally: Tally, _name: str, said: Said) -> None:
    kind = word(said, "type")
    response = inner(said, "response")
    if response:
        _take(tally, response)
    if kind in _LAST_EVENTS:
        tally.is_finished = True
        tally.is_counted = bool(tally.usage)
        tally.is_failed = kind == "response.failed"
    elif kind == "response.output_item.done":
        _count_searches(tally, [inner(said, "item")])
    elif kind.endswith(".delta"):
        delta = said.get("delta")
        tally.chars += len(delta) if isinstance(delta, str) and "audio.delta" not in kind else 0
    elif has_error(said):
        tally.fail()


def _take(tally: Tally, response: Said) -> None:
    tally.identify(response)
    tally.count(inner(response, "usage"))
    if response.get("background") is True:
        tally.once_id = tally.response_id
    output = listed(response, "output")
    if output:
        # All of it is here: what was counted item by item on the way is in it.
        tally.other_units = {}
        _count_searches(tally, output)


def _count_searches(tally: Tally, items: list[Said]) -> None:
    for item in items:
        unit = _TOOL_CALLS.get(word(item, "type"))
        if unit and word(inner(item, "action"), "type") in {"", "search"}:
            tally.other_units[unit] = tally.other_units.get(unit, 0) + 1


RESPONSES = Dialect(_document, _event, is_text=True)
