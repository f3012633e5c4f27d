"""docs/deployment.md names what exists: files, variables, commands and numbers."""

from __future__ import annotations

import re
import shlex

import httpx
from dockerfile import ROOT

import harness
from costd.config import SETTINGS, load
from harness import Daemon

DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()


def test_its_variables_are_settings() -> None:
    named = set(re.findall(r"COSTD_[A-Z_]+", DOCUMENT))
    assert named
    assert named <= {setting.variable for setting in SETTINGS}


def test_the_files_it_installs_are_there() -> None:
    for path in re.findall(r"(?<![/\w])systemd/[a-z.-]+", DOCUMENT):
        assert (ROOT / path).is_file(), path


def test_its_commands_exist() -> None:
    for line in re.findall(r"costd (?:check|keys create|status|health)\b[^\n`]*", DOCUMENT):
        words = [word.strip(",.`:[]}") for word in shlex.split(line.replace("'", ""), comments=False)]
        command = [word for word in words[1:3] if word in {"check", "keys", "create", "status", "health"}]
        shown = harness.costd(*command, "--help")
        assert shown.returncode == 0, line
        assert all(flag in shown.stdout for flag in words if flag.startswith("--")), line


def test_its_way_of_publishing_is_allowed_by_the_settings() -> None:
    published = dict(pair.split("=", 1) for pair in re.findall(r"--env (COSTD_\S+=\S+)", DOCUMENT))
    config = load({}, published).config
    assert (config.http.listen.host, config.http.allowed_hosts) == ("0.0.0.0", ("costd.example.com",))


def test_a_probe_passes_by_the_name_it_is_told_to_use_and_not_by_a_pods_address(daemon: Daemon) -> None:
    (name,) = re.findall(r"\{name: Host, value: (\S+)\}", DOCUMENT)
    (path,) = re.findall(r"httpGet:\n\s+path: (\S+)", DOCUMENT)
    with httpx.Client(base_url=daemon.http_url, trust_env=False) as kubelet:
        assert kubelet.get(path, headers={"Host": name}).status_code == 200
        assert kubelet.get(path, headers={"Host": "10.1.2.3:7431"}).status_code == 403


def test_a_pods_own_address_can_be_allowed() -> None:
    assert load({}, {"COSTD_HTTP_ALLOWED_HOSTS": "10.1.2.3"}).config.http.allowed_hosts == ("10.1.2.3",)
    assert load({}, {"COSTD_HTTP_ALLOWED_HOSTS": "fd00::1"}).config.http.allowed_hosts == ("fd00::1",)
