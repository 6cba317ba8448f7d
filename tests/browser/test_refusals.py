"""What did not work is said in words, with a way back; and the portal outlives its gate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.browser.site import ROOT, Site


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/nowhere", 404, "There is no such page."),
        ("/usage/none", 404, "There is no such call."),
        ("/usage?order=magic", 422, "order has to be one of"),
        ("/reports?first=2026-02-30", 422, "a value that is not possible here: first"),
        ("/codes/import/apply", 405, "There is no such page."),
    ],
)
def test_what_does_not_work_is_a_page_with_a_way_back(
    person: Page, address: str, status: int, said: str
) -> None:
    answer = person.goto(address)
    assert answer is not None
    assert answer.status == status
    expect(person.get_by_role("alert")).to_contain_text(said)
    person.get_by_role("link", name="To the overview").click()
    expect(person.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.fixture
def alone(site: Site, tmp_path: Path) -> Iterator[str]:
    """A portal of the same store whose gate is not there."""
    config = tmp_path / "alone.toml"
    settings = (site.folder / "site.toml").read_text(encoding="utf-8")
    config.write_text(f'control.socket = "{tmp_path}/none.sock"\n{settings}', encoding="utf-8")
    command = [sys.executable, "-m", "proxy", "portal", "--config", str(config)]
    own = {"LISTEN": "127.0.0.1:0", "PUBLIC_URL": "", "OIDC__ISSUER": ""}  # the site's own are taken
    changed = os.environ | {f"TOLLGATE_PORTAL__{name}": value for name, value in own.items()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=changed) as process:
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            assert ready.startswith("portal: ready at ")
            yield ready.split()[-1]
        finally:
            process.terminate()


def test_portal_works_without_its_gate_and_says_so(alone: str, new_page: NewPage) -> None:
    page = new_page("decision_maker", base_url=alone)
    expect(page.get_by_text("The gate is not running, or does not answer.")).to_be_visible()
    code = f"90-{time.time_ns() % 10**9}"
    page.goto("/codes?add=true")
    page.get_by_label("Code", exact=True).fill(code)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("1 code added.")).to_be_visible()
    page.goto("/live")
    expect(page.get_by_text("The gate is not running, or does not answer.")).to_be_visible()
