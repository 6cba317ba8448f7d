"""What the Dockerfile and a production install do: script/build, then the installed command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.gate import ROOT


@pytest.mark.timeout(600)
def test_a_built_installation_places_the_demo_calls(tmp_path: Path) -> None:
    target = tmp_path / "tollgate"
    built = subprocess.run(
        [ROOT / "script" / "build", target, "postgresql"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert built.returncode == 0, built.stderr
    demo = subprocess.run(
        [target / "bin" / "tollgate", "demo"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert demo.returncode == 0, demo.stdout[-2000:] + demo.stderr[-2000:]
    assert "All 4 calls went as expected." in demo.stdout
    driver = subprocess.run([target / "bin" / "python", "-c", "import psycopg"], check=False)
    assert driver.returncode == 0
