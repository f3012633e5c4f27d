"""Which compiled price table the daemon uses: the one that ships with it, or one for the library that is installed."""

from __future__ import annotations

import logging
import subprocess
import sys
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path
from typing import NamedTuple

from costd.domain.price_table import read_header

LIBRARY = "genai-prices"
TABLE_NAME = "prices.txt"
#: The compiler needs about a second; a machine where it needs this long has other troubles.
COMPILE_TIMEOUT_S = 60

log = logging.getLogger(__name__)


class PriceList(NamedTuple):
    """A price table: the library's version, a digest that changes with any byte, and the bytes for PriceTable."""

    version: str
    digest: str
    body: bytes


def load_price_list(data_dir: Path) -> PriceList:
    """The table of the genai-prices release that is installed.

    That is the bundled table, unless another release is installed: then one compiled into `data_dir`, once, by a
    process of its own. Where that fails the bundled table is used, and a warning says so.
    """
    bundled = _bundled()
    try:
        installed = metadata.version(LIBRARY)
    except metadata.PackageNotFoundError:
        return bundled
    if installed == bundled.version:
        return bundled
    cached = data_dir / TABLE_NAME
    table = _read(cached, installed)
    if table is None and _compile(cached):
        table = _read(cached, installed)
    if table is None:
        log.warning(
            "prices are those of %s %s, which came with costd: the installed %s could not be compiled",
            LIBRARY,
            bundled.version,
            installed,
        )
        return bundled
    return table


def _bundled() -> PriceList:
    body = resources.files("costd").joinpath("data", TABLE_NAME).read_bytes()
    return _price_list(read_header(body).version, body)


def _read(path: Path, version: str) -> PriceList | None:
    """The table at `path` if it is whole and of this version."""
    try:
        body = path.read_bytes()
    except OSError:
        return None
    header = read_header(body)
    return _price_list(version, body) if header.complete and header.version == version else None


def _price_list(version: str, body: bytes) -> PriceList:
    return PriceList(version, sha256(body).hexdigest()[:16], body)


def _compile(path: Path) -> bool:
    command = [sys.executable, "-m", "costd.store.price_compiler", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)  # noqa: S603 - our own module
    except subprocess.CalledProcessError as error:
        log.warning("compiling the price list into %s failed: %s", path, error.stderr.decode(errors="replace")[-500:])
        return False
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("compiling the price list into %s failed: %s", path, error)
        return False
    return True
