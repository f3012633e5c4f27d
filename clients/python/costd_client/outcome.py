"""How a call of a wrapped client ends: what was used, and what it was priced as."""

from __future__ import annotations

from collections.abc import Mapping

from costd_client.call import BaseCall
from costd_client.provider_usage import ProviderUsage


class Outcome:
    """Ends a call, from any thread; `asked` is the price context that its request asked for."""

    def __init__(self, call: BaseCall, asked: Mapping[str, str]) -> None:
        self._call = call
        self._asked = asked

    def usage(self, found: ProviderUsage) -> None:
        """Say what was used; where the answer names its own tier, that is what counts."""
        if not (found.usage or found.tool_calls):
            return
        self._call.usage(found)
        self._call.price_context({name: word for name, word in self._asked.items() if name not in found.usage})

    def finish(self, status: str | None = None) -> None:
        """The call is over."""
        self._call.finish(status=status)
