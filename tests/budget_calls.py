"""Budgets for tests: set one, ask, record and release by either door, and read how it stands."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import grpc

from callers import stubs
from costd.v1 import budget_pb2, usage_pb2, usage_pb2_grpc
from harness import Daemon

TIMEOUT_S = 60
#: Of gpt-4o: a million of them cost $2.50. What calls of this module use is counted in them, so that it is exact.
INPUT_TOKEN_NANO = 2_500
CENT_NANO = 10_000_000
USD_NANO = 10**9


class Spend(NamedTuple):
    """A call that costs a whole number of cents: who makes it, and for what."""

    cents: int
    request_id: str = ""
    user: str = "ada"
    team: str = ""
    project: str = ""
    source_app: str = "tests"
    tags: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """How many input tokens of gpt-4o cost that much."""
        return self.cents * CENT_NANO // INPUT_TOKEN_NANO


class Answer(NamedTuple):
    """What came of a preflight: "allow", or why not; the status of the door where it was no answer.

    `budget` is {field: value} with amounts in nano-USD under the names of PreflightBudget, {} where there is none.
    """

    word: str
    request_id: str = ""
    budget: Mapping[str, Any] = {}
    estimate_nano: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def allow(self) -> bool:
        """Whether the call may be made."""
        return self.word == "allow"


CONFLICT = "conflict"


class Door(Protocol):
    """One caller's way in; not for several threads."""

    def ask(self, spend: Spend) -> Answer:
        """Preflight."""

    def record(self, spend: Spend, *, status: str = "") -> str:
        """Record what it cost; "kept", "duplicate", "conflict" or the door's own status."""

    def release(self, request_id: str) -> bool:
        """Let go of what was reserved; whether there was something."""

    def close(self) -> None:
        """Hang up."""


class GrpcDoor:
    """UsageService; several may share a channel."""

    def __init__(self, daemon: Daemon, key: str = "", channel: grpc.Channel | None = None) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._own = None if channel else grpc.insecure_channel(daemon.grpc, options=options)
        self._stub: Any = usage_pb2_grpc.UsageServiceStub(channel or self._own)
        self._metadata = (("authorization", f"Bearer {key or daemon.admin_key}"),)

    def ask(self, spend: Spend) -> Answer:
        request = usage_pb2.PreflightRequest(
            dimensions=_dimensions(spend), estimated_units=_units(spend), request_id=spend.request_id
        )
        try:
            answer = self._stub.Preflight(request, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return Answer(_status_of(error))
        said = answer.budget
        budget = {field.name: getattr(said, field.name) for field in said.DESCRIPTOR.fields}
        return Answer(
            "allow" if answer.allow else answer.deny_reason,
            answer.request_id,
            budget if answer.HasField("budget") else {},
            answer.estimated_cost_nano_usd if answer.HasField("estimated_cost_nano_usd") else None,
            tuple(answer.warnings),
        )

    def record(self, spend: Spend, *, status: str = "") -> str:
        units = _units(spend) if spend.cents else []
        request = usage_pb2.RecordRequest(
            dimensions=_dimensions(spend), units=units, request_id=spend.request_id, status=status
        )
        try:
            answer = self._stub.Record(request, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return _status_of(error)
        return "duplicate" if answer.duplicate else "kept"

    def release(self, request_id: str) -> bool:
        request = usage_pb2.ReleaseRequest(request_id=request_id)
        return bool(self._stub.Release(request, metadata=self._metadata, timeout=TIMEOUT_S).released)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


class HttpDoor:
    """/v1 of the HTTP door, on one connection."""

    def __init__(self, daemon: Daemon, key: str = "") -> None:
        self._connection = http.client.HTTPConnection(daemon.ready["http"], timeout=TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {key or daemon.admin_key}", "Content-Type": "application/json"}

    def ask(self, spend: Spend) -> Answer:
        status, said = self._post("/v1/preflight", {**_body(spend), "estimated_units": {"input_tokens": spend.tokens}})
        if status != 200:
            return Answer(CONFLICT if status == 409 else str(status))
        cost = said["estimated_cost_usd"]
        return Answer(
            "allow" if said["allow"] else said["deny_reason"],
            said["request_id"],
            _budget(said["budget"]) if said["budget"] else {},
            None if cost is None else _nano(cost),
            tuple(said["warnings"]),
        )

    def record(self, spend: Spend, *, status: str = "") -> str:
        body = {**_body(spend), "units": {"input_tokens": spend.tokens} if spend.cents else {}}
        code, said = self._post("/v1/usage/record", {**body, "status": status} if status else body)
        if code != 200:
            return CONFLICT if code == 409 else str(code)
        return "duplicate" if said["duplicate"] else "kept"

    def release(self, request_id: str) -> bool:
        status, said = self._post("/v1/release", {"request_id": request_id})
        assert status == 200, said
        return bool(said["released"])

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read(), parse_float=Decimal)

    def close(self) -> None:
        self._connection.close()


DOORS: dict[str, Callable[..., Door]] = {"grpc": GrpcDoor, "http": HttpDoor}


def _dimensions(spend: Spend) -> usage_pb2.Dimensions:
    return usage_pb2.Dimensions(
        source_app=spend.source_app,
        model="gpt-4o",
        user=spend.user,
        team=spend.team,
        project=spend.project,
        tags=spend.tags,
    )


def _units(spend: Spend) -> list[usage_pb2.Quantity]:
    return [usage_pb2.Quantity(unit="input_tokens", count=spend.tokens)]


def _body(spend: Spend) -> dict[str, Any]:
    body: dict[str, Any] = {"user_external_id": spend.user, "source_app": spend.source_app, "model": "gpt-4o"}
    if spend.team:
        body["team"] = spend.team
    if spend.project:
        body["project_external_id"] = spend.project
    if spend.tags:
        body["feature_tags"] = list(spend.tags)
    return {**body, "request_id": spend.request_id} if spend.request_id else body


def _budget(said: Mapping[str, Any]) -> dict[str, Any]:
    amounts = {f"{name}_nano_usd": _nano(said[f"{name}_usd"]) for name in ("limit", "spent", "remaining")}
    return {"id": said["id"], "name": said["name"], "scope_type": said["scope_type"], **amounts}


def _nano(usd: Decimal | int) -> int:
    return int(Decimal(usd) * USD_NANO)


def _status_of(error: grpc.RpcError) -> str:
    code: str = error.code().name
    return CONFLICT if code == "ALREADY_EXISTS" else code


# -- budgets -----------------------------------------------------------------------------------------------------------


def set_budget(daemon: Daemon, name: str, cents: int, /, **fields: Any) -> budget_pb2.Budget:
    """Set a budget; `fields` are those of SetBudgetRequest, `scope` {dimension: value}."""
    with stubs(daemon) as services:
        request = budget_pb2.SetBudgetRequest(name=name, amount_nano_usd=cents * CENT_NANO, **fields)
        answer: budget_pb2.Budget = services.admin.SetBudget(request, metadata=services.metadata, timeout=TIMEOUT_S)
        return answer


def standing(daemon: Daemon, name: str, value: str = "") -> budget_pb2.WindowStanding:
    """How the present window of a budget stands; all zero where nothing was spent or reserved."""
    with stubs(daemon) as services:
        request = budget_pb2.BudgetStatusRequest(budget=name, value=value)
        answer = services.query.BudgetStatus(request, metadata=services.metadata, timeout=TIMEOUT_S)
    window: budget_pb2.WindowStanding = answer.windows[0] if answer.windows else budget_pb2.WindowStanding()
    return window


class Cents(NamedTuple):
    """A window in cents; all are whole in these tests."""

    limit: int
    settled: int
    reserved: int
    held: int
    available: int
    overshoot: int


def cents(daemon: Daemon, name: str, value: str = "") -> Cents:
    """The same, checked against its identity."""
    window = standing(daemon, name, value)
    nanos = [getattr(window, f"{field}_nano_usd") for field in Cents._fields]
    assert not any(nano % CENT_NANO for nano in nanos), nanos
    found = Cents(*(nano // CENT_NANO for nano in nanos))
    assert found.limit == found.available + found.held + found.settled - found.overshoot, found
    assert not (found.available and found.overshoot), found
    return found
