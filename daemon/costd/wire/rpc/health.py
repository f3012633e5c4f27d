"""grpc.health.v1.Health: whether the daemon takes records, asked for once or watched.

Speaks the messages of grpcio-health-checking but not its servicer: that one writes to every watcher from the thread
that reports the change, under its lock, so that one watcher who stopped reading would hold up the writer and every
other check. It also has no way to end its watches, on which a shutdown would wait out its whole grace period.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2

from costd.domain.errors import NotFound, Overloaded
from costd.wire.rpc.calls import Exchange, reader
from costd.wire.rpc.pools import MAX_WATCHES

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
Response = health_pb2.HealthCheckResponse
SERVING = Response.SERVING
NOT_SERVING = Response.NOT_SERVING
SERVICE_UNKNOWN = Response.SERVICE_UNKNOWN


class Condition(NamedTuple):
    """Services that are ready together, by their names ("" is the whole server), and whether they are."""

    services: Collection[str]
    holds: Callable[[], bool]


class HealthService:
    """Answers for every service that a condition is about."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        """Conditions are asked at every check, and for whoever watches whenever look() is called."""
        self._conditions = tuple(conditions)
        self._changed = threading.Condition()
        self._ready = self._ask()
        self._stopping = False
        self._watches = 0

    def look(self) -> None:
        """Ask the conditions, and tell every watcher to whom it is news; returns at once, whatever they do."""
        with self._changed:
            self._ready = self._ask()
            self._changed.notify_all()

    def _ask(self) -> dict[str, bool]:
        held = [(condition.services, condition.holds()) for condition in self._conditions]
        return {service: holds for services, holds in held for service in services}

    def stop(self) -> None:
        """Not serving from here on: tell every watcher and end the watches."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def exchange(self, method: MethodDescriptor) -> Exchange:
        """What answers `method`: Check, List or Watch."""
        answer: Callable[[Any, grpc.ServicerContext], Iterator[Any]] = {
            "Check": self._check,
            "List": self._list,
            "Watch": self._watch,
        }[method.name]
        read = reader(method)

        def exchange(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            return answer(read(requests), context)

        return exchange

    def _check(self, request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        if request.service not in self._ready:
            raise NotFound("there is no such service here; server reflection lists them")
        self.look()
        yield Response(status=self._status(request.service))

    def _list(self, _request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        self.look()
        statuses = {service: Response(status=self._status(service)) for service in self._ready}
        yield health_pb2.HealthListResponse(statuses=statuses)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._changed:
            if self._watches >= MAX_WATCHES:
                raise Overloaded(f"{MAX_WATCHES} watches are open already", retry_after_s=30.0)
            self._watches += 1
        try:
            yield from self._changes(request.service, context)
        finally:
            with self._changed:
                self._watches -= 1

    def _changes(self, service: str, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(self._wake)
        said: Any = None
        while context.is_active():
            status, is_last = self._next(service, said, context)
            if status != said:
                said = status
                yield Response(status=status)
            if is_last:
                return

    def _next(self, service: str, said: Any, context: grpc.ServicerContext) -> tuple[Any, bool]:
        """Wait for another status than `said`, or for the end; the status, and whether it is the last."""

        def has_news() -> bool:
            return self._status(service) != said or self._stopping or not context.is_active()

        with self._changed:
            self._changed.wait_for(has_news)
            return self._status(service), self._stopping

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _status(self, service: str) -> Any:
        if service not in self._ready:
            return SERVICE_UNKNOWN
        return SERVING if self._ready[service] and not self._stopping else NOT_SERVING
