"""The doctor's check of the road to the hub: its files, its key, and whether anybody answers."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc

from costd.config import Config
from costd.domain.errors import ConfigError
from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.wire.outbound.channel import HubDoor

#: Far more than a hub anywhere on earth needs for its handshakes.
_PATIENCE_S = 5.0


def check_hub(config: Config) -> list[Finding]:
    """Nothing where there is no hub; else whether this daemon can reach it, and has a key that others cannot read."""
    if config.hub.address is None:
        return []
    return [_road(config), *_key(config)]


def _road(config: Config) -> Finding:
    door = HubDoor(config)
    about = f"{door.address}, {'over TLS' if config.hub.is_secure else 'in the clear'}"
    try:
        with door.open() as channel:
            grpc.channel_ready_future(channel).result(_PATIENCE_S)
    except ConfigError as error:
        return Finding("hub", FAIL, error.message, "name a file that is there, readable for the daemon's user")
    except grpc.FutureTimeoutError:
        advice = (
            "see whether the hub runs, its name and port, and the certificates at both ends; records wait meanwhile"
        )
        return Finding("hub", WARN, f"{about}: nobody answers", advice)
    return Finding("hub", OK, f"{about}: it answers")


def _key(config: Config) -> list[Finding]:
    path = config.hub.key_file
    if path is None and config.hub.key is None:
        return [Finding("hub.key", WARN, "no key is known here", "the daemon needs COSTD_HUB_KEY or hub.key_file")]
    try:
        HubDoor(config).metadata()
    except ConfigError as error:
        return [Finding("hub.key", FAIL, error.message, "put the key into it that `costd sources create` printed")]
    return [] if path is None else [_privacy(path)]


def _privacy(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    about = f"{path}, mode {mode:04o}"
    if mode & 0o077:
        return Finding("hub.key", WARN, f"{about}: others can read it", f"chmod 600 {path}")
    return Finding("hub.key", OK, about)
