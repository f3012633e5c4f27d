"""The price table: the bundled one is current, another release is compiled once, and the daemon never imports it."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import subprocess
import sys
from datetime import date, time
from decimal import Decimal
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest
from genai_prices import data, types

from costd.domain.errors import Invalid, Unavailable
from costd.domain.price_table import PriceTable
from costd.store import price_list
from costd.store.price_compiler import compile_table
from costd.store.price_list import compile_data, compile_installed, load_price_list

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


#: The names that clauses have in published files.
CLAUSES = {"or_": "or", "and_": "and"}


def published(value: Any) -> Any:
    """A part of the library's data in the form of its published files, numbers as Decimals."""
    if isinstance(value, types.ModelPrice):
        return {key: published(price) for key, price in vars(value).items() if price is not None}
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {CLAUSES.get(name, name): published(part) for name, part in parts.items() if part is not None}
    if isinstance(value, list):
        return [published(each) for each in value]
    return value


class Exactly(json.JSONEncoder):
    """Numbers as they are written; dates and times in ISO form."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Decimal):
            return f"@{o:f}@"
        assert isinstance(o, date | time)
        return o.isoformat()


def data_file() -> bytes:
    """The installed library's data as a file that it could have published."""
    providers = [published(dataclasses.replace(provider, extractors=None)) for provider in data.providers]
    text = json.dumps(providers, cls=Exactly)
    return re.sub(r'"@([0-9.]+)@"', r"\1", text).encode()


def test_a_data_file_compiles_to_what_the_installed_library_does_with_the_same_data() -> None:
    """Byte for byte, but for the version, which names the file by its digest."""
    raw = data_file()
    done = compile_data(raw)
    version = f"{CURRENT}+{sha256(raw).hexdigest()[:12]}"
    assert done.prices.version == PriceTable(done.prices.body).version == version
    assert done.prices.body == release(version)
    assert done.left_out == ()


def test_the_installed_library_can_be_compiled_anew() -> None:
    prices = compile_installed()
    assert (prices.version, prices.body) == (CURRENT, BUNDLED)


def model(**fields: object) -> list[dict[str, Any]]:
    """A data file with one provider and one model."""
    known = {"id": "m", "match": {"equals": "M"}, "prices": {"input_mtok": 2.5}}
    return [{"id": "p", "name": "P", "api_pattern": "p", "models": [known | fields]}]


def test_prices_that_the_library_does_not_know_are_left_out_and_named() -> None:
    """A file may be newer than the library; what reads usage from answers does not matter."""
    tiers = {"base": 1, "tiers": [{"start": 9, "price": 2}]}
    flex = {"when": {"service_tier": "flex"}, "prices": {"input_mtok": tiers, "smell_mtok": 1}}
    providers = model(prices={"input_mtok": 2.5, "smell_mtok": 3}, price_variants=[flex])
    providers[0]["extractors"] = [{"from": "the future"}]
    done = compile_data(json.dumps(providers).encode())
    assert done.left_out == ("smell_mtok (2 times)",)
    found = PriceTable(done.prices.body).find("p", "m")
    assert found is not None
    assert found.model.rates(0, {}) == {"input_tokens": [25, -1]}
    assert found.model.rates(0, {"service_tier": "flex"}) == {"input_tokens": [1, 0, [9, 2, 0]]}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "must be a JSON array of providers"),
        (b"[]", "must be a JSON array of providers"),
        (b"[5]", "must be a JSON array of providers"),
        (json.dumps(model(prices={"input_mtok": -1})).encode(), "p/m: not a price: -1"),
        (json.dumps(model(prices={"input_mtok": 1e99})).encode(), "p/m: not a price"),
        (json.dumps(model(prices={"input_mtok": "x"})).encode(), "p/m: "),
        (json.dumps(model(prices=[])).encode(), "p/m has an empty list of prices"),
        (json.dumps(model(match={"regex": "("})).encode(), "p/m: "),
        (json.dumps(model(match={"sounds_like": "x"})).encode(), "p/m: "),
        (json.dumps(model() * 2).encode(), "has the provider p twice"),
        (json.dumps([{"name": "P", "models": []}]).encode(), "None: "),
    ],
)
def test_a_file_that_is_no_price_data_is_refused_in_a_sentence(raw: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        compile_data(raw)
    assert refused.value.field == "file"
    assert reason in refused.value.reason
    assert "Traceback" not in refused.value.reason


def test_a_compiler_that_breaks_down_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_list.sys, "executable", "/nonexistent/python")
    with pytest.raises(Unavailable, match="the price compiler failed"):
        compile_data(b"[]")
    with pytest.raises(Unavailable, match="the price compiler failed"):
        compile_installed()


def test_a_file_that_is_far_too_large_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_list, "MAX_DATA_BYTES", 10)
    with pytest.raises(Invalid, match="must be at most"):
        compile_data(b" " * 11)
