"""CSV on stdout: what a reader of it gets is what was written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from costd.cli.output import print_csv
from harness import Daemon, clean_env, costd

CELLS = ["plain", "", "a,b", 'a "quoted" one', "two\nlines", "a\rreturn", "\r\n", " spaces ", "é 中 🎉", "=1+1", "0.10"]


def test_cells_come_back_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["first", "second"], [[cell, other] for cell in CELLS for other in CELLS])
    read = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert read == [["first", "second"], *([cell, other] for cell in CELLS for other in CELLS)]


def test_a_row_of_one_empty_cell_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["only"], [[""], [None]])
    assert capsys.readouterr().out == 'only\n""\n""\n'


def test_other_things_than_text_have_a_form_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["a", "b", "c", "d"], [[None, True, 12, ["x", "y"]]])
    assert capsys.readouterr().out == 'a,b,c,d\n,true,12,"x,y"\n'


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_programs_are_given_utf_8_whatever_the_locale(daemon: Daemon, form: str) -> None:
    daemon.key("clé 中")
    command = [sys.executable, "-m", "costd", "keys", "list", form, "--data-dir", str(daemon.data_dir)]
    env = clean_env({"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
    out = subprocess.run(command, capture_output=True, env=env, check=True).stdout.decode("utf-8")
    assert "clé 中" in out


def test_keys_are_listed_in_columns_of_the_same_names_as_in_json(daemon: Daemon) -> None:
    daemon.key("csv, too", team="red")
    folder = ["--data-dir", str(daemon.data_dir)]
    as_csv = list(csv.DictReader(io.StringIO(costd("keys", "list", "--csv", *folder).stdout, newline="")))
    as_json = json.loads(costd("keys", "list", "--json", *folder).stdout)["keys"]
    flat = [
        {name: ",".join(value) if isinstance(value, list) else value or "" for name, value in key.items()}
        for key in as_json
    ]
    assert [*as_csv[0]] == [*flat[0]]
    for row in as_csv + flat:
        del row["last_used"]  # each command uses the admin's key
    assert as_csv == flat
