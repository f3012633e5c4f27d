"""A provider and a daemon between it and its callers, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import harness
from fake_provider import FakeProvider
from harness import Daemon


@pytest.fixture(scope="package", autouse=True)
def _no_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing beyond this machine is asked; every client of an SDK would spend 20 ms on reading whom to trust."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("SSL_CERT_FILE", raising=False)
        environment.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("authorities")))
        yield


@pytest.fixture(scope="package")
def provider() -> Iterator[FakeProvider]:
    """Both providers."""
    with FakeProvider().serving() as serving:
        yield serving


@pytest.fixture(scope="package")
def proxied(provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon; no test may assume an empty ledger."""
    flags = [f"openai={provider.openai_url}", f"anthropic={provider.anthropic_url}/v1", "gone=http://127.0.0.1:9/v1"]
    folder = tmp_path_factory.mktemp("proxied") / "data"
    daemon = harness.start(folder, *[part for flag in flags for part in ("--upstream", flag)])
    yield daemon
    daemon.kill()
