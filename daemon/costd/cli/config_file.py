"""The configuration file that `costd config init` writes: every setting, with its default and what it means."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from costd import __version__
from costd.config import SETTINGS, Setting
from costd.settings import Size

_WIDTH = 100

_HEAD = f"""\
# Settings of costd {__version__}: every one there is, with its default. Take the "# " away to set one.
# An environment variable wins over this file, and a flag of `costd run` over both; each setting names its own.
# `costd config show --config THIS-FILE` says what they come to. Relative paths are relative to this file.
"""


def commented_file() -> str:
    """The whole file. Nothing in it is set, so that defaults stay what they are in the next release, too."""
    return _HEAD + "".join(_lines())


def _lines() -> Iterator[str]:
    settings = [setting for setting in SETTINGS if setting.in_file]
    # In TOML, what belongs to no table comes before all tables.
    yield from (_entry(setting, setting.name) for setting in settings if "." not in setting.name)
    table = ""
    for setting in settings:
        before, dot, name = setting.name.rpartition(".")
        if not dot:
            continue
        if before != table:
            table = before
            yield f"\n\n[{table}]\n"
        yield _entry(setting, name)


def _entry(setting: Setting, name: str) -> str:
    about = f"{setting.doc} It {setting.kind.allowed}. [{setting.variable}, {setting.flag}]"
    text = "".join(f"# {line}\n" for line in textwrap.wrap(about, _WIDTH, break_on_hyphens=False))
    if setting.default is None:
        return f"\n{text}# Default: {setting.shown_default}.\n# {name} = {json.dumps(setting.kind.metavar)}\n"
    return f"\n{text}# {name} = {_toml(setting)}\n"


def _toml(setting: Setting) -> str:
    """The default, as it is written in TOML; JSON's texts, numbers, truths and lists are TOML's as well."""
    if isinstance(setting.kind, Size):
        return json.dumps(setting.shown_default)
    return json.dumps(setting.default, ensure_ascii=False)
