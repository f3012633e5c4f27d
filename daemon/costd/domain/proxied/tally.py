"""What is known of an answer while it is being read: a dialect fills it in, a reader makes a Sold of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from costd.domain.provider_usage import MAX_WORD
from costd.domain.proxied.said import Said, word
from costd.domain.proxied.sold import Sold


class Tally:
    """The state of reading one answer. Later words about the same thing replace earlier ones."""

    def __init__(self) -> None:
        self.model = ""
        self.response_id = ""
        self.once_id = ""
        self.result_id = ""
        self.tier = ""
        self.usage: dict[str, Any] = {}
        self.other_units: dict[str, int] = {}
        self.chars = 0
        #: The end was seen: nothing that counts can follow.
        self.is_finished = False
        #: All of the usage was seen, though the end may not have been.
        self.is_counted = False
        self.is_failed = False
        self.is_pending = False

    def identify(self, said: Said) -> None:
        """Take the id, the model and the tier of an answer, under OpenAI's and Anthropic's names."""
        if self.model == said.get("model") and self.tier == said.get("service_tier"):
            return  # as in every chunk but the first
        self.model = word(said, "model") or self.model
        self.response_id = word(said, "id") or self.response_id
        self.tier = word(said, "service_tier")[:MAX_WORD] or self.tier

    def count(self, usage: Said) -> None:
        """Take a usage object that tells all of the use so far."""
        if usage:
            self.usage = dict(usage)

    def fail(self) -> None:
        """The provider said that it failed; nothing follows."""
        self.is_failed = self.is_finished = True

    def sold(self, *, is_begun: bool, is_complete: bool) -> Sold:
        """What was read; whether anything and all of it came is the reader's judgement."""
        usage = dict(self.usage)
        if self.other_units:
            usage["other_units"] = self.other_units
        if usage and self.tier and usage.get("service_tier") is None:
            # OpenAI says the tier beside the usage, Anthropic within.
            usage["service_tier"] = self.tier
        return Sold(
            self.model,
            usage or None,
            self.tier,
            is_begun,
            is_complete,
            self.is_failed,
            self.is_pending,
            self.chars,
            self.response_id,
            self.once_id,
            self.result_id,
        )


class Dialect(NamedTuple):
    """How a kind of answer is read: whole, and event by event (with the event's name).

    `is_text`: the answer is mainly text, so that what there is of a cut one can be estimated by its length.
    """

    document: Callable[[Tally, Said], None]
    event: Callable[[Tally, str, Said], None]
    is_text: bool = False


def has_error(said: Said) -> bool:
    """Whether an answer or an event is an error: {"error": {…}} or {"type": "error", …}, in all dialects."""
    return said.get("type") == "error" or bool(said.get("error"))
