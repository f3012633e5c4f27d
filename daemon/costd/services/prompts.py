"""Prompts and their versions, which are there from their first use on."""

from __future__ import annotations

import asyncio

from costd.clock import Clock
from costd.domain.access import Caller
from costd.store.prompts import PromptRow, active_version, list_prompts
from costd.store.reader import Readers

#: How long an answer is remembered: proxied calls look the same prompts up again and again.
_FRESH_S = 2.0
_MAX_REMEMBERED = 10_000


class Prompts:
    """Looks prompts up."""

    def __init__(self, readers: Readers, quick_readers: Readers, clock: Clock) -> None:
        """`quick_readers` are those that no report keeps: proxied calls wait for what is read with them."""
        self._readers = readers
        self._quick_readers = quick_readers
        self._clock = clock
        self._active: dict[tuple[int, str], tuple[str, float]] = {}

    async def active(self, org_id: int, prompt_key: str) -> str:
        """The version that is meant where a call names none; "" where there is none. May be a moment old.

        Raises Unavailable where the ledger cannot be read.
        """
        held = self._active.get((org_id, prompt_key))
        if held is not None and self._clock.monotonic_s() < held[1]:
            return held[0]
        version = await asyncio.to_thread(self._look_up, org_id, prompt_key)
        if len(self._active) >= _MAX_REMEMBERED:
            self._active.clear()
        self._active[org_id, prompt_key] = version, self._clock.monotonic_s() + _FRESH_S
        return version

    def _look_up(self, org_id: int, prompt_key: str) -> str:
        with self._quick_readers.snapshot() as connection:
            return active_version(connection, org_id, prompt_key)

    def list(self, caller: Caller) -> list[PromptRow]:
        """The organization's prompts by their keys; blocks. Raises Forbidden."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            return list_prompts(connection, caller.org_id)
