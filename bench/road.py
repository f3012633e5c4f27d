"""A road under measurement: a hub on one core and a sidecar that has joined it on the other."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench.processes import LOAD_CORE, SERVER_CORE, Daemon, daemon, ready_path
from costd.domain.money import NANO_PER_USD
from costd.store.connection import DATABASE_NAME
from costd.v1 import admin_pb2_grpc, source_pb2

#: Below the ports that systems hand out by themselves, so that one found free stays free while nobody listens on it.
_PORTS = range(20_000, 30_000)
#: How often the hub's ledger is looked at: the time of a few batches.
_LOOK_S = 0.02
#: A drain that takes longer than this has got stuck.
PATIENCE_S = 180.0


class Sight(NamedTuple):
    """What the hub had of its sources at a moment of this process's clock."""

    at_s: float
    records: int


@dataclass(frozen=True)
class Road:
    """A sidecar that runs, and a hub that runs when it is told to, always on the same port."""

    sidecar: Daemon
    hub_dir: Path
    hub_port: int
    hub_core: int

    @contextmanager
    def hub(self) -> Iterator[Daemon]:
        """The hub for the time of a `with`."""
        with hub(self.hub_dir, self.hub_port, self.hub_core) as running:
            yield running

    def sight(self) -> Sight:
        """What the hub has, from its ledger itself: what is on its disk, at no cost to it."""
        return Sight(time.perf_counter(), _row(self.hub_dir, "SELECT coalesce(sum(records), 0) FROM source")[0])

    def drain(self, records: int) -> list[Sight]:
        """Have the sidecar connect at once, and watch the hub take over that many records, first to last."""
        sights = [self.sight()]
        wanted = sights[0].records + records

        def look() -> bool:
            seen = self.sight()
            if seen.records > sights[-1].records:
                sights.append(seen)
            return seen.records >= wanted

        with flushing(self.sidecar):
            self.wait_for(look)
        return sights[1:]

    def settle(self, gap: tuple[int, ...]) -> None:
        """Wait until everything has been forwarded and the sums differ by no more than they did."""
        with flushing(self.sidecar):
            self.wait_for(lambda: self.gap() == gap)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """RuntimeError where it does not come true."""
        deadline_s = time.perf_counter() + PATIENCE_S
        while not condition():
            if time.perf_counter() > deadline_s:
                raise RuntimeError(f"the hub has {self.sight().records:,} records; by sums it lacks {self.gap()}")
            time.sleep(_LOOK_S)

    def wait_until_connected(self) -> None:
        """Have the sidecar connect at once, and wait until the hub has seen it."""
        with flushing(self.sidecar):
            self.wait_for(lambda: _row(self.hub_dir, "SELECT count(*) FROM source_epoch")[0] > 0)

    def gap(self) -> tuple[int, ...]:
        """By how much the sums of the sidecar's ledger exceed the hub's: forwarding all must leave it as it was."""
        return tuple(map(int.__sub__, totals(self.sidecar.data_dir), totals(self.hub_dir)))


@contextmanager
def road(folder: Path, sidecar_core: int = SERVER_CORE) -> Iterator[Road]:
    """A sidecar that has never reached its hub, on the core given; the hub belongs on the other."""
    folder.mkdir()
    hub_core = LOAD_CORE if sidecar_core == SERVER_CORE else SERVER_CORE
    port = free_port()
    with hub(folder / "hub", port, hub_core) as running:
        key = create_sources(running, ["sidecar"])[0]
    with daemon(folder / "sidecar", *join_flags(folder, port, key), core=sidecar_core) as running:
        yield Road(running, folder / "hub", port, hub_core)


@contextmanager
def hub(data_dir: Path, port: int, core: int, *flags: str) -> Iterator[Daemon]:
    """A hub on a port and a core."""
    with daemon(data_dir, "--grpc-listen", f"127.0.0.1:{port}", *flags, core=core, command="hub") as running:
        yield running


def join_flags(folder: Path, port: int, key: str) -> tuple[str, ...]:
    """The flags that join a sidecar to the hub on a port."""
    key_file = folder / "hub.key"
    key_file.write_text(key)
    key_file.chmod(0o600)
    return ("--hub", f"127.0.0.1:{port}", "--hub-key-file", str(key_file))


def create_sources(running: Daemon, names: list[str]) -> list[str]:
    """Make sources at a hub; their keys."""
    with _admin(running) as (stub, metadata):
        requests = [source_pb2.CreateSourceRequest(name=name) for name in names]
        return [stub.CreateSource(each, metadata=metadata).key for each in requests]


@contextmanager
def flushing(sidecar: Daemon) -> Iterator[None]:
    """Have a sidecar forward at once what waits, instead of when its next attempt is due, beside a `with`."""
    with _admin(sidecar) as (stub, metadata):
        call = stub.Flush.future(source_pb2.FlushRequest(timeout_ms=int(PATIENCE_S * 1000)), metadata=metadata)
        yield
        call.cancel()


@contextmanager
def _admin(running: Daemon) -> Iterator[tuple[Any, tuple[tuple[str, str]]]]:
    """The admin service of a daemon on its unix socket, with what to send beside a request."""
    socket_path = json.loads(ready_path(running.data_dir).read_text())["socket"]
    with grpc.insecure_channel(f"unix:{socket_path}") as channel:
        yield admin_pb2_grpc.AdminServiceStub(channel), (("authorization", f"Bearer {running.key}"),)


def free_port() -> int:
    """A port that nobody listens on."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no port is free")


def totals(data_dir: Path) -> tuple[int, ...]:
    """Records, tokens, milliseconds and nano-USD of a ledger."""
    names = ("requests", "input_tokens", "output_tokens", "latency_ms", "cost_usd", "cost_nano")
    *sums, usd, nano = _row(data_dir, f"SELECT {', '.join(f'coalesce(sum({name}), 0)' for name in names)} FROM rollup")
    return (*sums, usd * NANO_PER_USD + nano)


def _row(data_dir: Path, sql: str) -> tuple[int, ...]:
    connection = sqlite3.connect(f"file:{data_dir / DATABASE_NAME}?mode=ro", uri=True)
    try:
        found: tuple[int, ...] = connection.execute(sql).fetchone()
        return found
    finally:
        connection.close()
