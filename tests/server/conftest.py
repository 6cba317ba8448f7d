"""A gate for each test that wants one; its sounds are encoded once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy import server
from proxy._native import encode_prompt
from proxy.media.prompts import EncodedSound, PromptLibrary
from tests.server.house import House


@pytest.fixture(scope="session")
def encoded() -> Callable[[PromptLibrary, str], list[EncodedSound]]:
    """Encode the shipped sounds once for all gates."""
    sounds: dict[str, list[EncodedSound]] = {}

    def encode(library: PromptLibrary, codec: str) -> list[EncodedSound]:
        if codec not in sounds:
            sounds[codec] = list(library.encode(encode_prompt, (codec,)))
        return sounds[codec]

    return encode


@pytest.fixture(autouse=True)
def _fast_start(
    monkeypatch: pytest.MonkeyPatch, encoded: Callable[[PromptLibrary, str], list[EncodedSound]]
) -> None:
    monkeypatch.setattr(server, "_encoded", encoded)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.open()
    yield house
    await house.close()
