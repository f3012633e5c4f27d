"""What a ledger is, a sidecar's or a hub's, and whether it may be served as what was asked for."""

from __future__ import annotations

from dataclasses import replace

from costd.config import HUB, SIDECAR, Config
from costd.domain.errors import ConfigError
from costd.store.hub_state import has_joined_hub, read_hub_state
from costd.store.keys import load_keys
from costd.store.reader import Readers


def settled_mode(config: Config, readers: Readers, *, offline: bool) -> Config:
    """The configuration with the mode that this ledger is to be served in.

    A command that opens a ledger itself takes it for what it is. A daemon refuses one of the other kind, by
    ConfigError: a hub that ran as a sidecar would give all that its sources have brought another road.
    """
    with readers.snapshot() as connection:
        is_hub = read_hub_state(connection) is not None
        has_joined = has_joined_hub(connection)
        is_new = not load_keys(connection)
    if offline:
        return replace(config, mode=HUB if is_hub or (is_new and config.mode == HUB) else SIDECAR)
    if is_hub and config.mode != HUB:
        raise _refused(config, "must be another folder: this one is a hub's; `costd hub` serves it")
    if config.mode == HUB and has_joined:
        raise _refused(config, "must be another folder: this one is of a sidecar that has joined a hub")
    return config


def _refused(config: Config, allowed: str) -> ConfigError:
    return ConfigError(config.written("data_dir"), str(config.data_dir), allowed)
