"""Runs the rows: `python -m bench [ROW …] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import (
    batches,
    budget_check,
    budgets,
    client,
    command,
    doors,
    dumps,
    fleet,
    footprint,
    forwarding,
    joined,
    ledger,
    proxies,
    reads,
    repricing,
    scrape,
)
from bench.plan import Plan
from bench.report import Line, print_table, write_json

ROWS: dict[str, Callable[[Plan], list[Line]]] = {
    "http-load": doors.http_load,
    "http-record": doors.http_record,
    "http-record-ids": doors.http_record_ids,
    "http-record-random": doors.http_record_random,
    "http-alone": doors.http_alone,
    "http-preflight": doors.http_preflight,
    "grpc-load": doors.grpc_load,
    "grpc-preflight": doors.grpc_preflight,
    "grpc-record": doors.grpc_record,
    "grpc-record-ids": doors.grpc_record_ids,
    "budget-check": budget_check.check,
    "budget-preflight-http": budgets.http,
    "budget-preflight-grpc": budgets.over_grpc,
    "budget-cycle-http": budgets.cycle,
    "memory": footprint.memory,
    "start": footprint.start,
    "disk": footprint.disk,
    "store": ledger.store,
    "scrape": scrape.scrape,
    "reads": reads.reads,
    **{kind: batches.row(kind) for kind in batches.GOALS},
    "batch-memory": batches.memory,
    "export": dumps.export,
    "import": dumps.import_,
    "reprice": repricing.reprice,
    "client": client.client,
    "report-5m": command.report,
    **{name: forwarding.row(name) for name in forwarding.KINDS},
    "forward-while-recording": forwarding.while_recording,
    "hub-200": fleet.row("hub-200", with_tls=False),
    "hub-200-tls": fleet.row("hub-200-tls", with_tls=True),
    "joined-memory": joined.memory,
    "joined-start": joined.start,
    "joined-record": joined.records,
    "proxy": proxies.added,
    "proxy-litellm": proxies.beside_litellm,
}
#: What must be installed first is run where it is asked for.
ON_DEMAND = frozenset({"proxy-litellm"})


def main() -> int:
    """0 when every goal was met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Speed and memory of the daemon.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which rows to run: {', '.join(ROWS)} (all)")
    parser.add_argument("--quick", action="store_true", help="a minute for everything, with rougher figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--dir", type=Path, help="work below this folder: its disk is the one measured")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="costd-bench-", dir=arguments.dir) as folder:
        plan = Plan.quick(Path(folder)) if arguments.quick else Plan(Path(folder))
        for name in arguments.rows or [name for name in ROWS if name not in ON_DEMAND]:
            print(f"{name} …", file=sys.stderr, flush=True)
            lines += ROWS[name](plan)
    print_table(lines)
    if arguments.json:
        write_json(lines, arguments.json)
    return 1 if any(line.is_met is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
