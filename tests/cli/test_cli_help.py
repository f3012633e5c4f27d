"""Help and completion: every command shows an example that works, and shells complete what they can know."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command_tree import COMMANDS
from costd.cli import main
from costd.domain.series import DIMENSIONS
from harness import clean_env, costd


def examples(command: click.Command) -> list[str]:
    """The command lines of its epilog."""
    epilog = command.epilog or ""
    assert epilog.startswith("Example: costd "), f"--help ends without an example: {epilog!r}"
    return [line.removeprefix("Example: ").strip() for line in epilog.splitlines() if line.strip()]


def parsed(words: list[str]) -> click.Context:
    """The innermost command of a command line, its arguments parsed; nothing is run."""
    command: click.Command = main.cli
    context, name = None, words.pop(0)
    while isinstance(command, click.Group):
        while words[0].startswith("-"):
            words.pop(0)
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words[0]
        context = click.Context(command, info_name=name, parent=context)
        command, name = found, words.pop(0)
    return command.make_context(name, words, parent=context)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_of_the_command_that_it_understands(name: str) -> None:
    for line in examples(COMMANDS[name]):
        words = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
        context = parsed(words)
        assert context.command is COMMANDS[name], line
    shown = COMMANDS[name].get_help(click.Context(COMMANDS[name]))
    assert "Example: costd" in shown


# -- completion --------------------------------------------------------------------------------------------------------

#: A shell, and how it is asked, after the script `costd` printed, what it would complete.
ASK = {
    "bash": """
source {script}
COMP_WORDS=({words}) COMP_CWORD={last} COMP_TYPE=9
_costd_completion costd >/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "fish": "source {script}; complete --do-complete '{line}'",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `costd` is this costd."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "costd").write_text(f'#!/bin/sh\nexec {sys.executable} -m costd "$@"\n')
    (folder / "costd").chmod(0o755)
    return folder


def completed(shell: str, line: str, path: Path, tmp_path: Path) -> set[str]:
    """What `shell` offers for the last word of `line`."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / f"costd.{shell}"
    script.write_text(costd("completion", shell).stdout)
    words = line.split(" ")
    quoted = " ".join(map(shlex.quote, words))
    asked = ASK[shell].format(script=script, words=quoted, last=len(words) - 1, line=line)
    env = clean_env({"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    done = subprocess.run([shell, "-c", asked], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stderr == ""
    return {offer.split("\t")[0] for offer in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes_commands_options_and_values(shell: str, path: Path, tmp_path: Path) -> None:
    assert completed(shell, "costd re", path, tmp_path) >= {"report", "restore"}
    assert completed(shell, "costd keys ", path, tmp_path) == {"create", "list", "revoke"}
    assert "--strict" in completed(shell, "costd doctor --st", path, tmp_path)
    assert completed(shell, "costd keys create x --role in", path, tmp_path) == {"ingest"}
    assert completed(shell, "costd report --by prov", path, tmp_path) == {"provider"}
    rest = {f"model,{name}" for name in DIMENSIONS if name.startswith("p")}
    assert completed(shell, "costd report --by model,p", path, tmp_path) == rest
    assert completed(shell, "costd run --log-format ", path, tmp_path) == {"json", "text"}


def test_zsh_completes_too(path: Path, tmp_path: Path) -> None:
    """Its completion only works in a terminal: here the script is loaded, and its question asked."""
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    (tmp_path / "_costd").write_text(costd("completion", "zsh").stdout)
    asked = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -D -u; whence -w _costd; print $_comps[costd]"
    env = clean_env({"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    loaded = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True, env=env, check=True)
    assert "_costd" in loaded.stdout
    env |= {"COMP_WORDS": "costd report --by model,us", "COMP_CWORD": "3", "_COSTD_COMPLETE": "zsh_complete"}
    offered = subprocess.run(["costd"], capture_output=True, text=True, env=env, check=True).stdout.splitlines()
    assert offered[:2] == ["plain", "model,user"]


def test_an_unknown_shell_is_refused() -> None:
    done = costd("completion", "cmd.exe")
    assert done.returncode == 2
    assert "bash" in done.stderr


def test_completing_a_command_imports_none_of_them() -> None:
    code = "import sys; from costd.cli.main import cli; import click; cli.shell_complete(click.Context(cli), ''); "
    code += "print(sorted(name for name in sys.modules if name.startswith('costd.cli.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['costd.cli.main']"
