"""The prices of one entry of LiteLLM's file while it is read."""

from __future__ import annotations

from decimal import Decimal

from costd.domain.litellm.card import Notes
from costd.domain.litellm.windows import Span


class Gathered:
    """Prices by the word of `fields.WORDS` that selects them ("" is the standard price), unit and threshold."""

    def __init__(self, provider: str, mode: str | None) -> None:
        """`provider` and `mode` as the entry names them."""
        self.provider = provider
        self.mode = mode
        self.notes = Notes()
        self.cards: dict[str, dict[str, dict[int, Decimal]]] = {"": {}}
        #: {((key, word), unit): price}: what a unit costs in a context that changes nothing else.
        self.asides: dict[tuple[tuple[str, str], str], Decimal] = {}
        #: (key, word, factor): what a context multiplies the prices of all tokens with.
        self.factors: list[tuple[str, str, Decimal]] = []
        #: What units cost within the windows.
        self.off_peak: dict[str, Decimal] = {}
        self.windows: list[Span] = []
        #: The field that named each unit's price, for notes.
        self.fields: dict[str, str] = {}

    def put(self, name: str, unit: str, price: Decimal, above: int = 0, word: str = "") -> None:
        """Take the price of a field; of several for the same the first counts."""
        steps = self.cards.setdefault(word, {}).setdefault(unit, {})
        if above in steps:
            if steps[above] != price:
                self.notes.miss(name, f"{self.fields[unit]} has another price for {unit}")
            return
        steps[above] = price
        self.fields.setdefault(unit, name)
