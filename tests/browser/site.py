"""A whole site for a browser to visit: gate and portal as `tollgate serve` runs them, a carrier, a phone."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

import pyotp

from proxy import composition
from proxy.cdr.record import CallRecord, Disposition, UsedCode
from proxy.demo_agents import Carrier, Phone, PhoneCall
from proxy.policy import CallClass, ClassOfService, CodeCollection, User, UserGroup, new_code
from proxy.portal.passwords import Passwords
from proxy.settings import load_settings
from proxy.store import (
    PortalAccount,
    ReportBy,
    ReportFormat,
    ReportSchedule,
    Rhythm,
    Role,
    Store,
    WebhookEndpoint,
    digest_credentials,
)
from tests.cdr.samples import full_record
from tests.support.foreign_provider import foreign_provider
from tests.support.ports import reserved_tcp_port, rtp_ports

__all__ = ["CODE", "EXTENSION", "NUMBER", "PASSWORD", "PROVIDER", "Site", "until"]

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
SIP_PASSWORD = "browser test phone"
PROVIDER = "Example Office"
"""What the provider of single sign-on is called."""
EXTENSION, NUMBER, CODE = "204", "4155550123", "4711"
PATIENCE = 90.0
"""Seconds that anything here may take: the machine may be busy."""

_Result = TypeVar("_Result")


class Site:
    """A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.issuer = ""
        """Of the provider of single sign-on, where whoever has a role's name has its account."""
        self._file = folder / "site.toml"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._reader = threading.Thread()
        self._process: subprocess.Popen[str] | None = None
        self._phone: Phone | None = None
        self._beside = ExitStack()
        self.carrier: Carrier
        self.calls: list[PhoneCall] = []

    @property
    def store(self) -> Store:
        """The site's store, opened anew: a context manager."""
        return Store(load_settings(self._file).store.url)

    def dial(self, number: str = NUMBER, *, extension: str = EXTENSION) -> PhoneCall:
        """Dial from the phone and wait until it is answered: by the gate that asks, or by the carrier."""
        assert self._phone is not None
        phone = self._phone

        async def work() -> PhoneCall:
            call = phone.call(number)
            await asyncio.wait_for(call.answered.wait(), PATIENCE)
            return call

        self.calls.append(self._run(work()))
        return self.calls[-1]

    def press(self, call: PhoneCall, keys: str) -> None:
        """Press keys, and wait until the carrier hears the phone: the code was right."""
        before = len(self.carrier.streams)
        self._loop.call_soon_threadsafe(call.rtp.press, keys)
        until(lambda: len(self.carrier.streams) > before and self.carrier.streams[-1].packets > 5)

    def hang_up(self, call: PhoneCall) -> None:
        """Hang up at the phone."""
        assert self._phone is not None
        self._loop.call_soon_threadsafe(self._phone.hang_up, call)

    def ended(self, call: PhoneCall) -> bool:
        """Whether the call has ended at the phone."""
        return call.ended.is_set()

    async def _open_carrier(self) -> Carrier:
        carrier = Carrier({}, ring=0.2)
        await carrier.start()
        return carrier

    async def _open_phone(self, gate_port: int) -> Phone:
        phone = Phone(EXTENSION, SIP_PASSWORD, gate_port, {})
        await phone.start()
        return phone

    def _run(self, work: Awaitable[_Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)  # type: ignore[arg-type]

    def add_careful_account(self) -> str:
        """Add an account with a second factor; returns its name."""
        name, passwords = f"careful {time.time_ns()}", Passwords()
        account = PortalAccount(name, Role.PHONE_MANAGER, passwords.hash_now(PASSWORD))
        passwords.close()
        with self.store as store:
            store.accounts.set_totp(store.accounts.add(account, now=time.time()).id, pyotp.random_base32())
        return name

    def __enter__(self) -> Self:
        self._thread.start()
        known = [{"sub": role.value, "preferred_username": role.value} for role in Role]
        claims = [option for person in known for option in ("--user-claims", json.dumps(person))]
        self.issuer = self._beside.enter_context(foreign_provider("--require-nonce", "true", *claims))
        port = self._beside.enter_context(reserved_tcp_port())
        self.carrier = self._run(self._open_carrier())
        self._file.write_text(
            f"""
            sip.listen = ["udp:127.0.0.1:0"]
            local_networks = ["127.0.0.2"]
            media.ports = "{rtp_ports()}"
            store.url = "sqlite:///{self.folder}/site.db"
            prompts.folder = "{self.folder}/prompts"
            phones.codecs = ["PCMU"]
            number_plan.country = "US"
            number_plan.extensions = ["2XX"]
            number_plan.area_codes = ["415"]
            portal.enabled = true
            portal.listen = "127.0.0.1:{port}"
            portal.public_url = "http://127.0.0.1:{port}"
            portal.trusted_proxies = ["127.0.0.1"]
            [portal.oidc]
            issuer = "{self.issuer}"
            client_id = "tollgate"
            client_secret = "any"
            label = "{PROVIDER}"
            [[trunks]]
            name = "carrier"
            addresses = ["udp:127.0.0.1:{self.carrier.port}"]
            inbound = false
            number_format = {{ style = "e164_without_plus" }}
            """,
            encoding="utf-8",
        )
        (self.folder / "prompts").mkdir()
        self._fill_store()
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(self._file)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        output = self._process.stdout
        assert output is not None
        said: list[str] = []
        self._reader = threading.Thread(target=_keep, args=(output, said), daemon=True)
        self._reader.start()
        port = int(_find(said, r"127\.0\.0\.1:(\d+)"))
        self.url = _find(said, r"portal: ready at (http://127.0.0.1:\d+)")
        self._phone = self._run(self._open_phone(port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._reader.join(PATIENCE)
            if self._process.stdout is not None:
                self._process.stdout.close()
        for call in self.calls:
            self._run(call.rtp.close())
        if self._phone is not None:
            self._run(self._phone.close())
        self._run(self.carrier.close())
        self._beside.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _fill_store(self) -> None:
        settings = load_settings(self._file)
        passwords = Passwords()
        free = ClassOfService(frozenset({CallClass.INTERNAL, CallClass.TOLL_FREE}))
        with Store(settings.store.url) as store:
            store.groups.add(UserGroup("Sales", permissions=free, collection=CodeCollection.REQUIRED))
            store.groups.add(UserGroup("Lobby"))
            credentials = digest_credentials(EXTENSION, settings.auth.realm, SIP_PASSWORD)
            store.users.add(User(EXTENSION, "Sales", "Front desk", "+14155550104", credentials=credentials))
            store.users.add(User("205", "Lobby", "Lobby phone"))
            plan = composition.number_plan(settings)
            for code, description in (
                (CODE, "ACME, general"),
                ("ACME-12/7", "ACME, appeal"),
                ("2200", "Internal"),
            ):
                store.codes.add(new_code(code, description, plan=plan))
            for role in Role:
                extension = EXTENSION if role is Role.USER else ""
                account = PortalAccount(role.value, role, passwords.hash_now(PASSWORD), extension)
                store.accounts.add(account, now=time.time())
            store.usage.insert_many(_some_weeks(time.time()))
            store.tokens.add("billing", ["codes:read", "usage:read"], now=time.time())
            chief = store.accounts.by_name(Role.DECISION_MAKER.value)
            assert chief is not None
            month = ReportSchedule(
                chief.id,
                ReportBy.CODE,
                Rhythm.MONTHLY,
                ("billing@example.com",),
                day=1,
                format=ReportFormat.CSV,
            )
            store.schedules.add(month, now=time.time())
            # No mail server is set: what comes of it is in the delivery log.
            told = WebhookEndpoint("mailto:security@example.com", frozenset({"emergency.dialed"}))
            store.webhooks.add(told, now=time.time())
        passwords.close()


def _some_weeks(now: float) -> list[CallRecord]:
    """Calls of the last weeks; the newest is called ``sample``."""
    clients = (
        UsedCode("ACME-12/7", "2263127", "2263127", "ACME, appeal"),
        UsedCode(CODE, CODE, CODE, "ACME, general"),
        None,
    )
    ends = (Disposition.ANSWERED, Disposition.ANSWERED, Disposition.BUSY, Disposition.ANSWERED)
    found = []
    for number in range(60):
        end = ends[number % len(ends)]
        call = replace(
            full_record(f"sample {number}" if number else "sample"),
            start_time=now - 600 - number * 50_000,
            ended_after=40.0 + number * 173 % 900,
            answered_after=6.0 if end is Disposition.ANSWERED else None,
            disposition=end,
            dialled_number=f"1650253{number * 37 % 40:04d}",
            normalised_number=f"+1650253{number * 37 % 40:04d}",
            call_class="national",
            user=EXTENSION if number % 3 else "205",
            caller_number="+14155550104",
            caller_name="Front desk",
            group="Sales" if number % 3 else "Lobby",
            code=clients[number % len(clients)],
            code_entered_after=3.5 if clients[number % len(clients)] else None,
            wrong_tries=int(number % 7 == 0),
            first_record_id="",
        )
        found.append(call)
    return found


def until(condition: Callable[[], object]) -> None:
    """Wait for something outside, however long the machine takes."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def _keep(output: IO[str], said: list[str]) -> None:
    said.extend(output)


def _find(said: list[str], pattern: str) -> str:
    found: list[str] = []

    def seen() -> bool:
        match = re.search(pattern, "".join(said))
        found[:] = [match[1]] if match else []
        return bool(found)

    until(seen)
    return found[0]
