"""`costd config init`: the file it writes says what the defaults are, and is never written over another."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from costd.config import SETTINGS, load
from harness import costd


def settings(*arguments: str) -> dict[str, Any]:
    shown = costd("config", "show", "--json", *arguments)
    assert shown.returncode == 0, shown.stderr
    return {name: entry["value"] for name, entry in json.loads(shown.stdout)["settings"].items() if name != "config"}


def test_the_file_changes_nothing(tmp_path: Path) -> None:
    made = costd("config", "init", str(tmp_path / "costd.toml"))
    assert (made.returncode, made.stderr) == (0, "")
    assert settings("--config", str(tmp_path / "costd.toml")) == settings()


def test_every_setting_is_in_it_with_its_default_its_meaning_and_its_names(tmp_path: Path) -> None:
    text = costd("config", "init", "-").stdout
    flat = re.sub(r"\s*\n# ", " ", text)
    for setting in SETTINGS:
        assert (f"[{setting.variable}, {setting.flag}]" in flat) is setting.in_file
        assert (setting.doc in flat) is setting.in_file
    # With every mark taken away that hides a default, it sets all of them, to what they are anyway.
    named = {setting.name.rpartition(".")[2] for setting in SETTINGS if setting.default is not None}
    shown = re.sub(rf"^# ({'|'.join(named)}) =", r"\1 =", text, flags=re.MULTILINE)
    document = tomllib.loads(shown)
    given = {name for name, entry in document.items() if not isinstance(entry, dict)}
    given |= {f"{table}.{name}" for table, entry in document.items() if isinstance(entry, dict) for name in entry}
    assert given == {setting.name for setting in SETTINGS if setting.default is not None}
    (tmp_path / "all.toml").write_text(shown)
    made, plain = load({"config": str(tmp_path / "all.toml")}).config, load({}).config
    assert all(
        made.value(setting.name) == plain.value(setting.name) for setting in SETTINGS if setting.name != "config"
    )


def test_the_name_is_costd_toml_and_a_file_that_is_there_stays(tmp_path: Path) -> None:
    place = tmp_path / "costd.toml"
    place.write_text("mine = 1")
    refused = costd("config", "init", str(place))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--force" in refused.stderr
    assert place.read_text() == "mine = 1"
    assert costd("config", "init", str(place), "--force").returncode == 0
    assert tomllib.loads(place.read_text()).keys() <= {setting.name.partition(".")[0] for setting in SETTINGS}
    assert [path.name for path in tmp_path.iterdir()] == ["costd.toml"]
    missing = costd("config", "init", str(tmp_path / "none" / "costd.toml"))
    assert (missing.returncode, missing.stderr.count("\n")) == (5, 1)
