"""The first admin key: made once, kept in a file that only the daemon's user can read."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from costd.domain.errors import ConfigError
from costd.services.access import SECRET_START, Access, new_secret

ADMIN_KEY_NAME = "admin.key"

_log = logging.getLogger(__name__)


def ensure_admin_key(access: Access, folder: Path) -> Path:
    """Make the admin key at the first start; returns the path of its file, which may since have been removed.

    The file comes first: a crash in between then leaves a key that the next start takes over, never one in the
    ledger that nobody knows.
    """
    path = folder / ADMIN_KEY_NAME
    if access.has_admin_key():
        return path
    secret = _read(path) or _write(path, new_secret())
    access.first_admin_key(secret).wait()
    _log.info("made the first admin key", extra={"file": str(path)})
    return path


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.startswith(SECRET_START) else ""


def _write(path: Path, secret: str) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigError("data_dir", str(path), "is not a key of costd's; move that file away") from None
    except OSError as error:
        raise ConfigError("data_dir", str(path.parent), f"must take the admin key's file ({error.strerror})") from error
    return secret
