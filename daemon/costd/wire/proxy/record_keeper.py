"""Records of proxied calls, handed to the ledger and offered again until it has kept them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from costd.domain.errors import Conflict, Forbidden, Invalid, Refused
from costd.domain.usage import ERROR, INCOMPLETE, Usage
from costd.store.ticket import Ticket
from costd.wire.proxy.called import NO_MODEL, Called

if TYPE_CHECKING:
    from costd.services.metering import Receipt
    from costd.services.services import Services

DOOR = "proxy"
#: How soon a record is offered again that the ledger could not take.
_AGAIN_S = 1.0
_FIRST_AGAIN_S = 0.05

_log = logging.getLogger(__name__)


class RecordKeeper:
    """Sees to it that what was delivered is billed, for as long as the daemon runs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        #: Records that are on their way to the disk.
        self._handed: set[Ticket[Receipt]] = set()
        #: What is done about those that were refused, and about bodies that are kept.
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many records wait in memory for the ledger to take them, and bodies for the disk."""
        return len(self._pending)

    def keep(self, called: Called, usage: Usage) -> None:
        """Hand a record over; what the call's endpoint stores of its bodies goes after it."""
        try:
            ticket = self._services.metering.record(called.caller, usage, DOOR, awaited=False)
        except Refused as refusal:
            self._later(self._offered(called, usage, refusal))
        else:
            self._handed.add(ticket)
            ticket.when_settled(partial(self._settled, called, usage))

    def _settled(self, called: Called, usage: Usage, ticket: Ticket[Receipt]) -> None:
        self._handed.discard(ticket)
        if ticket.refused or called.kept is not None:
            self._later(self._kept(called, usage, ticket))

    async def _kept(self, called: Called, usage: Usage, ticket: Ticket[Receipt]) -> None:
        try:
            receipt = await ticket
        except Refused as refusal:
            await self._offered(called, usage, refusal)
        else:
            await self._keep_bodies(called, receipt)

    async def _keep_bodies(self, called: Called, receipt: Receipt) -> None:
        if called.kept is None or called.endpoint is None:
            return
        try:
            await self._services.proxied_bodies.keep(called.endpoint, receipt.event_id, called.kept.both())
        except Refused as refusal:
            _log.warning("bodies of a proxied call were not stored: %s", refusal.message)

    async def _offered(self, called: Called, usage: Usage, refusal: Refused) -> None:
        """Offer a record again until it is kept: what was delivered is billed.

        What does not fit of what a provider said is left out rather than the record.
        """
        # What may wait for hours holds no prompt and no key.
        called.said, called.headers = {}, CIMultiDict()
        said = {"upstream": called.upstream.name, "endpoint": called.route.endpoint}
        lesser, pause_s = iter(_ever_less(usage)), _FIRST_AGAIN_S
        while not isinstance(refusal, Conflict):  # told before, by another call
            if isinstance(refusal, Invalid | Forbidden):
                fitting = next(lesser, None) if isinstance(refusal, Invalid) else None
                if fitting is None:
                    _log.error("a record of a proxied call cannot be kept: %s", refusal.message, extra=said)
                    return
                usage, reason = fitting, refusal.message
                _log.warning("a provider's usage does not fit and is recorded in part: %s", reason, extra=said)
            else:
                self._services.metrics.proxy.unrecorded.add((), 1)
                _log.debug("a record of a proxied call waits for the ledger: %s", refusal.message)
                await asyncio.sleep(pause_s)
                pause_s = min(_AGAIN_S, pause_s * 2)
            try:
                receipt = await self._services.metering.record(called.caller, usage, DOOR)
            except Refused as error:
                refusal = error
            else:
                await self._keep_bodies(called, receipt)
                return

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def flush(self, timeout_s: float) -> None:
        """Wait for records that are on their way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for ticket in tuple(self._handed):
                    with suppress(Refused):  # which `_settled` was told first
                        await ticket
                while self._pending:
                    await asyncio.wait(set(self._pending))


def _ever_less(usage: Usage) -> tuple[Usage, Usage]:
    """The tokens alone, and nothing but that there was a call."""
    tokens = tuple(pair for pair in usage.units if pair[0] in {"input_tokens", "output_tokens"})
    bare = usage._replace(units=tokens, context=())
    odd = bare._replace(units=(), user="", model=NO_MODEL, prompt_key="", prompt_version="", tags=())
    return bare, odd._replace(status=usage.status if usage.status == ERROR else INCOMPLETE)
