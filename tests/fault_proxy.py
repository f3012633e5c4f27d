"""A TCP proxy that does to connections what networks do: it drops, delays, truncates, repeats and swallows.

It runs in a thread of its own. Whatever is told to it is done when the call returns.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

_CHUNK = 1 << 14
_RECORDED_CONNECTIONS = 8
#: Of each connection; more than any test sends before it looks.
_RECORDED_BYTES = 1 << 23
_ANSWER_S = 10
_REPLAY_S = 1.0

PASS = "pass"
REFUSE = "refuse"
SWALLOW = "swallow"
HOLD = "hold"


class Counts(NamedTuple):
    """What went through; bytes as they were passed on."""

    connections: int
    to_target: int
    from_target: int


class _Side:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def reset(self) -> None:
        """End it with a reset, as a crash or a firewall does: what was not read yet is lost."""
        sock = self.writer.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class _Connection:
    """A caller's connection and the one made for it."""

    def __init__(self, client: _Side) -> None:
        self.client = client
        self.target: _Side | None = None
        #: Bytes were taken out of it: it can only be ended.
        self.spoiled = False
        self.sent = bytearray()

    def reset(self) -> None:
        """End both sides."""
        self.client.reset()
        if self.target is not None:
            self.target.reset()


class FaultProxy:
    """Passes connections on to `target` ("host:port", may be changed) until it is told otherwise."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self._mode = PASS
        self._delay_s = 0.0
        self._truncate_after: int | None = None
        self._counts = [0, 0, 0]
        self._open: set[_Connection] = set()
        self._past: deque[bytes] = deque(maxlen=_RECORDED_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def counts(self) -> Counts:
        """What went through so far."""
        return Counts(*self._counts)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def cut(self) -> None:
        """Reset every connection; new ones pass."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Reset every connection, and new ones at once."""
        self._do(self._become(REFUSE, cut=True))

    def blackhole(self) -> None:
        """Keep connections open, take new ones, and swallow whatever comes."""
        self._do(self._become(SWALLOW))

    def hold(self) -> None:
        """Keep what comes, and pass it on when healed: packets that are lost and sent again."""
        self._do(self._become(HOLD))

    def delay(self, seconds: float) -> None:
        """Pass every piece on that much later."""
        self._delay_s = seconds

    def truncate(self, after_bytes: int) -> None:
        """Once: pass that many more bytes to the target, then reset the connection they were on."""
        self._truncate_after = after_bytes

    def half_open(self, *, gone: str = "target") -> None:
        """Reset one side ("target" or "client") of every connection, and do not tell the other."""
        self._do(self._half_open(gone))

    def replay(self) -> int:
        """Send what recent connections sent once more, each on a connection of its own; how many."""
        return self._do(self._replay())

    def heal(self) -> None:
        """Pass everything again; connections that bytes are missing from are reset."""
        self._delay_s = 0.0
        self._truncate_after = None
        self._do(self._become(PASS))

    def close(self) -> None:
        """Reset everything and stop."""
        if self._loop.is_closed():
            return
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S)
        self._loop.close()

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        self.address = "127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _become(self, mode: str, *, cut: bool = False) -> None:
        self._mode = mode
        if mode == HOLD:
            self._flowing.clear()
        else:
            self._flowing.set()
        for connection in list(self._open):
            if cut or (mode == PASS and connection.spoiled):
                connection.reset()
        await asyncio.sleep(0)

    async def _cut(self) -> None:
        for connection in list(self._open):
            connection.reset()
        await asyncio.sleep(0)

    async def _half_open(self, gone: str) -> None:
        for connection in list(self._open):
            connection.spoiled = True
            side = connection.target if gone == "target" else connection.client
            if side is not None:
                side.reset()
        await asyncio.sleep(0)

    async def _replay(self) -> int:
        recorded = [*self._past, *(bytes(connection.sent) for connection in self._open)]
        again = [sent for sent in recorded if sent]
        await asyncio.gather(*(self._send_again(sent) for sent in again))
        return len(again)

    async def _send_again(self, sent: bytes) -> None:
        with suppress(OSError, TimeoutError):
            side = await self._reach_target()
            try:
                side.writer.write(sent)
                async with asyncio.timeout(_REPLAY_S):
                    while await side.reader.read(_CHUNK):
                        pass
            finally:
                side.reset()

    async def _reach_target(self) -> _Side:
        host, _, port = self.target.rpartition(":")
        return _Side(*await asyncio.open_connection(host, int(port), limit=_CHUNK))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._counts[0] += 1
        connection = _Connection(_Side(reader, writer))
        self._open.add(connection)
        try:
            await self._serve(connection)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            connection.reset()
            self._open.discard(connection)
            self._past.append(bytes(connection.sent))
            self._tasks.discard(task)

    async def _serve(self, connection: _Connection) -> None:
        if self._mode == REFUSE:
            return
        if self._mode == SWALLOW:
            connection.spoiled = True
            await _swallow(connection.client.reader)
            return
        await self._flowing.wait()
        connection.target = await self._reach_target()
        pumps = [
            asyncio.create_task(self._pump(connection, connection.client, connection.target, 1)),
            asyncio.create_task(self._pump(connection, connection.target, connection.client, 2)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if connection.spoiled:
                # A side that was lost unseen leaves the other open until somebody ends it.
                await asyncio.wait(pumps)
            await _hang_up(connection)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, connection: _Connection, source: _Side, sink: _Side, direction: int) -> None:
        with suppress(OSError):
            while data := await source.reader.read(_CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flowing.wait()
                if self._mode == SWALLOW or connection.spoiled:
                    connection.spoiled = True
                    continue
                await self._pass(connection, sink, data, direction)

    async def _pass(self, connection: _Connection, sink: _Side, data: bytes, direction: int) -> None:
        ends = False
        if direction == 1:
            if self._truncate_after is not None:
                ends = len(data) >= self._truncate_after
                data = data[: self._truncate_after]
                self._truncate_after = None if ends else self._truncate_after - len(data)
            if len(connection.sent) < _RECORDED_BYTES:
                connection.sent += data
        sink.writer.write(data)
        self._counts[direction] += len(data)
        await sink.writer.drain()
        if ends:
            # What was written must be on its way before the reset, which takes back what is not.
            await asyncio.sleep(0.01)
            connection.reset()


async def _hang_up(connection: _Connection) -> None:
    """End both sides as one of them did, after everything that is on its way."""
    for side in (connection.client, connection.target):
        if side is not None:
            side.writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await side.writer.wait_closed()


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(_CHUNK):
        pass


#: Faults that a schedule may choose from, by name.
FAULTS: dict[str, Callable[[FaultProxy, random.Random], object]] = {
    "cut": lambda proxy, _: proxy.cut(),
    "refuse": lambda proxy, _: proxy.refuse(),
    "blackhole": lambda proxy, _: proxy.blackhole(),
    "hold": lambda proxy, _: proxy.hold(),
    "delay": lambda proxy, rng: proxy.delay(rng.uniform(0.005, 0.1)),
    "truncate": lambda proxy, rng: proxy.truncate(rng.randrange(1, 20_000)),
    "half-open": lambda proxy, rng: proxy.half_open(gone=rng.choice(("target", "client"))),
    "replay": lambda proxy, _: proxy.replay(),
}


def misbehave(proxy: FaultProxy, rng: random.Random) -> str:
    """One fault of the schedule's choice; its name."""
    name = rng.choice(sorted(FAULTS))
    FAULTS[name](proxy, rng)
    return name
