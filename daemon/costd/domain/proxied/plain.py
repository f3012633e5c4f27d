"""Answers that hold one usage object in a known place: embeddings, images, audio, reranking, documents, and Google's.

Formats: https://platform.openai.com/docs/api-reference (embeddings, images, images-streaming, audio); the places are
those of the extractors of genai-prices, which also name Cloudflare (`result.usage`), Cohere (`meta.billed_units`),
Google (`usageMetadata`, in every chunk of a stream, of which the last holds all) and Mistral (`usage_info`).
"""

from __future__ import annotations

from costd.domain.proxied.said import Said, inner, spoken_chars, word
from costd.domain.proxied.tally import Dialect, Tally, has_error

_LAST_EVENTS = frozenset({"transcript.text.done", "speech.audio.done"})
#: Each image has such an event, so that another may follow.
_COMPLETED_IMAGES = frozenset({"image_generation.completed", "image_edit.completed"})
_HOLDERS = ("result", "response", "message")
_USAGES = ("usage", "usageMetadata", "usage_metadata", "usage_info")


def _document(tally: Tally, said: Said) -> None:
    _take(tally, said)
    tally.is_counted = bool(tally.usage)
    if has_error(said):
        tally.fail()


def _event(tally: Tally, _name: str, said: Said) -> None:
    _take(tally, said)
    kind = word(said, "type")
    if kind in _LAST_EVENTS or kind in _COMPLETED_IMAGES:
        tally.is_finished = kind in _LAST_EVENTS
        tally.is_counted = bool(tally.usage)
    elif kind == "transcript.text.delta":
        tally.chars += spoken_chars(said)
    elif has_error(said):
        tally.fail()


def _take(tally: Tally, said: Said) -> None:
    for holder in (said, *(inner(said, name) for name in _HOLDERS)):
        tally.identify(holder)
        tally.model = word(holder, "modelVersion") or tally.model
        for name in _USAGES:
            tally.count(inner(holder, name))
    if not tally.usage and inner(inner(said, "meta"), "billed_units"):
        tally.count(inner(said, "meta"))
    if not tally.usage and isinstance(said.get("duration"), int | float):
        # The verbose form of a transcription by a model that is priced by the second.
        tally.count({"type": "duration", "seconds": said["duration"]})


PLAIN = Dialect(_document, _event)
