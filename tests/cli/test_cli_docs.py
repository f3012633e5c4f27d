"""The documentation of settings and commands is complete, and its examples are real."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from command_tree import COMMANDS
from costd.cli import main
from costd.config import CLIENT_VARIABLES, HUB, SETTINGS, load, settings_of
from costd.domain.series import DIMENSIONS

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
CLI = (DOCS / "cli.md").read_text()
SETTING_FLAGS = {setting.flag for setting in SETTINGS}
SHARED = {"--data-dir", "--config", "--address", "--key", "--ca", "--plaintext"}


def section(name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section for `{name}`"
    return found[1]


def flags(command: click.Command) -> set[str]:
    return {name for option in command.params if isinstance(option, click.Option) for name in option.opts}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented_as_it_is(setting: object) -> None:
    entry = next(known for known in SETTINGS if known is setting)
    row = f"| `{entry.name}` | `{entry.variable}` | `{entry.flag}` | {entry.shown_default} | {entry.doc} |"
    assert row in CONFIGURATION


def test_no_setting_is_documented_that_is_not_there() -> None:
    names = re.findall(r"^\| `([a-z_.]+)` \| `COSTD_", CONFIGURATION, re.MULTILINE)
    assert names == [setting.name for setting in SETTINGS]


def test_the_example_file_is_a_good_one(tmp_path: Path) -> None:
    toml = re.search(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    assert toml
    assert tomllib.loads(toml[1])
    (tmp_path / "costd.toml").write_text(toml[1])
    made = load({"config": str(tmp_path / "costd.toml")}, {}).config
    assert made.queue.max_bytes == 128 << 20


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_is_documented_with_an_example(name: str) -> None:
    text = section(name)
    for flag in sorted(flags(COMMANDS[name]) - SHARED - SETTING_FLAGS):
        assert re.search(rf"`{flag}\b", text), f"{name} {flag}"
    examples = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert any(line.startswith(name) for block in examples for line in block.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_share_their_options(name: str) -> None:
    given = flags(COMMANDS[name])
    if name in {"costd run", "costd config show"}:
        assert given >= SETTING_FLAGS
    elif name == "costd hub":
        assert given & SETTING_FLAGS == {setting.flag for setting in settings_of(HUB)}
    elif name in {"costd config init", "costd completion"}:
        assert not given & SHARED, "it asks no daemon"
    else:
        assert given >= SHARED | {"--json"}
        assert all(f"`{flag}" in section("Which daemon") for flag in SHARED)
    assert all(variable in CLI for variable in CLIENT_VARIABLES)


@pytest.mark.parametrize("document", [CLI, CONFIGURATION])
def test_examples_name_commands_and_flags_that_exist(document: str) -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) for line in block.splitlines()]
    assert lines
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        name = max((known for known in COMMANDS if f"{' '.join(words)} ".startswith(f"{known} ")), key=len)
        assert {word for word in words if word.startswith("--")} <= flags(COMMANDS[name]), line


def test_the_codes_of_the_program_are_the_documented_ones() -> None:
    codes = {value for name, value in vars(main).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)} == codes | {0}


def test_every_dimension_of_a_report_is_documented() -> None:
    assert all(f"`{name}`" in section("costd report") for name in DIMENSIONS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = main.cli.get_command(click.Context(main.cli), name)
    assert command is not None
    assert command.help
    assert command.name == name
    assert main.COMMANDS[name][1].endswith(".")
