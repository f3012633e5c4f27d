"""Promise 12 at the HTTP door: no browser page, no foreign name, no missing or weaker key gets in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from costd.domain.errors import Forbidden
from costd.wire.web.guard import Guard
from costd.wire.web.route import ANY
from costd.wire.web.table import routes
from harness import Daemon

OURS = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost:7431",
    "127.0.0.1",
    "127.0.0.1:7431",
    "127.200.3.4",
    "[::1]",
    "[::1]:7431",
    "costd.internal",
    "COSTD.internal:443",
    "10.1.2.3:7431",
    "[fd00::1]",
]
FOREIGN = [
    None,
    "",
    "evil.example",
    "evil.example:7431",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "notlocalhost",
    "0.0.0.0",
    "[::]",
    "10.1.2.4",
    "user@localhost",
    "localhost:",
    "localhost:port",
    "localhost:999999",
    "[::1",
    "[::1]x",
    "::1",
    "2130706433",
    "127.1",
    "localhost/",
    "localhost,evil.example",
    "localhost evil.example",
]
ALLOWED = ("costd.internal", "10.1.2.3", "fd00::1")


@pytest.mark.parametrize("host", OURS)
def test_a_host_of_ours_passes(host: str) -> None:
    guard = Guard(ALLOWED)
    guard.check(host, None)
    guard.check(host, f"http://{host}")
    guard.check(host, f"https://{host.upper()}")


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(host: str | None) -> None:
    with pytest.raises(Forbidden, match="allowed_hosts"):
        Guard(ALLOWED).check(host, None)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost:1",
        "http://localhost.evil.example",
        "file://",
        "localhost",
        "ws://localhost:7431",
        "http://localhost:7431/",
        "chrome-extension://localhost:7431",
    ],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    guard = Guard(())
    guard.check("localhost:7431", "http://localhost:7431")
    with pytest.raises(Forbidden, match="Origin"):
        guard.check("localhost:7431", origin)


def test_what_is_remembered_is_bounded() -> None:
    guard = Guard(())
    for port in range(2000):
        guard.check(f"localhost:{port}", None)
    assert len(guard._passed) <= 256


def test_every_route_is_behind_the_guard(daemon: Daemon) -> None:
    for route in routes(metrics_open=True):
        path = route.path.replace("{provider}", "openai")
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            response = daemon.client.request(route.method, path, headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, "AUTHORIZATION_ERROR"), path
            assert "Access-Control-Allow-Origin" not in response.headers


def test_a_page_gets_no_leave_to_send_more(daemon: Daemon) -> None:
    response = daemon.client.options(
        "/v1/usage/record",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert response.status_code == 403


@pytest.fixture(scope="module")
def anyone() -> Iterator[httpx.Client]:
    """A client that says no key of itself."""
    with httpx.Client(trust_env=False, verify=False, timeout=30) as client:
        yield client


def test_every_route_with_a_role_refuses_callers_without_a_key(daemon: Daemon, anyone: httpx.Client) -> None:
    for route in routes(metrics_open=True):
        path = daemon.http_url + route.path.replace("{provider}", "openai")
        for headers in (
            {},
            {"Authorization": "Bearer ct_live_wrong"},
            {"X-API-Key": "wrong"},
            {"Authorization": "Basic eA=="},
        ):
            response = anyone.request(route.method, path, headers=headers)
            if route.role is None:
                assert response.status_code == 200, path
            else:
                assert (response.status_code, response.json()["code"]) == (401, "AUTHENTICATION_ERROR"), path
                assert response.headers["WWW-Authenticate"] == "Bearer"


def test_every_route_refuses_keys_without_its_role(daemon: Daemon, anyone: httpx.Client) -> None:
    keys = {role: daemon.key(role, role=role) for role in ("ingest", "read", "source")}
    for route in routes(metrics_open=True):
        path = daemon.http_url + route.path.replace("{provider}", "openai")
        for role, key in keys.items():
            response = anyone.request(route.method, path, headers={"X-API-Key": key})
            if route.role in {None, ANY, role}:
                assert response.status_code in {200, 400, 404}, (path, role)
            else:
                assert (response.status_code, response.json()["code"]) == (403, "AUTHORIZATION_ERROR"), (path, role)


def test_a_key_is_taken_as_bearer_or_as_x_api_key(daemon: Daemon) -> None:
    url = f"{daemon.http_url}/api/tracking-health"
    for headers in (
        {"Authorization": f"Bearer {daemon.admin_key}"},
        {"Authorization": f"bearer {daemon.admin_key}"},
        {"X-API-Key": daemon.admin_key},
        {"Authorization": "Basic eA==", "X-API-Key": daemon.admin_key},
    ):
        assert httpx.get(url, headers=headers, trust_env=False).status_code == 200


def test_a_bound_key_files_under_its_own_names_only(daemon: Daemon) -> None:
    key = daemon.key("bound", source_app="shop")
    record = {"user_external_id": "u", "model": "gpt-4o", "units": {"input_tokens": 1}}
    headers = {"X-API-Key": key}
    own = httpx.post(f"{daemon.http_url}/v1/usage/record", json=record, headers=headers, trust_env=False)
    other = httpx.post(
        f"{daemon.http_url}/v1/usage/record", json={**record, "source_app": "bank"}, headers=headers, trust_env=False
    )
    assert own.status_code == 200
    assert (other.status_code, other.json()["details"]["field"]) == (403, "source_app")


def test_names_in_the_configuration_are_let_in(launch: Callable[..., Daemon]) -> None:
    daemon = launch(env={"COSTD_HTTP_ALLOWED_HOSTS": "costd.internal"})
    assert daemon.client.get("/v1/health", headers={"Host": "costd.internal:443"}).status_code == 200
    assert daemon.client.get("/v1/health", headers={"Host": "costd.external"}).status_code == 403


def test_metrics_need_a_key_beyond_loopback() -> None:
    role = {route.path: route.role for route in routes(metrics_open=False)}
    assert role["/metrics"] == "read"
