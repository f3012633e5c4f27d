"""Rows of budgets: what a check costs in process, preflights that reserve in six windows, and whole cycles on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc

from bench import doors
from bench.load import CYCLE
from bench.plan import Plan
from bench.processes import Daemon, daemon
from bench.report import Line
from costd.v1 import admin_pb2_grpc, budget_pb2, query_pb2_grpc

#: Every call of the traffic falls under all of them; together they have some seventy windows.
EACH = ("user", "team", "project", "source_app", "model")
ORGANIZATION = "default"
AMOUNT_NANO = 10**9 * 10**9
#: Preflights that nobody records: what is reserved expires while the row runs, as it would in the long run.
RESERVATION_MINUTES = "0.1"

HTTP_RATE = 7_000
GRPC_SHARE = 0.6
CYCLES = 3_000


def http(plan: Plan) -> list[Line]:
    """POST /v1/preflight that reserves in six windows."""
    name = "budget-preflight-http"
    return doors.beside_aiohttp(
        plan, name, "http-preflight", doors.Goal(HTTP_RATE), lambda: budgeted(plan.folder / name)
    )


def over_grpc(plan: Plan) -> list[Line]:
    """UsageService.Preflight that reserves in six windows."""
    name = "budget-preflight-grpc"
    return doors.beside_grpcio(
        plan, name, "grpc-preflight", doors.Goal(0, GRPC_SHARE), lambda: budgeted(plan.folder / name)
    )


def cycle(plan: Plan) -> list[Line]:
    """A preflight and its record, on disk: each cycle is two requests."""
    name = "budget-cycle-http"
    rate, *others = doors.beside_aiohttp(
        plan, name, CYCLE, doors.Goal(2 * CYCLES), lambda: budgeted(plan.folder / name)
    )
    ours = rate.ours / 2
    how = f"{rate.how}; a cycle is a preflight that reserves in six windows and the record that settles it, fsynced"
    theirs = rate.yardstick and rate.yardstick / 2
    whole = replace(rate, ours=ours, yardstick=theirs, goal=f"≥ {CYCLES:,} /s", is_met=ours >= CYCLES, how=how)
    return [whole, *others]


@contextmanager
def budgeted(data_dir: Path) -> Iterator[Daemon]:
    """A daemon with six hard budgets; RuntimeError where they did not see all of the load."""
    with (
        daemon(data_dir, "--budgets-reservation-minutes", RESERVATION_MINUTES) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        metadata = (("authorization", f"Bearer {running.key}"),)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        for each in ("", *EACH):
            scope = {} if each else {"org": ORGANIZATION}
            name = f"for each {each}" if each else "everything"
            request = budget_pb2.SetBudgetRequest(
                name=name, each=each, scope=scope, amount_nano_usd=AMOUNT_NANO, period="total"
            )
            admin.SetBudget(request, metadata=metadata, timeout=10)
        yield running
        query = query_pb2_grpc.QueryServiceStub(channel)
        listed = query.ListBudgets(budget_pb2.ListBudgetsRequest(), metadata=metadata, timeout=10).budgets
        windows = {standing.budget.each: standing.window_count for standing in listed}
        if len(windows) != 1 + len(EACH) or not all(windows.values()):
            raise RuntimeError(f"budgets without a load: {windows}")
