"""A provider of OpenID Connect that others have written: oidc-provider-mock as a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.ports import reserved_tcp_port

__all__ = ["foreign_provider"]

_PATIENCE = 90.0


@contextmanager
def foreign_provider(*options: str) -> Iterator[str]:
    """Run one on loopback; gives its issuer."""
    with reserved_tcp_port() as port:
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *options]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        issuer, end = f"http://127.0.0.1:{port}", time.monotonic() + _PATIENCE
        try:
            while not _answers(f"{issuer}/.well-known/openid-configuration"):
                assert time.monotonic() < end, "it never answered"
                time.sleep(0.05)
            yield issuer
        finally:
            running.kill()
            running.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
