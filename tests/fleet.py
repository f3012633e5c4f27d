"""A hub and its sidecars as real daemons, a fault proxy on each road, and what each ledger holds, read past them."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc

import harness
from callers import stubs
from costd.store.integrity import check_ledger
from costd.v1 import source_pb2
from fault_proxy import FaultProxy
from harness import Daemon, until

DRAIN_S = 60.0

#: What tells one series from another at every ledger; numbers of organizations and series are each ledger's own.
DIMENSIONS = (
    "key_id", "source_app", "workspace", "team", "project", "product", "user", "provider", "model", "prompt_key",
    "prompt_version", "tags", "endpoint", "status",
)  # fmt: skip
AMOUNTS = (
    "requests", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "unpriced", "unrated", "latency_ms", "timed",
)  # fmt: skip

Totals = dict[tuple[Any, ...], tuple[int, ...]]


class Sidecar:
    """A sidecar of a fleet, and the proxy on its road to the hub."""

    def __init__(self, name: str, data_dir: Path, key: str, hub: str, *flags: str) -> None:
        self.name = name
        self.data_dir = data_dir
        self.key = key
        self.flags = flags
        self.proxy = FaultProxy(hub)
        #: Counts the starts, so that callers can tell a new process.
        self.starts = 0
        self.daemon: Daemon | None = None

    @property
    def running(self) -> Daemon:
        """The daemon; it must be there."""
        assert self.daemon is not None, f"{self.name} is down"
        return self.daemon

    def start(self, *flags: str) -> Daemon:
        """Start it; it joins by the proxy."""
        self.daemon = start_joined(self.data_dir, self.proxy.address, self.key, *self.flags, *flags)
        self.starts += 1
        return self.daemon

    def kill(self) -> None:
        """SIGKILL."""
        if self.daemon is not None:
            self.daemon.kill()
        self.daemon = None

    def stop(self) -> None:
        """SIGTERM, which must end well."""
        assert self.running.stop() == 0, self.running.log
        self.daemon = None

    def status(self) -> dict[str, Any]:
        """What `costd status --json` says."""
        return dict(said("status", data_dir=self.data_dir))

    @property
    def log(self) -> str:
        """Everything it has logged, over all starts."""
        return log_of(self.data_dir)


class Fleet:
    """A hub with sidecars; what still runs is ended in the end."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.flags = flags
        self.data_dir = folder / "hub"
        self.hub = harness.start(self.data_dir, *flags, command="hub")
        self.sidecars: list[Sidecar] = []

    def add(self, name: str, *flags: str, orgs: tuple[str, ...] = (), started: bool = True) -> Sidecar:
        """Make a source, and a sidecar that joins with its key."""
        joined = Sidecar(name, self.folder / name, source_key(self.hub, name, *orgs), self.hub.grpc, *flags)
        self.sidecars.append(joined)
        if started:
            joined.start()
        return joined

    def restart_hub(self, *, kill: bool = True) -> None:
        """End the hub and start it again, at another port."""
        self.stop_hub(kill=kill)
        self.start_hub()

    def stop_hub(self, *, kill: bool = True) -> None:
        """End the hub."""
        if kill:
            self.hub.kill()
        else:
            assert self.hub.stop() == 0, self.hub.log

    def start_hub(self, *flags: str) -> None:
        """Start the hub again, and lead every sidecar to it."""
        self.hub = harness.start(self.data_dir, *self.flags, *flags, command="hub")
        for each in self.sidecars:
            each.proxy.target = self.hub.grpc

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """Wait until the hub holds everything that sidecars do."""
        with ThreadPoolExecutor(len(self.sidecars)) as pool:
            list(pool.map(lambda each: drained(each.running, timeout_s), self.sidecars))

    def sources(self) -> dict[str, dict[str, Any]]:
        """What `costd sources list --json` says, by name."""
        listed = said("sources", "list", data_dir=self.data_dir)["sources"]
        return {source["name"]: source for source in listed}

    def check(self) -> None:
        """Every ledger must be sound, as `costd check` finds it."""
        for folder in (self.data_dir, *(each.data_dir for each in self.sidecars)):
            with closing(sqlite3.connect(folder / "costd.db")) as connection:
                assert check_ledger(connection).findings == [], folder

    def close(self) -> None:
        """End everything."""
        for each in self.sidecars:
            each.kill()
            each.proxy.close()
        if self.hub.process.poll() is None:
            self.hub.kill()


@contextmanager
def fleet(folder: Path, *names: str, flags: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """A hub with sidecars of these names."""
    running = Fleet(folder, *flags)
    try:
        for name in names:
            running.add(name)
        yield running
    finally:
        running.close()


def start_joined(data_dir: Path, hub: str, key: str, *flags: str) -> Daemon:
    """Start a sidecar that joins the hub at this address."""
    return harness.start(data_dir, "--hub", hub, *flags, env={"COSTD_HUB_KEY": key})


def source_key(hub: Daemon, name: str, *orgs: str) -> str:
    """The key of a new source."""
    with stubs(hub) as services:
        request = source_pb2.CreateSourceRequest(name=name, organizations=orgs)
        return str(services.admin.CreateSource(request, metadata=services.metadata).key)


def said(*words: str, data_dir: Path) -> Any:
    """What a command prints as JSON; it must succeed."""
    done = harness.costd(*words, "--data-dir", str(data_dir), "--json")
    assert done.returncode == 0, (words, done)
    return json.loads(done.stdout)


def log_of(data_dir: Path) -> str:
    """Everything that daemons on this folder have logged."""
    return (data_dir.parent / f"{data_dir.name}.log").read_text(errors="replace")


# -- ledgers, read past their daemons --------------------------------------------------------------------------------


def query(data_dir: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a ledger, whether or not a daemon has it."""
    with closing(sqlite3.connect(f"file:{data_dir / 'costd.db'}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql, values).fetchall()


def is_drained(daemon: Daemon) -> bool:
    """Whether the hub has acknowledged everything this ledger holds."""
    rows = daemon.query(
        "SELECT forwarded_seq, (SELECT max(first_seq + items - 1) FROM ledger_commit), "
        "(SELECT count(*) FROM forward_seal WHERE content IS NOT NULL) FROM ledger_state"
    )
    forwarded, last, sealed = rows[0]
    return forwarded is not None and forwarded >= (last or 0) and not sealed


def drained(daemon: Daemon, timeout_s: float = DRAIN_S) -> None:
    """Wait until the hub has acknowledged everything, what acknowledgements brought about included."""

    def is_flushed() -> bool:
        if not is_drained(daemon):
            with stubs(daemon) as services, suppress(grpc.RpcError):
                services.admin.Flush(source_pb2.FlushRequest(timeout_ms=1_000), metadata=services.metadata)
        return is_drained(daemon)

    until(is_flushed, f"{daemon.data_dir.name} to be drained\n{daemon.log[-3000:]}", timeout_s)


def totals(*data_dirs: Path) -> Totals:
    """{(organization, dimensions, hour): (nano-USD, amounts)} as the ledgers' hours add up together, without zeros."""
    sql = (
        f"SELECT org.name, {', '.join(f's.{name}' for name in DIMENSIONS)}, r.hour, r.cost_usd, r.cost_nano, "
        f"{', '.join(f'r.{name}' for name in AMOUNTS)} FROM rollup r JOIN series s ON s.id = r.series_id "
        "JOIN org ON org.id = s.org_id"
    )
    width = len(DIMENSIONS) + 2
    found: dict[tuple[Any, ...], list[int]] = {}
    for data_dir in data_dirs:
        for row in query(data_dir, sql):
            usd, nano, *amounts = row[width:]
            sums = found.setdefault(row[:width], [0] * (1 + len(AMOUNTS)))
            sums[:] = map(int.__add__, sums, (usd * 10**9 + nano, *amounts))
    return {key: tuple(sums) for key, sums in found.items() if any(sums)}


def unit_totals(*data_dirs: Path) -> dict[tuple[Any, ...], int]:
    """{(organization, dimensions, hour, unit): millionths} of units without a column, without zeros."""
    sql = (
        f"SELECT org.name, {', '.join(f's.{name}' for name in DIMENSIONS)}, r.hour, r.unit, r.whole, r.micro "
        "FROM rollup_unit r JOIN series s ON s.id = r.series_id JOIN org ON org.id = s.org_id"
    )
    found: Counter[tuple[Any, ...]] = Counter()
    for data_dir in data_dirs:
        for *key, whole, micro in query(data_dir, sql):
            found[tuple(key)] += whole * 10**6 + micro
    return {key: micro for key, micro in found.items() if micro}


def event_ids(data_dir: Path) -> list[int]:
    """The public ids of all events, in the ledger's order."""
    return [
        int.from_bytes(commit, "big") + seq - first
        for seq, first, commit in query(
            data_dir,
            "SELECT e.seq, c.first_seq, c.id FROM event e JOIN ledger_commit c "
            "ON c.first_seq = (SELECT max(first_seq) FROM ledger_commit WHERE first_seq <= e.seq) ORDER BY e.seq",
        )
    ]


def taken_back(data_dir: Path) -> set[int]:
    """The public ids of records that were taken back because the hub had them from another source."""
    return {
        int.from_bytes(event_id, "big")
        for (event_id,) in query(data_dir, "SELECT event_id FROM adjustment WHERE kind = 'duplicate'")
    }


def spent_requests(data_dir: Path) -> int:
    """How many records all hours of a ledger count."""
    return int(query(data_dir, "SELECT coalesce(sum(requests), 0) FROM rollup")[0][0])


class Jobs(NamedTuple):
    """Records of tests.callers by the number of their call."""

    found: Counter[int]
    costs: Mapping[int, int | None]


def jobs(*data_dirs: Path) -> Jobs:
    """Calls as ledgers hold them; those taken back are left out."""
    found: Counter[int] = Counter()
    costs: dict[int, int | None] = {}
    for data_dir in data_dirs:
        for job, cost in query(
            data_dir,
            "SELECT json_extract(extra, '$.job'), cost_nano FROM event WHERE json_extract(extra, '$.job') IS NOT NULL "
            "AND seq NOT IN (SELECT event_seq FROM adjustment WHERE kind IN ('duplicate', 'void'))",
        ):
            found[int(job[1:])] += 1
            costs[int(job[1:])] = cost
    return Jobs(found, costs)


def agree(hub: Path, *sidecars: Path) -> None:
    """The hub's ledger must hold exactly what its sidecars' hold together, to the nano-dollar."""
    assert totals(hub) == totals(*sidecars)
    assert unit_totals(hub) == unit_totals(*sidecars)
    here = event_ids(hub)
    assert len(set(here)) == len(here), "an event is at the hub twice"
    there = [event_id for each in sidecars for event_id in event_ids(each)]
    assert set(here) == set(there) - set().union(*map(taken_back, sidecars))
    entries = sorted(query(hub, _ENTRIES))
    assert entries == sorted(row for each in sidecars for row in query(each, _ENTRIES))


_ENTRIES = (
    "SELECT m.id, org.name, key_id, kind, service, provider, project, product, year, month, cost_nano, tokens, details "
    "FROM month_entry m JOIN org ON org.id = m.org_id"
)
