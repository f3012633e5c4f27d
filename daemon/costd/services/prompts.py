"""Prompts and their versions, which are there from their first use on."""

from __future__ import annotations

from costd.clock import Clock
from costd.domain.access import Caller
from costd.store.prompts import PromptRow, active_version, list_prompts
from costd.store.reader import Readers

#: How long an answer is remembered: proxied calls look the same prompts up again and again.
_FRESH_S = 2.0
_MAX_REMEMBERED = 10_000


class Prompts:
    """Looks prompts up."""

    def __init__(self, readers: Readers, clock: Clock) -> None:
        self._readers = readers
        self._clock = clock
        self._active: dict[tuple[int, str], tuple[str, float]] = {}

    def active(self, org_id: int, prompt_key: str) -> str:
        """The version that is meant where a call names none; "" where there is none. May be a moment old."""
        held = self._active.get((org_id, prompt_key))
        now_s = self._clock.monotonic_s()
        if held is not None and now_s < held[1]:
            return held[0]
        with self._readers.snapshot() as connection:
            version = active_version(connection, org_id, prompt_key)
        if len(self._active) >= _MAX_REMEMBERED:
            self._active.clear()
        self._active[org_id, prompt_key] = version, now_s + _FRESH_S
        return version

    def list(self, caller: Caller) -> list[PromptRow]:
        """The organization's prompts by their keys; blocks. Raises Forbidden."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            return list_prompts(connection, caller.org_id)
