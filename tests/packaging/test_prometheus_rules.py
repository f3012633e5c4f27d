"""The rules for Prometheus in deploy/prometheus: sound, tested one by one, and of metrics that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Daemon
from scraping import Page

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = sorted(FOLDER.glob("*.rules.yml"))
TESTS = sorted(FOLDER.glob("*.rules.test.yml"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian has it in the package prometheus)"
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_finds_the_rules_sound(path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", path.name)


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_each_rule_fires_where_it_should_and_not_before(path: Path) -> None:
    promtool("test", "rules", path.name)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(path: Path) -> None:
    text = path.with_name(path.name.replace(".rules.yml", ".rules.test.yml")).read_text()
    names = re.findall(r"- alert: (\w+)", path.read_text())
    assert names
    for name in names:
        cases = re.findall(rf"alertname: {name}\n\s+exp_alerts:(.*)", text)
        assert {case.strip() == "[]" for case in cases} == {True, False}, name


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_metric_of_the_rules_exists(launch: Callable[..., Daemon], path: Path) -> None:
    names = Page.of(launch()).names()
    named = {name for line in re.findall(r"expr: (.*)", path.read_text()) for name in re.findall(r"\bcostd_\w+", line)}
    assert named
    assert named <= names
