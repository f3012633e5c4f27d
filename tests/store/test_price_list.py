"""The price table: the bundled one is current, another release is compiled once, and the daemon never imports it."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

from costd.domain.price_table import PriceTable
from costd.store import price_list
from costd.store.price_compiler import compile_table
from costd.store.price_list import load_price_list

CURRENT = metadata.version("genai-prices")
BUNDLED = resources.files("costd").joinpath("data", "prices.txt").read_bytes()


def release(version: str) -> bytes:
    """The table as another release of the library would have compiled it."""
    return BUNDLED.replace(f'"version":"{CURRENT}"'.encode(), f'"version":"{version}"'.encode(), 1)


def test_the_bundled_table_is_a_fresh_compile() -> None:
    """What ships equals what the pinned library compiles to, byte for byte (make prices)."""
    assert compile_table() == BUNDLED


def test_the_installed_release_needs_no_compiling(tmp_path: Path) -> None:
    """The bundled table is used as it is, and nothing is written."""
    prices = load_price_list(tmp_path)
    assert (prices.version, prices.body) == (CURRENT, BUNDLED)
    assert list(tmp_path.iterdir()) == []


def test_the_daemon_never_imports_the_library() -> None:
    """Loading and pricing leave genai_prices and pydantic out of the process."""
    code = (
        "import sys, pathlib; from costd.store.price_list import load_price_list;"
        "from costd.domain.price_table import PriceTable; from costd.domain.pricebook import PriceBook;"
        "book = PriceBook(PriceTable(load_price_list(pathlib.Path('.')).body));"
        "assert book.price(1, 'openai', 'gpt-4o', {'input_tokens': 1}, 0).cost_nano == 2500;"
        "sys.exit(any(name in sys.modules for name in ('genai_prices', 'pydantic')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_release_is_compiled_in_another_process_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled table is read again at the next start; a damaged one, or one of another release, is replaced."""
    runs: list[list[str]] = []
    installed = "9.9.9"

    def compile_installed(command: list[str], **_: object) -> None:
        runs.append(command)
        Path(command[-1]).write_bytes(release(installed))

    def load() -> int:
        prices = load_price_list(tmp_path)
        assert prices.version == PriceTable(prices.body).version == installed
        return len(runs)

    monkeypatch.setattr(price_list.subprocess, "run", compile_installed)
    monkeypatch.setattr(price_list.metadata, "version", lambda _name: installed)
    assert load() == 1
    assert load() == 1
    (tmp_path / price_list.TABLE_NAME).write_bytes(release(installed)[:-1])
    assert load() == 2
    installed = "10.0.0"
    assert load() == 3
    assert runs[0][:3] == [sys.executable, "-m", "costd.store.price_compiler"]


def test_a_failed_compile_falls_back_to_the_bundled_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon starts with the prices it came with, and says so."""
    monkeypatch.setattr(price_list.metadata, "version", lambda _name: "9.9.9")
    with caplog.at_level(logging.WARNING):
        prices = load_price_list(tmp_path / "missing")
    assert prices.body == BUNDLED
    assert "9.9.9 could not be compiled" in caplog.text


def test_the_compiler_writes_the_whole_table_or_nothing(tmp_path: Path) -> None:
    """Run as the daemon runs it: one file, nothing beside it."""
    target = tmp_path / "prices.txt"
    subprocess.run([sys.executable, "-m", "costd.store.price_compiler", str(target)], check=True)
    assert target.read_bytes() == BUNDLED
    assert [path.name for path in tmp_path.iterdir()] == ["prices.txt"]
    bare = subprocess.run([sys.executable, "-m", "costd.store.price_compiler"], check=False, capture_output=True)
    assert bare.returncode == 2
