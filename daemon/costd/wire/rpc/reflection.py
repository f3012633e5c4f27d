"""Server reflection: what tools like grpcurl ask to learn the services and their messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from costd.wire.rpc.calls import Exchange, reader

SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

PATH = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
#: The later name of the same protocol, message for message; newer tools ask for it first.
V1_PATH = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


class ReflectionService:
    """grpcio-reflection's servicer, its requests read one by one by us."""

    def __init__(self, services: Iterable[str]) -> None:
        self._answer: Callable[..., Iterator[Any]] = reflection.ReflectionServicer(services).ServerReflectionInfo

    def exchange(self, method: MethodDescriptor) -> Exchange:
        """What answers `method` (ServerReflectionInfo)."""
        read = reader(method)

        def exchange(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            return self._answer((read(iter((data,))) for data in requests), context)

        return exchange
