"""Regenerates the daemon's and the client's gRPC code from the protos with the pinned generator; --check only compares.

The client's messages are the daemon's under a package of their own (costd_client.v1 instead of costd.v1): on the wire
that makes no difference, and in one process the two can be of different releases without meeting in protobuf's one pool
of descriptors.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "daemon" / "costd" / "v1"
HEADER = '"""Code generated from proto/costd/v1; regenerate with make proto, never edit."""\n'

CLIENT_SOURCES = ROOT / "clients" / "python" / "proto"
CLIENT_TARGET = ROOT / "clients" / "python" / "costd_client" / "v1"
#: What the client speaks: this proto and whatever it imports.
CLIENT_ROOT = "costd/v1/usage.proto"

_WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
_BIN = Path(sys.executable).parent


def generate(target: Path) -> None:
    """Write the daemon's modules, their stubs and copies of the protos into `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        protos = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
        _compile(SOURCES, protos, Path(scratch), with_services=True)
        _replace(target, Path(scratch) / "costd" / "v1")
    copies = target / "proto" / "costd" / "v1"
    copies.mkdir(parents=True)
    for path in sorted((SOURCES / "costd" / "v1").glob("*.proto")):
        shutil.copyfile(path, copies / path.name)


def generate_client(target: Path) -> None:
    """Write the client's modules and their stubs into `target`."""
    with tempfile.TemporaryDirectory() as sources, tempfile.TemporaryDirectory() as scratch:
        folder = Path(sources) / "costd_client" / "v1"
        folder.mkdir(parents=True)
        for name in _imported(CLIENT_ROOT):
            (folder / Path(name).name).write_text(_for_client((SOURCES / name).read_text()))
        for path in CLIENT_SOURCES.glob("*.proto"):
            shutil.copyfile(path, folder / path.name)
        protos = sorted(str(path.relative_to(sources)) for path in folder.iterdir())
        _compile(Path(sources), protos, Path(scratch), with_services=False)
        _replace(target, Path(scratch) / "costd_client" / "v1")


def _compile(sources: Path, protos: list[str], out: Path, *, with_services: bool) -> None:
    command = ["protoc", f"-I{sources}", f"-I{_WELL_KNOWN}", f"--python_out={out}"]
    command += [f"--plugin=protoc-gen-mypy={_BIN / 'protoc-gen-mypy'}", f"--mypy_out=quiet:{out}"]
    if with_services:
        command += [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
        command += [f"--plugin=protoc-gen-mypy_grpc={_BIN / 'protoc-gen-mypy_grpc'}"]
    if status := protoc.main([*command, *protos]):
        sys.exit(status)


def _replace(target: Path, made: Path) -> None:
    """Make `target` hold what was made and nothing else."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name != "__pycache__":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(made.iterdir()):
        shutil.copyfile(path, target / path.name)
    (target / "__init__.py").write_text(HEADER)


def _imported(name: str) -> set[str]:
    """A proto of ours and all that it imports, directly or not."""
    text = (SOURCES / name).read_text()
    found = re.findall(r'^import (?:public )?"(costd/v1/[^"]+)";', text, re.MULTILINE)
    return {name}.union(*(_imported(each) for each in found))


def _for_client(text: str) -> str:
    return text.replace("package costd.v1;", "package costd_client.v1;").replace('"costd/v1/', '"costd_client/v1/')


def stale(target: Path, make: Callable[[Path], None] = generate) -> list[str]:
    """The files of `target` that differ from what `make` would write there."""
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch))
        fresh = {path.relative_to(scratch) for path in Path(scratch).rglob("*") if path.is_file()}
        held = {p.relative_to(target) for p in target.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        differing = {
            name for name in fresh & held if not filecmp.cmp(Path(scratch) / name, target / name, shallow=False)
        }
        return sorted(str(name) for name in (fresh ^ held) | differing)


def main() -> None:
    """Regenerate, or with --check exit 1 naming what is stale."""
    targets = ((TARGET, generate), (CLIENT_TARGET, generate_client))
    if "--check" not in sys.argv[1:]:
        for target, make in targets:
            make(target)
        return
    if names := [f"{target.name}/{name}" for target, make in targets for name in stale(target, make)]:
        sys.exit(f"generated code is not current, run make proto: {', '.join(names)}")


if __name__ == "__main__":
    main()
