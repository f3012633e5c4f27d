"""Upkeep: what a daemon does by itself every so often, in steps small enough that nobody waits for them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from costd.domain.errors import Refused
from costd.services.access import Access
from costd.store.commit import Change
from costd.store.event_blocks import Block, make_blocks, store_blocks
from costd.store.reader import Readers
from costd.store.retention import RetentionLimits, Step, retain
from costd.store.totals import STEP_EVENTS, LatencyCounts, count_latencies, fold_rollups, store_latencies

if TYPE_CHECKING:
    from costd.store.writer import Writer

_log = logging.getLogger(__name__)


class Upkeep:
    """Totals, blocks of events, retention, and writing down when keys were used."""

    def __init__(self, writer: Writer, readers: Readers, access: Access, limits: RetentionLimits) -> None:
        self._writer = writer
        self._readers = readers
        self._access = access
        self._limits = limits

    async def run_once(self) -> None:
        """Do whatever is due; trouble with the storage is left for the next time."""
        try:
            if (flush := self._access.flush_last_used()) is not None:
                await flush
            while await self._fold_rollups():
                pass
            while await self._fold_latencies() >= STEP_EVENTS:
                pass
            while await self._make_blocks():
                pass
            while not (await self._step()).done:
                pass
        except Refused as refusal:
            _log.warning("upkeep put off: %s", refusal.message)

    async def _fold_rollups(self) -> int:
        folded: int = await self._writer.submit(Change(fold_rollups))
        return folded

    async def _fold_latencies(self) -> int:
        """Count the latencies of the next events, beside the writer, and store the counts; how many events."""
        counts = await asyncio.get_running_loop().run_in_executor(None, self._count_latencies)
        events = counts.through_seq - counts.after_seq
        if events:
            await self._writer.submit(Change(lambda commit: store_latencies(commit, counts)))
        return events

    async def _make_blocks(self) -> int:
        """Make the next blocks of events, beside the writer, and store them; how many."""
        blocks = await asyncio.get_running_loop().run_in_executor(None, self._next_blocks)
        if blocks:
            await self._writer.submit(Change(lambda commit: store_blocks(commit, blocks)))
        return len(blocks)

    def _next_blocks(self) -> list[Block]:
        with self._readers.snapshot() as connection:
            return make_blocks(connection)

    def _count_latencies(self) -> LatencyCounts:
        with self._readers.snapshot() as connection:
            return count_latencies(connection)

    async def _step(self) -> Step:
        return await self._writer.submit(Change(lambda commit: retain(commit, self._limits)))
