"""Regenerates daemon/costd/v1 from proto/costd/v1 with the pinned generator; --check only compares."""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "daemon" / "costd" / "v1"
HEADER = '"""Code generated from proto/costd/v1; regenerate with make proto, never edit."""\n'


def generate(target: Path) -> None:
    """Write the generated modules, their stubs and copies of the protos into `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        protos = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        status = protoc.main(
            [
                "protoc",
                f"-I{SOURCES}",
                f"-I{well_known}",
                f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
                f"--python_out={scratch}",
                f"--grpc_python_out={scratch}",
                f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}",
                f"--mypy_out=quiet:{scratch}",
                f"--mypy_grpc_out=quiet:{scratch}",
                *protos,
            ]
        )
        if status:
            sys.exit(status)
        target.mkdir(parents=True, exist_ok=True)
        for path in target.iterdir():
            if path.name != "__pycache__":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in sorted((Path(scratch) / "costd" / "v1").iterdir()):
            shutil.copyfile(path, target / path.name)
    (target / "__init__.py").write_text(HEADER)
    copies = target / "proto" / "costd" / "v1"
    copies.mkdir(parents=True)
    for path in sorted((SOURCES / "costd" / "v1").glob("*.proto")):
        shutil.copyfile(path, copies / path.name)


def stale(target: Path) -> list[str]:
    """The files of `target` that differ from a fresh generation."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.relative_to(scratch) for path in Path(scratch).rglob("*") if path.is_file()}
        held = {p.relative_to(target) for p in target.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        differing = {
            name for name in fresh & held if not filecmp.cmp(Path(scratch) / name, target / name, shallow=False)
        }
        return sorted(str(name) for name in (fresh ^ held) | differing)


def main() -> None:
    """Regenerate, or with --check exit 1 naming what is stale."""
    if "--check" not in sys.argv[1:]:
        generate(TARGET)
        return
    if names := stale(TARGET):
        sys.exit(f"generated code is not current, run make proto: {', '.join(names)}")


if __name__ == "__main__":
    main()
