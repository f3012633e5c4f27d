"""A real Prometheus reads a real daemon, across restarts, and its own tool has nothing to say against the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import harness
from harness import Daemon, until
from scraping import Page

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")

needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="there is no `prometheus` on the PATH (Debian: apt-get install prometheus)"
)
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no `promtool` on the PATH (Debian: apt-get install prometheus)"
)

CONFIG = """
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: costd
    static_configs:
"""


class Prometheus:
    """A running Prometheus that scrapes HTTP addresses, each under a name."""

    def __init__(self, folder: Path, addresses: Mapping[str, str]) -> None:
        assert PROMETHEUS is not None
        targets = [f"      - {{targets: [{at!r}], labels: {{instance: {name}}}}}" for name, at in addresses.items()]
        (folder / "prometheus.yml").write_text(CONFIG + "\n".join(targets))
        self._log_path = folder / "prometheus.log"
        command = [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
        command += ["--web.listen-address=127.0.0.1:0", "--query.lookback-delta=5s"]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._port, f"Prometheus to listen: {self._log_path.read_text()}", 30)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port()}", trust_env=False)
        until(self._is_ready, "Prometheus to be ready", 30)

    def _port(self) -> str | None:
        found = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', self._log_path.read_text())
        return found and found[1]

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def query(self, expression: str) -> dict[str, float]:
        """{value of the label `model`: value} of an instant query."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        return {row["metric"].get("model", ""): float(row["value"][1]) for row in answer["data"]["result"]}

    def stop(self) -> None:
        """End it."""
        self._client.close()
        self.process.terminate()
        self.process.wait(30)


@dataclass
class Watched:
    """A daemon that Prometheus scrapes under a name; it keeps its address over a restart."""

    name: str
    daemon: Daemon
    prometheus: Prometheus

    def restart(self, end: Callable[[Daemon], object]) -> None:
        """End it, and start it again where Prometheus looks for it."""
        end(self.daemon)
        self.daemon = harness.start(self.daemon.data_dir, f"--http-listen={self.daemon.ready['http']}")

    def ask(self, expression: str) -> dict[str, float]:
        """{model: value} of a query about this daemon; METRIC{} in it stands for the daemon's own series."""
        return self.prometheus.query(expression.replace("{", f'{{instance="{self.name}",'))


#: How a daemon ends: by SIGTERM or by SIGKILL.
ENDS = {"stop": Daemon.stop, "kill": Daemon.kill}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Watched]]:
    """Two daemons that have records, and the Prometheus that scrapes both: a new one takes five seconds to begin."""
    folder = tmp_path_factory.mktemp("prometheus")
    daemons = {name: harness.start(folder / name) for name in ENDS}
    for daemon in daemons.values():
        send(daemon, "gpt-4o", 1_000)
        send(daemon, "mystery", 40)
    prometheus = Prometheus(folder, {name: daemon.ready["http"] for name, daemon in daemons.items()})
    found = {name: Watched(name, daemon, prometheus) for name, daemon in daemons.items()}
    yield found
    prometheus.stop()
    for each in found.values():
        each.daemon.kill()


def records(model: str, count: int) -> list[dict[str, Any]]:
    one = {
        "user_external_id": "u",
        "source_app": "app",
        "model": model,
        "units": {"input_tokens": 100, "output_tokens": 10},
        "latency_ms": 1_500,
        "cost_usd": 0.25,
        "status": "success",
    }
    return [one] * count


def send(daemon: Daemon, model: str, count: int) -> None:
    assert daemon.client.post("/v1/usage/records", json=records(model, count)).status_code == 200


@needs_prometheus
@pytest.mark.parametrize("end", ENDS)
def test_totals_and_increases_are_right_across_a_restart(watched: dict[str, Watched], end: str) -> None:
    sidecar = watched[end]
    requests = "costd_requests_total{}"
    until(lambda: sidecar.ask(requests) == {"gpt-4o": 1000, "mystery": 40}, "the first scrape")
    send(sidecar.daemon, "gpt-4o", 100)
    until(lambda: sidecar.ask(requests)["gpt-4o"] == 1100, "another scrape")
    send(sidecar.daemon, "gpt-4o", 100)  # perhaps scraped, perhaps not
    sidecar.restart(ENDS[end])
    until(lambda: sidecar.ask(requests).get("gpt-4o") == 1200, "a scrape after the restart")
    send(sidecar.daemon, "gpt-4o", 100)
    until(lambda: sidecar.ask(requests)["gpt-4o"] == 1300, "the last scrape")

    assert sidecar.ask(f"resets({requests}[10m])") == {"gpt-4o": 0, "mystery": 0}
    assert sidecar.ask("resets(costd_cost_usd_total{}[10m])") == {"gpt-4o": 0, "mystery": 0}
    assert sidecar.ask("costd_cost_usd_total{}") == {"gpt-4o": 325, "mystery": 10}
    assert sidecar.ask('costd_tokens_total{type="input"}') == {"gpt-4o": 130_000, "mystery": 4_000}
    assert sidecar.ask("costd_request_latency_seconds_count{}") == {"gpt-4o": 1300, "mystery": 40}
    # Extrapolation adds half the mean distance of samples at each end: 4 % of 25.
    until(lambda: sidecar.ask(f"count_over_time({requests}[10m])")["gpt-4o"] >= 25, "enough samples", 30)
    for expression, truth in (
        ("increase(costd_requests_total{}[10m])", 300),
        ("increase(costd_cost_usd_total{}[10m])", 75),
        ('increase(costd_request_latency_seconds_bucket{le="2.5"}[10m])', 300),
        ("rate(costd_requests_total{}[10m]) * 600", 300),
    ):
        answer = sidecar.ask(expression)
        assert answer["gpt-4o"] == pytest.approx(truth, rel=0.1), expression
        assert answer["mystery"] == 0, expression
    median_s = sidecar.ask("histogram_quantile(0.5, rate(costd_request_latency_seconds_bucket{}[10m]))")
    assert 1 < median_s["gpt-4o"] <= 2.5


@needs_promtool
def test_promtool_has_nothing_to_say_against_a_daemon_with_data(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--metrics-max-series", "10")
    for number in range(30):
        send(daemon, f'model "{number}"\\\u00e9', 2)
    daemon.client.post("/v1/preflight", json=records("gpt-4o", 1)[0] | {"estimated_units": {"input_tokens": 5}})
    daemon.client.post("/v1/usage/record", json={"model": 5})
    page = Page.of(daemon)
    assert 'model="other"' in page.text
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=page.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_documented_rules_and_queries_are_sound(tmp_path: Path) -> None:
    """Promtool reads the alerts of the documentation; the queries in its table become rules for that."""
    if PROMTOOL is None:
        pytest.skip("there is no `promtool` on the PATH (Debian: apt-get install prometheus)")
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    alerts = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "alert:" in block)
    queries = re.findall(r"^\| [^|]+\? \| `(.*)` \|$", text, re.MULTILINE)
    assert len(queries) >= 5
    for number, query in enumerate(queries):
        alerts += f"      - record: question:{number}\n        expr: {json.dumps(query)}\n"
    (tmp_path / "rules.yml").write_text(alerts)
    done = subprocess.run([PROMTOOL, "check", "rules", tmp_path / "rules.yml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
