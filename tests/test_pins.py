"""What is made of which parts: the check of `script/lint` finds what it is there to find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from tests.support import pins

ROOT = Path(__file__).parent.parent


@pytest.fixture
def installed() -> Mapping[str, metadata.Distribution]:
    return pins.installed_packages()


def test_what_is_there_is_as_it_should_be() -> None:
    assert pins.main() == 0


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("uvicorn==", "uvicorn>=", "'uvicorn>=0.54.0' is no exact version"),
        ("uvicorn==", "uvicorn @ git+https://example.com/uvicorn#", "is no exact version"),
        ("starlette==", "# starlette==", "starlette is needed and has no version"),
        ("Jinja2==", "Jinja2==0.", "is installed, not 0."),
    ],
)
def test_a_package_of_no_or_another_version_is_told(
    installed: Mapping[str, metadata.Distribution], before: str, after: str, told: str
) -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8").replace(before, after)
    assert any(told in problem for problem in pins.problems_of_packages(text, installed=installed))


CRATE = '[[package]]\nname = "one"\nversion = "1.0.0"\n'


@pytest.mark.parametrize(
    ("lock", "licence", "told"),
    [
        (f'{CRATE}source = "{pins.CRATES}"\nchecksum = "{"0" * 64}"', "MIT/Apache-2.0", []),
        (
            f'{CRATE}source = "{pins.CRATES}"',
            "MIT",
            ["Cargo.lock: one is not of crates.io, or has no checksum"],
        ),
        (f'{CRATE}source = "git+https://example.com/one"\nchecksum = "{"0" * 64}"', "MIT", ["of crates.io"]),
        (CRATE, "GPL-3.0-only OR MIT", []),
        (CRATE, "MIT AND GPL-3.0-only", ["its licence is MIT AND GPL-3.0-only"]),
        (CRATE, None, ["its licence is not told"]),
    ],
)
def test_a_crate_of_elsewhere_or_of_no_licence_is_told(
    lock: str, licence: str | None, told: list[str]
) -> None:
    graph: dict[str, list[dict[str, object]]] = {
        "packages": [{"name": "one", "source": pins.CRATES, "license": licence}]
    }
    found = list(pins.problems_of_crates(lock, graph))
    assert len(found) == len(told)
    assert all(words in problem for words, problem in zip(told, found, strict=True))


def test_a_script_without_checksum_or_licence_is_told() -> None:
    lock = {"packages": {"": {}, "node_modules/one": {"version": "1"}}}
    assert len(list(pins.problems_of_scripts(json.dumps(lock)))) == 2
