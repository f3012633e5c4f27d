"""A hub and its sources in one process, on real ledgers and without a network: what a test does to them is exact."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from costd.clock import ManualClock
from costd.domain.forwarding import FORMAT, Hello, Lost, Waiting
from costd.domain.ids import uuid_text
from costd.metrics import Metrics
from costd.services.hub import Connection, Hub
from costd.services.outbox import Outbox
from costd.store.commit import Change, Commit
from costd.store.connection import DATABASE_NAME
from costd.store.hub_state import ensure_hub_state
from costd.store.reader import Readers
from costd.store.sources import KnownSource, insert_source, load_sources
from costd.store.space import DiskReserve
from costd.store.writer import Writer
from costd.wire.forwarded.decode import decode
from costd.wire.forwarded.encode import encode
from ledger import draft, record, series

NAMES = ("a", "b", "c")


class Node:
    """One ledger, which can be stopped, copied and set back."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder = folder
        self.clock = clock
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self.metrics = Metrics(["model"], 100)
        path = self.folder / DATABASE_NAME
        reserve = DiskReserve(self.folder, 0)
        self.writer = Writer(path, self.clock, self.metrics, max_records=100_000, max_bytes=1 << 28, reserve=reserve)
        self.writer.start()
        self.readers = Readers(path, self.clock)
        self.opened()

    def opened(self) -> None:
        """Build what works on the ledger."""

    def close(self) -> None:
        """Stop, as a daemon is stopped."""
        self.readers.close()
        assert self.writer.stop(20)

    def copy_to(self, folder: Path) -> None:
        """Copy the ledger as it is now."""
        self.close()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        self._open()

    def set_back(self, folder: Path) -> None:
        """Put an earlier copy in the ledger's place."""
        self.close()
        shutil.rmtree(self.folder)
        shutil.copytree(folder, self.folder)
        self._open()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""
        with self.readers.snapshot() as connection:
            return connection.execute(sql, values).fetchall()

    def events(self) -> dict[str, int]:
        """{event id: cost} of every record in the ledger; an id twice is a mistake."""
        rows = self.query(
            "SELECT c.id, e.seq - c.first_seq, e.cost_nano FROM event e JOIN ledger_commit c "
            "ON c.first_seq = (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq)"
        )
        found = {uuid_text(int.from_bytes(commit, "big") + ordinal): cost for commit, ordinal, cost in rows}
        assert len(found) == len(rows)
        return found

    def total(self) -> tuple[int, int]:
        """(requests, nano-USD) as reports add them up."""
        requests, usd, nano = self.query("SELECT sum(requests), sum(cost_usd), sum(cost_nano) FROM rollup")[0]
        return requests or 0, (usd or 0) * 10**9 + (nano or 0)


class HubNode(Node):
    """A hub with one source for each of NAMES."""

    def opened(self) -> None:
        """Make the sources at the first time."""
        if not self.query("SELECT 1 FROM source"):
            self.writer.submit(Change(_make_sources)).wait(20)
        with self.readers.snapshot() as connection:
            self.sources = {source.name: source for source in load_sources(connection)}
        self.hub = Hub(self.writer, self.readers, self.clock, self.metrics, decode)


class SourceNode(Node):
    """A sidecar's ledger with its outbox; `name` is the source it joins as."""

    def __init__(self, folder: Path, clock: ManualClock, name: str) -> None:
        self.name = name
        super().__init__(folder, clock)

    def opened(self) -> None:
        """Begin as a new process does."""
        self.outbox = Outbox(self.writer, self.readers, encode)
        self.incarnation = os.urandom(16)
        self.greeted = b""

    def record(self, request_id: str = "", cost: int = 1, user: str = "") -> None:
        """Keep one record."""
        mark = f"{cost}".encode().rjust(16)
        one = draft(at_ms=self.clock.now_ms(), cost_nano=cost, series=series(user=user))
        record(self.writer, one._replace(request_id=request_id, fingerprint=mark if request_id else b""))

    def connect(self, hub: HubNode) -> tuple[Connection, int, Lost | None]:
        """Meet the hub, in a new epoch where that is needed; the connection and where to go on from."""
        while True:
            stand = self.outbox.stand
            now_ms = self.clock.now_ms()
            again = self.greeted == stand.epoch
            hello = Hello("test", FORMAT, "host", "", now_ms, stand, self.incarnation, again, Waiting())
            connection, welcome = hub.hub.connect(self.source(hub), hello)
            self.greeted = stand.epoch
            going_on = self.outbox.meet(welcome)
            if not going_on.new_epoch:
                return connection, going_on.after, self.outbox.lost()
            hub.hub.disconnect(connection)
            self.outbox.begin_epoch(going_on.after, going_on.new_epoch, going_on.lost)

    def source(self, hub: HubNode) -> KnownSource:
        """Who this is at the hub."""
        return hub.sources[self.name]

    def forward(self, hub: HubNode, batches: int | None = None, heard: Callable[[], bool] = lambda: True) -> None:
        """Connect and send so many batches (None: all there are); `heard` says whether an answer arrives."""
        connection, after, lost = self.connect(hub)
        try:
            while batches is None or batches > 0:
                sealed = self.outbox.next_after(after, FORMAT)
                if sealed is None:
                    return
                applied = hub.hub.forward(connection, sealed, lost)
                after, lost = sealed.last, None
                batches = None if batches is None else batches - 1
                if not heard():
                    return
                self.outbox.acknowledge(applied.watermark, applied.set_aside)
                assert self.outbox.wait_for(applied.watermark, 20)
        finally:
            hub.hub.disconnect(connection)


def _make_sources(commit: Commit) -> None:
    ensure_hub_state(commit)
    for name in NAMES:
        commit.connection.execute(
            "INSERT INTO api_key (id, org_id, name, digest, key_prefix, roles, created_ms) "
            "VALUES (?, 1, ?, ?, '', 'source', 0)",
            (name, name, name.encode()),
        )
        insert_source(commit, name, name, name, [1])
