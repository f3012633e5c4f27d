"""Where data and socket lie when nobody says: the system's folders for root, the XDG folders for everybody else."""

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from costd.domain.errors import ConfigError

#: An "auto" socket longer than this moves to a short hashed path, well below what the system allows.
AUTO_SOCKET_MAX_BYTES = 100


#: What the folders of each mode are called: a hub and a sidecar can live on one machine.
_NAMES = MappingProxyType({"sidecar": "costd", "hub": "costd-hub"})


def default_data_dir(environ: Mapping[str, str], mode: str) -> Path:
    """The data folder of this account where none is named; ConfigError where it has no home to put one in."""
    name = _NAMES[mode]
    if os.geteuid() == 0:
        return Path("/var/lib") / name
    state = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # the XDG specification: relative paths are to be ignored
        return Path(state) / name
    home = environ.get("HOME") or _account_home()
    if not home:
        raise ConfigError("data_dir", None, "must be given with --data-dir: this account has no home folder")
    return Path(home) / ".local/state" / name


def _account_home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a container's user without an entry
        return ""


def auto_socket(data_dir: Path, environ: Mapping[str, str], *, explicit: bool) -> Path:
    """A socket path that no daemon on another data folder has."""
    beside = data_dir / "costd.sock"
    runtime = _runtime_folder(environ)
    if not explicit and runtime is not None:
        # Only the account's usual data folder gets the plain name: HOME and XDG_STATE_HOME can make it another.
        usual = data_dir.parent in (Path("/var/lib"), Path(_account_home()) / ".local/state")
        path = runtime / (f"{data_dir.name}.sock" if usual else _hashed(data_dir))
    else:
        path = beside
    for candidate in (path, (runtime or path.parent) / _hashed(data_dir)):
        if len(os.fsencode(candidate)) <= AUTO_SOCKET_MAX_BYTES:
            return candidate
    return Path(f"/tmp/costd-{os.geteuid()}") / _hashed(data_dir)  # noqa: S108 - the folder is private, and checked


def _runtime_folder(environ: Mapping[str, str]) -> Path | None:
    if os.geteuid() == 0:
        return Path("/run/costd")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "costd" if os.path.isabs(runtime) else None


def _hashed(data_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()[:16] + ".sock"
