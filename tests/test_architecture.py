"""The tree keeps its promises: one direction of imports, a pure domain, short functions, a sentence for each module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "costd"
LAYERS = ("domain", "store", "services", "wire", "app", "cli")
#: May be used by every layer but the domain, and use only the domain and each other.
LEAVES = frozenset(
    {
        "addresses",
        "alert_settings",
        "proxy_settings",
        "clock",
        "config",
        "logs",
        "metrics",
        "notify",
        "places",
        "sections",
        "settings",
    }
)
#: Who may know of a library: the doors, and the command line as a client of one.
ONLY_IN = {
    "aiohttp": ("wire",),
    "grpc": ("wire", "cli"),
    "google": ("wire", "cli"),
    "sqlite3": ("store", "services/health"),
    "prometheus_client": ("metrics", "wire"),
    "genai_prices": ("store/price_compiler",),
}
MAX_FUNCTION_LINES = 70


def modules() -> list[Path]:
    """Every module written by hand."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "v1" not in path.relative_to(PACKAGE).parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    """The layer or leaf a module belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def target(name: str) -> str:
    """The layer or leaf an imported costd name belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", modules(), ids=named)
def test_dependencies_run_one_way(path: Path) -> None:
    here = place(path)
    for name in imports(path):
        there = target(name) if name.startswith("costd.") else ""
        if there in {"", "v1", "__version__", here}:
            continue
        if here in LEAVES or here == "domain":
            allowed = {"domain"} | (LEAVES if here in LEAVES else set())
            assert there in allowed, f"{here} must not know {name}"
        elif there in LEAVES or here in {"__main__", "__init__"}:
            continue
        else:
            assert there in LAYERS, f"{name} has no place in the layers"
            assert LAYERS.index(there) <= LAYERS.index(here), f"{here} must not know {name}"


@pytest.mark.parametrize("path", [path for path in modules() if place(path) == "domain"], ids=named)
def test_the_domain_uses_the_standard_library_only_and_no_clock(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith("costd.domain"), name
        assert top not in {"time", "logging", "socket", "sqlite3", "threading", "asyncio"}, f"{name} is not pure"


@pytest.mark.parametrize("path", modules(), ids=named)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    where = path.relative_to(PACKAGE).as_posix().removesuffix(".py")
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or where.startswith(allowed), f"{where} must not use {name}"


@pytest.mark.parametrize("path", modules(), ids=named)
def test_every_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", modules(), ids=named)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{path}:{node.name} has {lines} lines"


def test_the_running_daemon_never_imports_the_price_library() -> None:
    import subprocess

    code = "import sys, costd.app, costd.wire.rpc.server, costd.wire.web.server; print('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
