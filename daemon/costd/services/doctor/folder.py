"""Checks of the data folder: whose it is, who else can read it, and what kind of disk it is on."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.services.admin_key import ADMIN_KEY_NAME
from costd.store.connection import DATABASE_NAME
from costd.store.lock import LOCK_NAME
from costd.store.runtime_file import RUNTIME_NAME
from costd.store.space import RESERVE_NAME

_OTHERS = 0o077
_OTHERS_WRITE = 0o022
_FILES = (
    DATABASE_NAME,
    f"{DATABASE_NAME}-wal",
    f"{DATABASE_NAME}-shm",
    ADMIN_KEY_NAME,
    LOCK_NAME,
    RESERVE_NAME,
    RUNTIME_NAME,
)

#: The log's index is memory that all processes share: over a network there is none
#: (https://www.sqlite.org/wal.html#overview).
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|ceph|lustre|beegfs|glusterfs|gfs2|ocfs2|fuse\.(sshfs|glusterfs|s3fs)"
)
_SHARED_WITH_HOST = frozenset({"9p", "virtiofs", "vboxsf", "fuse.osxfs", "fuse.grpcfuse", "prl_fs"})
_MEMORY = frozenset({"tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """Where a file system is mounted, of which kind it is, and whether it takes writes."""

    point: str
    kind: str
    is_read_only: bool


def check_folder(folder: Path) -> list[Finding]:
    """Owner, modes and files of the data folder."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return [Finding("data folder", WARN, f"{folder} is not there", "`costd run` makes it at its first start")]
    except OSError as error:
        advice = "run this as the daemon's user, or check who may enter what leads there"
        return [Finding("data folder", FAIL, f"{folder} cannot be looked at ({error.strerror})", advice)]
    if not stat.S_ISDIR(found.st_mode):
        return [Finding("data folder", FAIL, f"{folder} is no folder", "move it away, or name another with --data-dir")]
    return [_folder(folder, found), *_files(folder, found)]


def _folder(folder: Path, found: os.stat_result) -> Finding:
    mode = stat.S_IMODE(found.st_mode)
    about = f"{folder}, mode {mode:04o}, user {found.st_uid}"
    if os.geteuid() not in {0, found.st_uid}:
        advice = f"run this and the daemon as user {found.st_uid}, or give the folder to user {os.geteuid()} (chown)"
        return Finding("data folder", FAIL, about, advice)
    if mode & _OTHERS_WRITE:
        return Finding("data folder", FAIL, f"{about}: others can write to it", f"chmod 700 {folder}")
    if mode & _OTHERS:
        return Finding("data folder", WARN, f"{about}: others can look into it", f"chmod 700 {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding("data folder", FAIL, f"{about}: it takes no files", f"chmod 700 {folder}")
    return Finding("data folder", OK, about)


def _files(folder: Path, owner: os.stat_result) -> Iterator[Finding]:
    seen, faults = 0, []
    for name in _FILES:
        try:
            found = (folder / name).lstat()
        except OSError:
            continue
        seen += 1
        if not stat.S_ISREG(found.st_mode):
            faults.append((FAIL, f"{name} is no file", f"move {folder / name} away"))
        elif found.st_uid != owner.st_uid:
            advice = f"chown {owner.st_uid}:{owner.st_gid} {folder / name}; run commands as that user"
            faults.append((FAIL, f"{name} is user {found.st_uid}'s, not user {owner.st_uid}'s", advice))
        elif found.st_mode & _OTHERS:
            state = FAIL if name == ADMIN_KEY_NAME else WARN
            faults.append((state, f"{name} is open to others", f"chmod 600 {folder / name}"))
    for state, text, advice in faults:
        yield Finding("files", state, text, advice)
    if not faults:
        yield Finding("files", OK, f"{seen} of costd's, for their owner alone" if seen else "none yet")


def check_filesystem(folder: Path) -> list[Finding]:
    """The kind of disk: not every one keeps what is written to it, and over a network SQLite's log does not work."""
    mount = mount_of(nearest(folder))
    if mount is None:
        return [Finding("file system", OK, "unknown: the system does not say")]
    about = f"{mount.kind} at {mount.point}"
    elsewhere = "name a data folder on a disk of this machine with --data-dir"
    if mount.is_read_only:
        return [Finding("file system", FAIL, f"{about} is read-only", "mount it for writing; see what the kernel says")]
    if _NETWORK.fullmatch(mount.kind):
        return [Finding("file system", FAIL, f"{about} is on a network: the ledger would be damaged", elsewhere)]
    if mount.kind in _SHARED_WITH_HOST:
        return [Finding("file system", WARN, f"{about} is shared with a host: locks and syncs may not hold", elsewhere)]
    if mount.kind in _MEMORY:
        return [Finding("file system", WARN, f"{about} is memory: the ledger is gone after a reboot", elsewhere)]
    if mount.kind == "overlay":
        advice = "mount a volume at the data folder"
        return [Finding("file system", WARN, f"{about} is a container's own layer, gone with it", advice)]
    return [Finding("file system", OK, about)]


def nearest(folder: Path) -> Path:
    """`folder`, or what there is of the way to it."""
    while (
        not os.path.isdir(folder) and folder != folder.parent
    ):  # no method of Path: those raise where they may not look
        folder = folder.parent
    return folder


def mount_of(folder: Path) -> Mount | None:
    """The file system `folder` is on; None where the system does not say."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    real, best = os.path.realpath(folder), None
    for line in lines:
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split()
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        point = fields[4].encode().decode("unicode_escape")  # spaces are written \040
        if real == point or real.startswith(point.rstrip("/") + "/"):
            is_read_only = "ro" in {*fields[5].split(","), *rest[2].split(",")}
            if best is None or len(point) >= len(best.point):  # what is mounted later hides what was there
                best = Mount(point, rest[0], is_read_only)
    return best
