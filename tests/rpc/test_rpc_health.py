"""grpc.health.v1: Check, List and Watch tell the truth, end in time, and hold nothing up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from costd.wire.rpc import calls, health
from costd.wire.rpc.pools import MAX_WATCHES, CallPool
from harness import Daemon
from rpc_calls import channel_to, refusal_of, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = ("costd.v1.UsageService", "costd.v1.QueryService", "costd.v1.AdminService", "grpc.health.v1.Health")


class State:
    """What the daemon says of itself."""

    ready = True
    forwards = True


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def service(state: State) -> health.HealthService:
    return health.HealthService(
        [
            health.Condition(("", "costd.v1.UsageService"), lambda: state.ready),
            health.Condition(("costd.forwarding",), lambda: state.forwards),
        ]
    )


@pytest.fixture
def stub(service: health.HealthService) -> Iterator[health_pb2_grpc.HealthStub]:
    pool = CallPool("health", MAX_WATCHES + 2, 64)
    endpoints = calls.endpoints(
        health.SERVICE, lambda method, _name: calls.open_exchange(method, service.exchange(method), pool)
    )
    with serving(endpoints) as channel:
        yield health_pb2_grpc.HealthStub(channel)
    pool.shutdown()


def asked(name: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


def test_check_and_list_follow_the_daemon(stub: health_pb2_grpc.HealthStub, state: State) -> None:
    """Each check asks anew, for the whole and for each service."""
    for ready, status in ((True, SERVING), (False, NOT_SERVING), (True, SERVING)):
        state.ready = ready
        assert stub.Check(asked(), timeout=10).status == status
        assert stub.Check(asked("costd.v1.UsageService"), timeout=10).status == status
        listed = stub.List(health_pb2.HealthListRequest(), timeout=10).statuses
        assert {name: answer.status for name, answer in listed.items()} == {
            "": status,
            "costd.v1.UsageService": status,
            "costd.forwarding": SERVING,
        }


def test_services_are_ready_each_by_its_own_condition(
    stub: health_pb2_grpc.HealthStub, service: health.HealthService, state: State
) -> None:
    """A hub out of reach is told to who asks about it, and is no reason to take a daemon for unready."""
    watches = {name: stub.Watch(asked(name), timeout=20) for name in ("", "costd.forwarding")}
    assert {next(watch).status for watch in watches.values()} == {SERVING}
    state.forwards = False
    service.look()
    assert next(watches["costd.forwarding"]).status == NOT_SERVING
    assert stub.Check(asked("costd.forwarding"), timeout=10).status == NOT_SERVING
    assert stub.Check(asked(), timeout=10).status == SERVING
    state.ready, state.forwards = False, True
    service.look()
    assert next(watches["costd.forwarding"]).status == SERVING
    assert next(watches[""]).status == NOT_SERVING
    for watch in watches.values():
        watch.cancel()


def test_an_unknown_service_is_not_found(stub: health_pb2_grpc.HealthStub) -> None:
    """As the protocol has it: NOT_FOUND for Check, SERVICE_UNKNOWN for Watch."""
    assert refusal_of(lambda: stub.Check(asked("nobody"), timeout=10)).code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(asked("nobody"), timeout=10)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_a_watch_hears_each_change_once_and_ends_with_the_daemon(
    stub: health_pb2_grpc.HealthStub, service: health.HealthService, state: State
) -> None:
    """The status now, then news only; at the end NOT_SERVING and the end of the stream."""
    watch = stub.Watch(asked(), timeout=20)
    unknown = stub.Watch(asked("nobody"), timeout=20)
    assert next(watch).status == SERVING
    assert next(unknown).status == SERVICE_UNKNOWN
    service.look()
    state.ready = False
    service.look()
    assert next(watch).status == NOT_SERVING
    state.ready = True
    service.look()
    assert next(watch).status == SERVING
    service.stop()
    assert [answer.status for answer in watch] == [NOT_SERVING]
    assert list(unknown) == []
    assert stub.Check(asked(), timeout=10).status == NOT_SERVING


def test_watches_are_bounded_and_come_back(stub: health_pb2_grpc.HealthStub) -> None:
    """One too many is refused at once; a watch that ends makes room."""
    watches = [stub.Watch(asked(), timeout=30) for _ in range(MAX_WATCHES)]
    assert {next(watch).status for watch in watches} == {SERVING}
    assert refusal_of(lambda: next(stub.Watch(asked(), timeout=10))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Check(asked(), timeout=10).status == SERVING
    watches.pop().cancel()
    for _ in range(1000):
        again = stub.Watch(asked(), timeout=30)
        try:
            assert next(again).status == SERVING
            break
        except grpc.RpcError:
            continue
    else:
        pytest.fail("the place of a watch that ended was not given away")
    for watch in watches:
        watch.cancel()


def test_a_daemon_serves_health_without_a_key_until_it_stops(launch: Callable[..., Daemon]) -> None:
    """Every service is known; SIGTERM turns a watch to NOT_SERVING and ends it, and the daemon with it."""
    daemon = launch()
    with channel_to(daemon.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            assert stub.Check(asked(name), timeout=10).status == SERVING
        watch = stub.Watch(asked("costd.v1.UsageService"), timeout=30)
        assert next(watch).status == SERVING
        assert daemon.stop() == 0, daemon.log
        assert [answer.status for answer in watch] == [NOT_SERVING]
