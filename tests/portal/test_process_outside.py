"""The portal as a process with others around it: a provider that people log in at, and a mail server."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from proxy.store import PortalAccount, ReportBy, ReportSchedule, Rhythm, Role, Store
from tests.portal.postbox import MailServer, Postbox
from tests.portal.receiver import happens
from tests.portal.test_process import Folder, folder
from tests.support.oidc_provider import CLIENT, SECRET, OidcProvider
from tests.support.ports import reserved_tcp_port

__all__ = ["folder"]

pytestmark = pytest.mark.system


async def test_somebody_signs_on_and_a_report_that_was_due_while_nothing_ran_is_sent(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    postbox, store_url = Postbox(), f"sqlite:///{folder.path}/gate.db"
    with OidcProvider(time.time) as provider, MailServer(postbox) as mail, reserved_tcp_port() as port:
        monkeypatch.setenv("TOLLGATE_PORTAL__LISTEN", f"127.0.0.1:{port}")
        provider.claims = {"sub": "1", "preferred_username": "anna"}
        folder.write(
            'public_url = "https://portal.test"',
            'trusted_proxies = ["127.0.0.1"]',
            f'oidc = {{ issuer = "{provider.issuer}", client_id = "{CLIENT}", client_secret = "{SECRET}" }}',
            "[notify.mail]",
            f'server = "{mail.start()}"',
            'security = "none"',
            'sender = "gate@example.com"',
        )
        with Store(store_url) as store:
            anna = store.accounts.add(PortalAccount("anna", Role.DECISION_MAKER, "x"), now=time.time())
            due = time.localtime(time.time() - 300)
            minute = due.tm_hour * 60 + due.tm_min
            daily = ReportSchedule(anna.id, ReportBy.DAY, Rhythm.DAILY, ("boss@example.com",), minute=minute)
            store.schedules.add(daily, now=time.time() - 3_600)
            portal = await folder.run("portal")
            await portal.says(r"ready at https://portal\.test")
            await asyncio.to_thread(happens, lambda: postbox.taken)
            assert postbox.taken[0]["To"] == "boss@example.com"
            last = store.schedules.last_mails
            await asyncio.to_thread(happens, lambda: all(one.sent_at for one in last().values()))
        await _sign_on(f"http://127.0.0.1:{port}")
        portal.process.terminate()
        assert await portal.ends() == 0
    assert len(postbox.taken) == 1


async def _sign_on(url: str) -> None:
    """As a web server before the portal passes it on; cookies are kept by hand, as they are for HTTPS."""
    headers = {"host": "portal.test", "x-forwarded-proto": "https", "accept-language": "en"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as browser:
        assert "Log in with 127.0.0.1" in (await browser.get("/login")).text
        leaving = await browser.get("/login/oidc?next=/codes")
        async with httpx.AsyncClient(trust_env=False) as outside:
            back = (await outside.get(leaving.headers["location"])).headers["location"]
        kept = {"cookie": leaving.headers["set-cookie"].partition(";")[0]}
        answer = await browser.get(back.removeprefix("https://portal.test"), headers=kept)
        assert (answer.status_code, answer.headers["location"]) == (303, "/codes")
        session = next(one for one in answer.headers.get_list("set-cookie") if "tollgate=" in one)
        page = await browser.get("/codes", headers={"cookie": session.partition(";")[0]})
        assert (page.status_code, "anna" in page.text) == (200, True)
