"""Upkeep: what a daemon does by itself every so often, in steps small enough that nobody waits for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from costd.domain.errors import Refused
from costd.services.access import Access
from costd.store.ledger import Change
from costd.store.retention import RetentionLimits, Step, retain

if TYPE_CHECKING:
    from costd.store.writer import Writer

_log = logging.getLogger(__name__)


class Upkeep:
    """Retention, and writing down when keys were used."""

    def __init__(self, writer: Writer, access: Access, limits: RetentionLimits) -> None:
        self._writer = writer
        self._access = access
        self._limits = limits

    async def run_once(self) -> None:
        """Do whatever is due; trouble with the storage is left for the next time."""
        try:
            if (flush := self._access.flush_last_used()) is not None:
                await flush
            while not (await self._step()).done:
                pass
        except Refused as refusal:
            _log.warning("upkeep put off: %s", refusal.message)

    async def _step(self) -> Step:
        return await self._writer.submit(Change(lambda commit: retain(commit, self._limits)))
