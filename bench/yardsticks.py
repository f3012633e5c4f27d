"""The yardsticks: the least a server can do in each framework. `python -m bench.yardsticks NAME …` prints its port."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: What the daemon is made of; the process that only imports these is the yardstick of its memory.
LIBRARIES = (
    "aiohttp.web",
    "google.protobuf.message",
    "google.rpc.error_details_pb2",
    "grpc",
    "grpc_health.v1.health_pb2",
    "grpc_reflection.v1alpha.reflection_pb2",
    "msgspec",
    "prometheus_client",
    "sqlite3",
    "ssl",
    "uvloop",
)
#: Fewer threads leave the core idle between calls, more only take it from each other.
GRPC_THREADS = 4
#: Every source holds two as long as it is connected.
SOURCE_THREADS = 512


def announce(port: int) -> None:
    """Tell the parent where to find this server."""
    print(port, flush=True)


def aiohttp_empty() -> None:
    """An aiohttp application on uvloop with one handler, which answers {}."""
    import uvloop  # noqa: PLC0415
    from aiohttp import web  # noqa: PLC0415

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(body=b"{}", content_type="application/json")

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", empty)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        announce(runner.addresses[0][1])
        await asyncio.Event().wait()

    uvloop.run(serve())


def aiohttp_lowest() -> None:
    """The same without an application: aiohttp's own server straight to a handler."""
    import uvloop  # noqa: PLC0415
    from aiohttp import web  # noqa: PLC0415

    async def empty(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"{}", content_type="application/json")

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(empty, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        announce(runner.addresses[0][1])
        await asyncio.Event().wait()

    uvloop.run(serve())


def _grpc_handler(behave: Any) -> Any:
    import grpc  # noqa: PLC0415

    class AnyMethod(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(behave)

    return AnyMethod()


def grpc_threads() -> None:
    """Grpcio's threaded server with one unary method: bytes in, bytes out, nothing decoded."""
    import grpc  # noqa: PLC0415

    server = grpc.server(ThreadPoolExecutor(GRPC_THREADS), handlers=[_grpc_handler(lambda _request, _context: b"")])
    announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    threading.Event().wait()


def grpc_aio() -> None:
    """The same on grpc.aio."""
    import grpc.aio  # noqa: PLC0415

    async def empty(_request: bytes, _context: Any) -> bytes:
        return b""

    async def serve() -> None:
        server = grpc.aio.server(handlers=[_grpc_handler(empty)])
        announce(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await asyncio.Event().wait()

    asyncio.run(serve())


def hub_empty(certificate: str = "", key: str = "") -> None:
    """Grpcio's threaded server with a thread for each stream, which welcomes and acknowledges and does nothing else."""
    import grpc  # noqa: PLC0415

    from costd.v1 import hub_pb2, hub_pb2_grpc  # noqa: PLC0415

    class EmptyHub(hub_pb2_grpc.HubServiceServicer):
        def Forward(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            for request in request_iterator:
                if request.HasField("backlog"):
                    continue
                if request.HasField("batch"):
                    ack = hub_pb2.ForwardAck(watermark=request.batch.last, seal=request.batch.seal)
                    yield hub_pb2.ForwardResponse(ack=ack)
                else:
                    yield hub_pb2.ForwardResponse(welcome=hub_pb2.ForwardWelcome(format=1))

        def Sync(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            for _ in request_iterator:
                yield hub_pb2.SyncResponse()

    server = grpc.server(ThreadPoolExecutor(SOURCE_THREADS))
    hub_pb2_grpc.add_HubServiceServicer_to_server(EmptyHub(), server)
    if certificate:
        pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
        announce(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair])))
    else:
        announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    threading.Event().wait()


class _Canned(asyncio.Protocol):
    """Takes every read for one HTTP request."""

    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        self._transport.write(self._ANSWER)


class _CannedGrpc(asyncio.Protocol):
    """Answers every END_STREAM of a client's DATA frame without looking at anything else."""

    _HEADERS = b"\x00\x00\x01\x01\x04%b\x88"
    _DATA = b"\x00\x00\x05\x00\x00%b\x00\x00\x00\x00\x00"
    _TRAILERS = b"\x00\x00\x0f\x01\x05%b\x00\x0bgrpc-status\x010"

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._held = b""
        self._preface = True
        transport.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        position = 24 if self._preface else 0
        self._preface = False
        answers, taken = [], 0
        while len(data) - position >= 9:
            size = int.from_bytes(data[position : position + 3])
            if len(data) - position < 9 + size:
                break
            if data[position + 3] == 0:
                stream = data[position + 5 : position + 9]
                taken += size
                answers += [self._HEADERS % stream, self._DATA % stream, self._TRAILERS % stream]
            position += 9 + size
        self._held = data[position:]
        if answers:
            window = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + taken.to_bytes(4)
            self._transport.write(window + b"".join(answers))


def _serve_raw(protocol: Callable[[], asyncio.Protocol]) -> None:
    import uvloop  # noqa: PLC0415

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=1024)
        announce(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    uvloop.run(serve())


def http_canned() -> None:
    """A socket that answers whatever comes: how fast the HTTP load generator can be."""
    _serve_raw(_Canned)


def grpc_canned() -> None:
    """The same for the gRPC load generator."""
    _serve_raw(_CannedGrpc)


def libraries() -> None:
    """A process that has imported what the daemon imports, and waits."""
    for name in LIBRARIES:
        importlib.import_module(name)
    announce(0)
    threading.Event().wait()


SERVERS: dict[str, Callable[..., None]] = {
    "aiohttp-empty": aiohttp_empty,
    "aiohttp-lowest": aiohttp_lowest,
    "grpc-threads": grpc_threads,
    "grpc-aio": grpc_aio,
    "http-canned": http_canned,
    "grpc-canned": grpc_canned,
    "hub-empty": hub_empty,
    "libraries": libraries,
}


if __name__ == "__main__":
    SERVERS[sys.argv[1]](*sys.argv[2:])
