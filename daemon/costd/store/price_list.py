"""Which compiled price table the daemon uses: the one that ships with it, or one for the library that is installed."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path
from typing import NamedTuple

from costd.domain.errors import Invalid, Unavailable
from costd.domain.price_table import PriceTable, read_header

LIBRARY = "genai-prices"
TABLE_NAME = "prices.txt"
#: The compiler needs about a second; a machine where it needs this long has other troubles.
COMPILE_TIMEOUT_S = 60
#: A hundred times what the library publishes today; a larger file is another one.
MAX_DATA_BYTES = 64 * 2**20
#: The compiler's exit status for data that is no good.
_BAD_FILE = 65
#: How the compiler's line on stderr begins that names a price key which was left out.
_LEFT_OUT = "left out: "

log = logging.getLogger(__name__)


class PriceList(NamedTuple):
    """A price table: the library's version, a digest that changes with any byte, and the bytes for PriceTable."""

    version: str
    digest: str
    body: bytes


class CompiledPrices(NamedTuple):
    """A price list made on demand; `left_out` are sentences about prices in its data that were not understood."""

    prices: PriceList
    left_out: tuple[str, ...]


def compile_installed() -> PriceList:
    """The table of the installed library, compiled anew by a process of its own; takes about a second.

    Raises Unavailable where that process fails.
    """
    return _compile_anew(None).prices


def compile_data(raw: bytes) -> CompiledPrices:
    """The table of a data file of the library's (see costd.store.price_compiler), by a process of its own.

    Raises Invalid (field "file"), saying what is wrong with it, where it is none, and Unavailable where the process
    fails.
    """
    if len(raw) > MAX_DATA_BYTES:
        raise Invalid("file", f"must be at most {MAX_DATA_BYTES // 2**20} MiB")
    return _compile_anew(raw)


def _compile_anew(raw: bytes | None) -> CompiledPrices:
    with tempfile.TemporaryDirectory(prefix="costd-prices-") as folder:
        out, source = Path(folder, TABLE_NAME), Path(folder, "data.json")
        command = [sys.executable, "-m", "costd.store.price_compiler", str(out)]
        try:
            if raw is not None:
                source.write_bytes(raw)
                command += ["--from", str(source)]
            done = subprocess.run(command, check=False, capture_output=True, timeout=COMPILE_TIMEOUT_S)  # noqa: S603 - our own module
            said = done.stderr.decode(errors="replace").strip().splitlines()
            if done.returncode == _BAD_FILE and said:
                raise Invalid("file", said[-1][:500])
            if done.returncode:
                log.warning("the price compiler failed: %s", " ".join(said)[-500:])
                raise Unavailable(f"the price compiler failed with status {done.returncode}; the log says why")
            prices = _checked(out.read_bytes())
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"the price compiler failed: {error}") from None
    left_out = tuple(line.removeprefix(_LEFT_OUT) for line in said if line.startswith(_LEFT_OUT))
    return CompiledPrices(prices, left_out)


def _checked(body: bytes) -> PriceList:
    """The table as a list, after every model in it was read once."""
    header = read_header(body)
    if not header.complete:
        raise Unavailable("the price compiler wrote a table that is not whole")
    try:
        PriceTable(body).check()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Invalid("file", f"makes a table that cannot be read: {error}") from None
    return _price_list(header.version, body)


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
