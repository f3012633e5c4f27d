"""The gRPC server: what it serves, where it listens, how it stops.

It is grpcio's threaded server: on one core it answers half as many unary calls again as grpc.aio, and records wait
for their commit in threads of their own (docs/ARCHITECTURE.md has the figures).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from costd.domain.access import Caller
from costd.domain.errors import SetupError
from costd.v1 import admin_pb2, hub_pb2, query_pb2, usage_pb2
from costd.wire.rpc import calls, health, lane, reflection
from costd.wire.rpc.admin import Addresses, AdminService
from costd.wire.rpc.alerts import AlertsService
from costd.wire.rpc.audit import AuditService
from costd.wire.rpc.budgets import BudgetsService
from costd.wire.rpc.calls import Endpoint
from costd.wire.rpc.catalog import CatalogService
from costd.wire.rpc.correction import CorrectionService
from costd.wire.rpc.hub import ForwardService, no_hub
from costd.wire.rpc.hub_sync import SyncService
from costd.wire.rpc.lane import Lane, Prompt
from costd.wire.rpc.lease import LeaseService
from costd.wire.rpc.link import LinkService
from costd.wire.rpc.patience import Patience
from costd.wire.rpc.pools import Pools
from costd.wire.rpc.prices import PricesService
from costd.wire.rpc.proxy_endpoints import ProxyEndpointsService
from costd.wire.rpc.quarantine import QuarantineService
from costd.wire.rpc.query import QueryService
from costd.wire.rpc.records import RecordsService
from costd.wire.rpc.sources import SourcesService
from costd.wire.rpc.stream import RecordStream
from costd.wire.rpc.unix_socket import SocketFile
from costd.wire.rpc.usage import UsageService

if TYPE_CHECKING:
    from costd.services.services import Services

USAGE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]
QUERY = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
HUB = hub_pb2.DESCRIPTOR.services_by_name["HubService"]
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
SERVICE_NAMES = tuple(service.full_name for service in (USAGE, QUERY, ADMIN, HUB, health.SERVICE, reflection.SERVICE))
#: What health tells of the road to the hub; "" is the daemon as its callers know it, whom that does not concern.
FORWARDING = "costd.forwarding"

OPTIONS = (
    # A second daemon at the same port must fail, not take half of the calls.
    ("grpc.so_reuseport", 0),
    # Reports may be longer than what callers may send.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 4096),
    # A caller whose host vanished is noticed within 80 s; callers may ping every 10 s themselves.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

#: What ending takes beyond the grace period: cancelled calls still have to unwind.
_END_S = 5.0


class RpcServer:
    """The gRPC door: TCP, a unix socket, or both. `addresses` are told by the Status call."""

    def __init__(
        self,
        services: Services,
        listen: str | None,
        socket_path: str | None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """`listen` is "host:port" (port 0: any free one); `credentials` encrypt TCP, never the unix socket."""
        self.addresses = Addresses()
        self._listen = listen
        self._socket = SocketFile(Path(socket_path)) if socket_path else None
        self._credentials = credentials
        self._pools = Pools()
        now_s = services.access.clock.monotonic_s
        self._keyed = calls.Keyed(services.access, Patience(now_s))
        conditions = [health.Condition(("", *SERVICE_NAMES), lambda: not services.health.problems())]
        if (forwarding := services.forwarding) is not None:
            conditions.append(health.Condition((FORWARDING,), lambda: forwarding.is_connected))
        self._health = health.HealthService(conditions)
        usage = UsageService(services.admission, services.metering, services.batching, services.metrics, now_s)
        router = calls.Router(self._methods(services, usage), self._pools.refusal)
        # A source's batches are longer than what callers may send, which is looked at message by message then.
        longest = calls.MAX_BATCH_BYTES if services.hub is not None else calls.MAX_MESSAGE_BYTES
        options = [*OPTIONS, ("grpc.max_receive_message_length", longest)]
        self._server = grpc.server(self._pools.refusal, handlers=[router], options=options)
        self._lane = None
        if lane.is_known(grpc.__version__):
            self._lane = Lane(self._server, self._prompts(usage), self._keyed)
        services.health.watch(lambda _: self._health.look())
        if forwarding is not None:
            forwarding.watch(lambda _: self._health.look())

    def start(self) -> int | None:
        """Open the door; the TCP port, None where there is none. SetupError where an address cannot be had."""
        port = None
        if self._listen is not None:
            port = self._bind(self._listen)
            self.addresses.grpc = f"{self._listen.rpartition(':')[0]}:{port}"
        if self._socket is not None:
            self._bind_socket(self._socket)
            self.addresses.socket = str(self._socket.path)
        self._keyed.patience.start()
        self._server.start()
        if self._lane is not None:
            self._lane.start()
        return port

    def stop(self, grace_s: float) -> None:
        """Take no more calls, let those that run end within `grace_s`, cancel the rest; blocks until it is done."""
        self._health.stop()
        self._server.stop(grace_s).wait(grace_s + _END_S)
        self._keyed.patience.stop()
        self._pools.close()

    def _bind(self, address: str) -> int:
        try:
            if self._credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise SetupError(
                f"grpc.listen: cannot listen at {address}: {_why_not(address)}; "
                "choose another address with --grpc-listen"
            ) from error

    def _bind_socket(self, file: SocketFile) -> None:
        file.make_way()
        try:
            with file.private():
                self._server.add_insecure_port(f"unix:{file.path}")
        except (RuntimeError, OSError) as error:
            raise SetupError(f"grpc.socket: cannot listen at {file.path}: {error}") from error

    def _methods(self, services: Services, usage: UsageService) -> dict[str, Endpoint]:
        return {
            **self._usage_methods(services, usage),
            **self._keyed_methods(
                QUERY,
                QueryService(services.reports, services.spending),
                RecordsService(services.exports, services.tails),
                BudgetsService(services),
                AlertsService(services),
            ),
            **self._keyed_methods(
                ADMIN,
                AdminService(services, self.addresses),
                CatalogService(services.catalog, services.catalog_lists),
                CorrectionService(services.repricing),
                PricesService(services.prices, services.price_rules, services.unpriced),
                SourcesService(services),
                QuarantineService(services.quarantine),
                LinkService(services.link),
                ProxyEndpointsService(services.proxy_endpoints),
                AuditService(services.audit),
                BudgetsService(services),
                AlertsService(services),
            ),
            **self._hub_methods(services),
            **self._open_methods(),
        }

    def _prompts(self, usage: UsageService) -> list[Prompt]:
        """What applications ask before and after each of their calls."""
        pools, methods = self._pools, USAGE.methods_by_name
        return [
            Prompt(methods["Preflight"], usage.preflight, pools.waiting),
            Prompt(methods["Release"], usage.release, pools.waiting),
            Prompt(methods["Record"], usage.record, pools.recorded, usage.refused),
        ]

    def _usage_methods(self, services: Services, usage: UsageService) -> dict[str, Endpoint]:
        def exchange(caller: Caller, messages: Iterator[Any]) -> Iterator[Any]:
            return RecordStream(usage, caller, messages).answers()

        # Of these the lane serves its own, where it is open.
        def make(method: MethodDescriptor, name: str) -> Endpoint:
            if name == "record_stream":
                return calls.stream(method, exchange, services.access, self._pools.stream, usage.refused)
            is_record = name.startswith("record")
            pool, refused = (self._pools.record, usage.refused) if is_record else (self._pools.waiting, calls.ignore)
            return calls.unary(method, lane.waited_for(getattr(usage, name)), self._keyed, pool, refused)

        return calls.endpoints(USAGE, make)

    def _hub_methods(self, services: Services) -> dict[str, Endpoint]:
        access = services.access
        leasing = LeaseService(services)

        def lease(method: MethodDescriptor) -> Endpoint:
            return calls.unary(method, leasing.lease, self._keyed, self._pools.read)

        if services.hub is None or services.hub_sync is None or services.sources is None:

            def turn_away(method: MethodDescriptor, name: str) -> Endpoint:
                return lease(method) if name == "lease" else calls.stream(method, no_hub, access, self._pools.read)

            return calls.endpoints(HUB, turn_away)
        forwarding = ForwardService(services.hub, services.sources)
        syncing = SyncService(services.hub_sync)
        exchanges: dict[str, calls.KeyedExchange] = {"forward": forwarding.forward, "sync": syncing.sync}

        def make(method: MethodDescriptor, name: str) -> Endpoint:
            if name == "lease":
                return lease(method)
            pool, longest = self._pools.source, calls.MAX_BATCH_BYTES
            return calls.stream(method, exchanges[name], access, pool, longest=longest)

        return calls.endpoints(HUB, make)

    def _keyed_methods(self, service: ServiceDescriptor, *servicers: object) -> dict[str, Endpoint]:
        """Each method is answered by the first of `servicers` that has it."""

        def make(method: MethodDescriptor, name: str) -> Endpoint:
            answer = getattr(next(servicer for servicer in servicers if hasattr(servicer, name)), name)
            if method.server_streaming:
                return calls.unary_stream(method, answer, self._keyed, self._pools.long)
            pool = self._pools.long if name == "flush" else self._pools.read
            return calls.unary(method, answer, self._keyed, pool)

        return calls.endpoints(service, make)

    def _open_methods(self) -> dict[str, Endpoint]:
        reflecting = reflection.ReflectionService(SERVICE_NAMES)

        def checking(method: MethodDescriptor, name: str) -> Endpoint:
            pool = self._pools.watch if name == "watch" else self._pools.health
            return calls.open_exchange(method, self._health.exchange(method), pool)

        def describing(method: MethodDescriptor, _name: str) -> Endpoint:
            return calls.open_exchange(method, reflecting.exchange(method), self._pools.reflection)

        reflected = calls.endpoints(reflection.SERVICE, describing)
        return {
            **calls.endpoints(health.SERVICE, checking),
            **reflected,
            reflection.V1_PATH: reflected[reflection.PATH],
        }


def _why_not(address: str) -> str:
    """The system's own word for why nothing can listen at `address`; gRPC keeps it to itself."""
    host, _, port = address.rpartition(":")
    try:
        for family, kind, protocol, _name, where in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "it cannot be bound"
