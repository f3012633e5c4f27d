"""Runs a daemon: opens its doors, looks after it, and takes it down in order; or serves a folder to one command."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from costd import __version__, logs
from costd.app.core import Core
from costd.clock import Clock
from costd.notify import Manager
from costd.services.admin_key import ADMIN_KEY_NAME
from costd.services.health import Health
from costd.store import runtime_file

if TYPE_CHECKING:
    from costd.config import Config
    from costd.wire.tls import TlsFiles

BEAT_S = 1.0
TLS_EVERY_S = 2.0
UPKEEP_S = 60.0

#: A thread that wants the interpreter waits this long before it is handed over. At the default of 5 ms a busy event
#: loop would make every step of a commit wait that long; below 2 ms gRPC's threads take it from each other so often
#: that every call costs a tenth more.
SWITCH_INTERVAL_S = 0.002

#: So many new containers (lists, tuples, coroutines) are made before it is looked for garbage among them. At Python's
#: 700 that is every few requests, and takes a twentieth of their time; hardly any are in cycles, and all are small.
GARBAGE_AFTER = 10_000

#: Share of the grace period that the doors may use; the rest is the writer's.
_DOORS_SHARE = 0.6

_log = logging.getLogger(__name__)


def run(config: Config, warnings: list[str]) -> int:
    """Run a daemon until SIGTERM or SIGINT; the exit status. Raises SetupError when it cannot start."""
    logs.configure(config.log.level, config.log.format)
    for warning in warnings:
        _log.warning("%s", warning)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tls = _tls_files(config)
    manager = Manager.of(os.environ)
    manager.status("opening the ledger")
    core = Core(config, Clock())
    try:
        uvloop.run(_serve(core, config, tls, manager))
    finally:
        stopped = core.close(config.shutdown.grace_s * (1 - _DOORS_SHARE))
    if not stopped:
        _log.error(
            "the disk did not let the last records be written in time; their callers were not told they were kept"
        )
        return 1
    _log.info("stopped")
    return 0


@contextmanager
def offline(config: Config) -> Iterator[tuple[str, str]]:
    """Serve a data folder to this process alone, on a private socket: (gRPC target, key) to reach it with.

    Raises DataFolderHeld when a daemon has the folder.
    """
    from costd.wire.rpc.server import RpcServer  # noqa: PLC0415 - commands that never get here start faster

    token = secrets.token_urlsafe(32)
    core = Core(config, Clock(), local_token=token)
    try:
        with tempfile.TemporaryDirectory(prefix="costd-") as folder:
            path = Path(folder) / "s"
            server = RpcServer(core.services, None, str(path))
            server.start()
            try:
                yield f"unix:{path}", token
            finally:
                server.stop(config.shutdown.grace_s)
    finally:
        core.close(config.shutdown.grace_s)


async def _serve(core: Core, config: Config, tls: TlsFiles | None, manager: Manager) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime_path = config.data_dir / runtime_file.RUNTIME_NAME
    runtime_file.remove(runtime_path)  # of a daemon that was killed
    async with _doors(core, config, tls) as running:
        gc.freeze()  # all that is there by now stays; no search for garbage need go through it again
        gc.set_threshold(GARBAGE_AFTER, 2, 2)  # refusals are in cycles with what they refuse: not to be kept for long
        gc.enable()
        runtime_file.write(runtime_path, running)
        if config.ready_file is not None:
            runtime_file.write(config.ready_file, running, config.written("ready_file"))
        _log.info(
            "ready",
            extra={
                "version": __version__,
                "grpc": running.grpc,
                "http": running.http,
                "socket": running.socket,
                "data_dir": str(config.data_dir),
                "admin_key_file": running.admin_key_file,
            },
        )
        manager.ready(told := _status(core.services.health))
        core.till_keeper.start()
        core.services.alerts.start()
        if core.services.forwarding is not None:
            core.services.forwarding.start()
        for road in (core.services.joined, core.leasing):
            if road is not None:
                road.start()
        if core.services.hub_sync is not None:
            core.services.hub_sync.start()
        # Upkeep waits for the writer; apart from it, the beat still tells of a writer that does not come back.
        chores = [asyncio.create_task(_beat(core, tls, manager, told)), asyncio.create_task(_keep_up(core))]
        await stop.wait()
        _log.info("stopping")
        manager.stopping()
        core.services.health.stopping()
        if core.services.hub is not None:
            core.services.hub.stop()
        for chore in chores:
            chore.cancel()
        runtime_file.remove(runtime_path)
        if config.ready_file is not None:
            runtime_file.remove(config.ready_file)


@asynccontextmanager
async def _doors(core: Core, config: Config, tls: TlsFiles | None) -> AsyncIterator[runtime_file.Running]:
    from costd.wire.rpc.server import RpcServer  # noqa: PLC0415
    from costd.wire.web.server import WebServer  # noqa: PLC0415

    grace_s = config.shutdown.grace_s * _DOORS_SHARE
    grpc = config.grpc
    rpc = RpcServer(
        core.services,
        str(grpc.listen) if grpc.listen else None,
        str(grpc.socket) if grpc.socket else None,
        tls.grpc_credentials() if tls else None,
    )
    web = WebServer(core.services, config.http.listen.host, config.http.listen.port, tls.http_context if tls else None)
    loop = asyncio.get_running_loop()
    grpc_port = rpc.start()
    try:
        http_host, http_port = await web.start()
        rpc.addresses.http = _joined(http_host, http_port)
        yield runtime_file.Running(
            grpc=None if grpc.listen is None or grpc_port is None else _joined(grpc.listen.host, grpc_port),
            http=_joined(http_host, http_port),
            socket=None if grpc.socket is None else str(grpc.socket),
            pid=os.getpid(),
            admin_key_file=str(config.data_dir / ADMIN_KEY_NAME),
        )
    finally:
        await asyncio.gather(web.stop(grace_s), loop.run_in_executor(None, rpc.stop, grace_s))


def _tls_files(config: Config) -> TlsFiles | None:
    if config.tls.cert is None or config.tls.key is None:
        return None
    from costd.wire.tls import TlsFiles  # noqa: PLC0415

    return TlsFiles(config.tls.cert, config.tls.key, config.written, config.tls.client_ca)


async def _beat(core: Core, tls: TlsFiles | None, manager: Manager, told: str) -> None:
    """Look after health and certificates, and tell the service manager, until cancelled.

    `told` is the status that it was told last.
    """
    health, clock = core.services.health, core.services.clock
    beat_s = min(BEAT_S, manager.ping_every_s or BEAT_S)
    next_ping_s = next_look_s = 0.0
    was_ready = True
    while True:
        ready = health.beat()
        core.stale_keys.beat()
        now_s = clock.monotonic_s()
        if (status := _status(health)) != told:
            manager.status(status)
            told = status
        if ready != was_ready:
            _log.log(logging.INFO if ready else logging.WARNING, "%s", status)
            was_ready = ready
        if manager.ping_every_s is not None and now_s >= next_ping_s and health.stalled() is None:
            manager.ping()
            next_ping_s = now_s + manager.ping_every_s
        if tls is not None and now_s >= next_look_s:
            tls.reload_if_changed()
            next_look_s = now_s + TLS_EVERY_S
        await asyncio.sleep(beat_s)


def _status(health: Health) -> str:
    problems = health.problems()
    return f"not ready: {'; '.join(problems)}" if problems else "taking records"


async def _keep_up(core: Core) -> None:
    """Do what is due every minute, until cancelled."""
    while True:
        try:
            await core.upkeep.run_once()
        except Exception:
            _log.exception("upkeep failed; it is tried again in %d s", UPKEEP_S)
        await asyncio.sleep(UPKEEP_S)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
