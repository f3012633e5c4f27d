"""Runs the demo: `python -m scripts.demo [--keep]`; exits with 1 where hub and sidecars do not agree."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rich.markup import escape
from rich.syntax import Syntax
from scripts.demo import usage
from scripts.demo.bill import agrees, console, show_bill, show_sources, show_state, show_totals
from scripts.demo.daemon import Daemon, wait_for
from scripts.demo.relay import Relay

from costd.v1 import admin_pb2, source_pb2

CALLS = 40
#: The hub's answer to one that is counted already comes back as a correction, which has to be forwarded as well.
AGREE_S = 15.0
NOTICE_S = 5.0


def main() -> int:
    """Run the demo; with --keep leave everything running. 0 where the totals agree in the end, else 1."""
    keep = "--keep" in sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="costd-demo-"))
    fleet: dict[str, Daemon] = {}
    try:
        agree = show(folder, fleet)
        if keep:
            # The relay ends with this process: from here on there is nothing between this sidecar and its hub.
            fleet["web"].stop()
            fleet["web"] = join(folder, "web", fleet["hub"], fleet["hub"].ready["grpc"])
            show_next(fleet)
            return 0 if agree else 1
    except BaseException:
        for daemon in fleet.values():
            daemon.stop()
        raise
    stopped = [daemon.stop() for daemon in reversed(fleet.values())]
    if not all(stopped):
        sys.exit(f"not everything stopped cleanly; the logs are in {folder}")
    console.print("Everything is stopped. [bold]make demo KEEP=1[/] leaves it running; README.md says how to use it.")
    return 0 if agree else 1


def show(folder: Path, fleet: dict[str, Daemon]) -> bool:
    """The whole story, with daemons that are put into `fleet` as they start; whether the totals agree at its end."""
    started_s = time.monotonic()
    hub = fleet["hub"] = Daemon(folder, "hub", "hub", {})
    link = Relay(hub.ready["grpc"])
    web = fleet["web"] = join(folder, "web", hub, link.address)
    jobs = fleet["jobs"] = join(folder, "jobs", hub, hub.ready["grpc"])
    took_s = time.monotonic() - started_s
    console.print(f"A hub and the sidecars [bold]web[/] and [bold]jobs[/], after {took_s:.1f} s, all below {folder}\n")
    rng = random.Random(7)
    usage.over_grpc(web, CALLS, rng)
    usage.over_http(jobs, CALLS, rng)
    usage.odds_and_ends(jobs)
    console.print(f"{CALLS} calls at each, over gRPC and HTTP; bills by the month; a model that nobody has a price for")
    reach_agreement(hub, web, jobs)
    show_totals("Everything is at the hub", hub, (web, jobs))

    link.cut()
    usage.over_grpc(web, CALLS, rng)
    usage.over_http(jobs, CALLS // 2, rng)
    usage.at_both((web, jobs), str(uuid.UUID(int=rng.getrandbits(128), version=4)))
    console.print(f"\nThe link of web is cut, {CALLS} calls more, and one that both sidecars are told of. web says:")
    show_link(web)
    show_totals("Meanwhile", hub, (web, jobs))

    link.heal()
    healed_s = time.monotonic()
    agree = reach_agreement(hub, web, jobs)
    console.print(f"\nThe link is healed: {time.monotonic() - healed_s:.1f} s later")
    show_totals("Again", hub, (web, jobs))
    if agree:
        console.print("[bold green]The totals agree, to the nano-dollar.[/] What both had is counted once.\n")
    else:
        console.print("[bold red]The totals differ.[/]\n")
    show_sources(hub)
    show_bill(hub)
    show_state(hub)
    return agree


def join(folder: Path, name: str, hub: Daemon, address: str) -> Daemon:
    """A sidecar that has joined the hub at this address: as a new source where it has not been one yet."""
    file = folder / f"{name}.env"
    if not file.exists():
        file.write_text(hub.costd("sources", "create", name))
    settings = dict(line.split("=", 1) for line in file.read_text().splitlines())
    return Daemon(folder, name, "run", settings | {"COSTD_HUB": address})


def reach_agreement(hub: Daemon, *sidecars: Daemon) -> bool:
    """Have the sidecars forward what waits; whether the hub's totals become the sum of theirs."""
    for sidecar in sidecars:
        sidecar.admin.Flush(source_pb2.FlushRequest(timeout_ms=int(AGREE_S * 1000)), metadata=sidecar.metadata)
    try:
        wait_for(lambda: agrees(hub, sidecars), "the totals to agree", AGREE_S)
    except TimeoutError:
        return False
    return True


def show_link(sidecar: Daemon) -> None:
    """The road to the hub as the sidecar's operator sees it, once it has noticed that it is broken."""

    def link_now() -> source_pb2.HubLink:
        return sidecar.admin.Status(admin_pb2.StatusRequest(), metadata=sidecar.metadata).hub

    wait_for(lambda: link_now().state == "away", "the sidecar to notice that its link is cut", NOTICE_S)
    link = link_now()
    console.print(f"  hub [bold]{link.state}[/], {link.unforwarded_records} records wait: {escape(link.last_error)}")
    console.print(f"  answers callers as always: {sidecar.http('GET', '/v1/health')}\n")


def show_next(fleet: dict[str, Daemon]) -> None:
    """How to look around in what goes on running."""
    hub = fleet["hub"]
    costd = os.path.relpath(Path(sys.executable).with_name("costd"))
    script = "\n".join(
        (
            f"export HUB={hub.ready['http']} KEY=$(cat {hub.ready['admin_key_file']})",
            'curl -H "Authorization: Bearer $KEY" http://$HUB/api/costs/all',
            f"{costd} sources list --data-dir {hub.data_dir}",
            f"{costd} report --by source_app,model --data-dir {hub.data_dir}",
            *(f"{costd} status --data-dir {fleet[name].data_dir}" for name in ("web", "jobs")),
            f"kill {' '.join(str(daemon.process.pid) for daemon in fleet.values())}   # ends them",
        )
    )
    console.print("\nThe hub and both sidecars go on running:")
    console.print(Syntax(script, "bash", background_color="default", word_wrap=False))


if __name__ == "__main__":
    sys.exit(main())
