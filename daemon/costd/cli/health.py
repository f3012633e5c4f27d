"""`costd health`: an exit code for probes."""

from __future__ import annotations

import json

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from costd.cli.connection import Target, of_daemon, open_channel, remote, running, translated
from costd.cli.main import ANSWER_IS_NO
from costd.cli.options import Reach, daemon_options, json_option
from costd.domain.errors import CostdError


@click.command("health", epilog="Example: costd health --address 127.0.0.1:7430 --timeout 1")
@click.option("--service", default="", metavar="NAME", help="Ask for one gRPC service instead of the whole daemon.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 60),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@daemon_options
@json_option
@click.pass_context
def command(context: click.Context, service: str, timeout_s: float, reach: Reach, *, as_json: bool) -> None:
    """Exit 0 if the daemon is ready, 1 if it is not or cannot be reached.

    Asks the standard gRPC health service, which needs no key.
    """
    status, reason = _ask(reach, service, timeout_s)
    if as_json:
        click.echo(json.dumps({"ready": status == "SERVING", "status": status, "reason": reason}))
    elif status == "SERVING":
        click.echo("ready")
    else:
        click.echo(f"costd: not ready: {reason}", err=True)
    if status != "SERVING":
        context.exit(ANSWER_IS_NO)


def _ask(reach: Reach, service: str, timeout_s: float) -> tuple[str, str]:
    """The word of gRPC for the state, and a sentence for people where it is not SERVING."""
    target = remote(reach) if reach.address is not None else _near(reach)
    if target is None:
        return "UNREACHABLE", "no daemon that is up holds the data folder"
    try:
        with open_channel(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            answer = stub.Check(request, timeout=timeout_s, wait_for_ready=False)
    except grpc.RpcError as error:
        return "UNREACHABLE", translated(error, target).message
    word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return word, "" if word == "SERVING" else f"{target.address} says {word}"


def _near(reach: Reach) -> Target | None:
    found = running(reach.load().config.data_dir)
    try:
        return None if found is None else of_daemon(found, reach)
    except CostdError:
        return None
