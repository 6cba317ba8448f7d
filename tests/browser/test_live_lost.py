"""An open page whose session, gate or portal goes away: it says so, and is right again when that is back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, log_in
from tests.browser.site import CODE, ROOT, Site, until
from tests.browser.test_accessible import problems
from tests.portal.gate import TalkingGate
from tests.support.ports import reserved_tcp_port

LOGGED_OUT = "You are logged out."
GATE_DOWN = "The gate is not running, or does not answer."
NO_ANSWER = "The portal does not answer at this moment"


def ask_anew(page: Page) -> None:
    """Let the page listen anew, as it does when it is looked at again."""
    page.evaluate("dispatchEvent(new Event('pagehide')), dispatchEvent(new Event('pageshow'))")


def note_all(page: Page) -> None:
    """Leave no notice of ended emergency calls to the tests that follow."""
    noted = page.get_by_role("button", name="Noted")
    for left in range(noted.count(), 0, -1):
        noted.first.click()
        expect(noted).to_have_count(left - 1)


def test_board_whose_session_has_ended_says_so_and_goes_on_after_a_log_in(manager: Page, site: Site) -> None:
    manager.goto("/live")
    call = site.dial()
    site.press(call, CODE + "#")
    expect(manager.locator("#live-calls tbody tr")).to_contain_text("talking")
    other = manager.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Log out").click()
    other.wait_for_url("/login")
    manager.bring_to_front()
    # Within the half minute that a stream lasts.
    expect(manager.get_by_text(LOGGED_OUT)).to_be_visible()
    expect(manager.locator("#live-calls")).to_be_empty()
    assert problems(manager) == []
    assert manager.url.endswith("/live")
    log_in(other, "decision_maker")
    manager.bring_to_front()
    expect(manager.locator("#live-calls tbody tr")).to_contain_text("talking")
    expect(manager.get_by_text(LOGGED_OUT)).to_have_count(0)
    other.get_by_role("button", name="Log out").click()
    other.wait_for_url("/login")
    manager.bring_to_front()
    ask_anew(manager)
    manager.get_by_role("main").get_by_role("link", name="Log in").click()
    manager.wait_for_url(re.compile(r"/login\?next=/live$"))
    site.hang_up(call)
    until(lambda: site.ended(call))


def test_emergency_call_is_told_on_an_open_page_at_once(manager: Page, site: Site) -> None:
    manager.goto("/users/edit")
    manager.get_by_label("Name", exact=True).fill("Half typed")
    told = manager.locator(".emergency").filter(has_text="Emergency call now. 204")
    expect(told).to_have_count(0)
    call = site.dial("911")
    expect(told).to_be_visible()
    expect(told).to_contain_text("has dialled 911.")
    assert problems(manager) == []
    site.hang_up(call)
    expect(told).to_have_count(0)
    expect(manager.locator(".emergency").filter(has_text=", ended. 204").first).to_be_visible()
    note_all(manager)
    assert manager.url.endswith("/users/edit"), "it is noted in place"
    expect(manager.get_by_label("Name", exact=True)).to_have_value("Half typed")
    manager.goto("/")
    expect(manager.locator("main .emergency")).to_have_count(0)


def test_emergency_call_is_noted_without_scripts(new_page: NewPage, site: Site) -> None:
    page = new_page("decision_maker", java_script_enabled=False)
    call = site.dial("911")
    site.hang_up(call)
    until(lambda: site.ended(call))
    until(lambda: page.goto("/users") and page.get_by_role("button", name="Noted").count())
    note_all(page)
    assert page.url.endswith("/live")


@pytest.fixture
def portal_at(site: Site, tmp_path: Path) -> Iterator[Callable[[int, Path], subprocess.Popen[str]]]:
    """Run a portal of the same store at a port, whose gate is asked over another socket."""
    with ExitStack() as running:

        def run(port: int, socket: Path) -> subprocess.Popen[str]:
            config = tmp_path / "alone.toml"
            settings = (site.folder / "site.toml").read_text(encoding="utf-8")
            config.write_text(f'control.socket = "{socket}"\n{settings}', encoding="utf-8")
            command = [sys.executable, "-m", "proxy", "portal", "--config", str(config)]
            own = {"LISTEN": f"127.0.0.1:{port}", "PUBLIC_URL": "", "OIDC__ISSUER": ""}
            changed = os.environ | {f"TOLLGATE_PORTAL__{name}": value for name, value in own.items()}
            return running.enter_context(_running(command, changed))

        yield run


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("portal: ready at ")
            yield process
        finally:
            process.terminate()


def test_gate_and_portal_go_away_and_come_back_while_a_page_is_open(
    portal_at: Callable[[int, Path], subprocess.Popen[str]], new_page: NewPage, tmp_path: Path
) -> None:
    socket = tmp_path / "gate.sock"
    with reserved_tcp_port() as port:
        portal = portal_at(port, socket)
        board = new_page("decision_maker", base_url=f"http://127.0.0.1:{port}")
        with TalkingGate(socket) as gate:
            gate.call("c1", started_at=time.time())
            board.goto("/live")
            row = board.locator("#live-calls tbody tr")
            expect(row).to_contain_text("talking")
            expect(board.get_by_text(GATE_DOWN)).to_have_count(0)
        # The gate is gone, the portal is not.
        expect(board.get_by_text(GATE_DOWN)).to_be_visible()
        expect(board.locator("#live-calls")).to_have_text("")
        assert problems(board) == []
        with TalkingGate(socket) as gate:
            gate.call("c2", started_at=time.time(), dialled="4155550177")
            expect(row).to_contain_text("4155550177")
            expect(board.get_by_text(GATE_DOWN)).to_have_count(0)
            # The portal is gone, too.
            portal.terminate()
            portal.wait()
            expect(board.get_by_text(NO_ANSWER)).to_be_visible()
            expect(board.locator("#live-calls")).to_be_empty()
            portal_at(port, socket)
            expect(row).to_contain_text("4155550177")
            expect(board.get_by_text(NO_ANSWER)).to_have_count(0)
