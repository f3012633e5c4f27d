"""The documentation of the metrics: every one that is exposed, and none that is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from costd.domain.series import DIMENSIONS
from harness import Daemon
from scraping import Page

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def test_every_metric_is_documented_with_its_type_and_every_documented_one_exists(
    launch: Callable[..., Daemon],
) -> None:
    page = Page.of(launch())
    documented = dict(re.findall(r"^\| `(costd_\w+)` \| (\w+) \|", TEXT, re.MULTILINE))
    exposed = dict(line.split()[2:4] for line in page.text.split("\n") if line.startswith("# TYPE "))
    assert documented == exposed


def test_every_metric_that_a_query_or_an_alert_names_exists(launch: Callable[..., Daemon]) -> None:
    names = Page.of(launch()).names()
    for named in re.findall(r"\bcostd_\w+", TEXT):
        assert re.sub(r"_(bucket|sum|count)$", "", named) in names or named in names, named


def test_every_dimension_that_may_be_a_label_is_named() -> None:
    assert [name for name in DIMENSIONS if f"`{name}`" not in TEXT] == []


def test_labels_are_those_of_the_setting(launch: Callable[..., Daemon]) -> None:
    daemon = launch("--metrics-labels", "team,user")
    body = {"user_external_id": "ada", "source_app": "a", "model": "gpt-4o", "team": "search", "units": {}}
    assert daemon.client.post("/v1/usage/record", json=body).status_code == 200
    assert Page.of(daemon).series("costd_requests_total") == {'{team="search",user="ada",}': 1}
