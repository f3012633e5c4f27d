"""Quarantine: what a hub could not take, at the hub and at its source, and what is to become of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costd.domain.access import Caller
from costd.domain.errors import Conflict, Forbidden, Invalid, NotFound
from costd.store.commit import Change, Commit
from costd.store.orgs import OWN_ORG
from costd.store.quarantine import (
    HELD,
    Listed,
    count_quarantined,
    find_quarantined,
    list_quarantine,
    order_settling,
)

if TYPE_CHECKING:
    from costd.services.hub import Hub
    from costd.store.reader import Readers
    from costd.store.writer import Writer

RETRY = "retry"
DROP = "drop"

_WRITE_TIMEOUT_S = 30.0


class Quarantine:
    """Shows and settles what was set aside. At a source the hub is asked to: it alone can."""

    def __init__(self, writer: Writer, readers: Readers, hub: Hub | None) -> None:
        """`hub` is None at a sidecar."""
        self._writer = writer
        self._readers = readers
        self._hub = hub

    def list(self, caller: Caller, *, settled: bool) -> list[Listed]:
        """What is held, newest first; on demand what was settled as well. Needs an admin of the installation's own."""
        _require_own(caller)
        with self._readers.snapshot() as connection:
            return list_quarantine(connection, settled=settled)

    def settle(self, caller: Caller, wanted: str, action: str) -> Listed:
        """Try again (RETRY) or give up (DROP) what has this id or the only one that begins so; how it stands then.

        Needs an admin of the installation's own organization, and blocks. Raises Forbidden, Invalid, NotFound, and
        Conflict where it is settled already or is refused again.
        """
        _require_own(caller)
        if action not in {RETRY, DROP}:
            raise Invalid("action", f'"{action[:32]}" is none; allowed are {RETRY} and {DROP}')
        found = self._find(wanted)
        if found.held.state != HELD:
            raise Conflict(f"{found.held.id} was {found.held.state} before")
        if found.held.source_id is None or self._hub is None:
            self._order(found.held.id, action, caller)
        elif action == RETRY:
            self._hub.retry(found.held.id, caller.key_id)
        else:
            self._hub.drop(found.held.id, caller.key_id)
        return self._find(found.held.id)

    def count(self) -> int:
        """Records that are held; reads the ledger."""
        with self._readers.snapshot() as connection:
            return count_quarantined(connection)

    def _find(self, wanted: str) -> Listed:
        if not wanted:
            raise Invalid("id", "must be the id of what was set aside, or its beginning")
        with self._readers.snapshot() as connection:
            found = find_quarantined(connection, wanted)
        if not found:
            raise NotFound(f'nothing in quarantine has the id "{wanted[:64]}", or one that begins so')
        if len(found) > 1 and found[0].held.id != wanted:
            raise Invalid("id", f'several in quarantine have an id that begins with "{wanted[:64]}"')
        return found[0]

    def _order(self, id_: str, action: str, caller: Caller) -> None:
        def apply(commit: Commit) -> None:
            order_settling(commit, id_, action, caller.key_id)

        self._writer.submit(Change(apply)).wait(_WRITE_TIMEOUT_S)


def _require_own(caller: Caller) -> None:
    caller.require("admin")
    if caller.org_id != OWN_ORG:
        raise Forbidden("the quarantine is the whole installation's: use a key of its own organization")
