"""HubService.Sync: what a source is told and tells, as messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from costd.domain.access import Caller
from costd.domain.synced import SyncedTable
from costd.services.hub_sync import HubSync
from costd.v1 import hub_pb2
from costd.wire import sync_messages

#: Tables kept in the form that travels: a list and a file, of now and of before a change.
_MAX_COMPRESSED = 4


class SyncService:
    """Answers costd.v1.HubService/Sync."""

    def __init__(self, sync: HubSync) -> None:
        self._sync = sync
        self._compressed: dict[bytes, bytes] = {}

    def sync(self, caller: Caller, requests: Iterator[hub_pb2.SyncRequest]) -> Iterator[hub_pb2.SyncResponse]:
        """Keep a source up to date until it leaves; raises what ends it."""
        for news in self._sync.follow(caller, map(sync_messages.read_upward, requests)):
            yield sync_messages.news_message(news, self._compress)

    def _compress(self, table: SyncedTable) -> bytes:
        """A table's body in zlib's form, made once for all sources."""
        held = self._compressed.get(table.digest)
        if held is None:
            held = zlib.compress(table.body)
            for digest in list(self._compressed)[: 1 - _MAX_COMPRESSED]:
                self._compressed.pop(digest, None)
            self._compressed[table.digest] = held
        return held
