"""A gate in this process with a phone, a carrier, a store and a journal around it, in one folder."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from proxy import composition
from proxy.cdr.record import CallRecord
from proxy.demo_agents import Carrier, Phone, PhoneCall
from proxy.net.control import ask
from proxy.policy import CallClass, ClassOfService, CodeCollection, User, UserGroup, new_code
from proxy.server import Gate
from proxy.settings import Settings, load_settings
from proxy.store import Store, digest_credentials
from tests.net.waiting import PATIENCE, happens, until
from tests.support.ports import rtp_ports
from tests.system.media import shorten_sounds

PASSWORD = "only-for-this-test"
NUMBER = "4155550123"
CODE = "1234"


@cache
def _short_sounds() -> Path:
    folder = Path(mkdtemp(prefix="tollgate-sounds-"))
    atexit.register(rmtree, folder)
    shorten_sounds(folder)
    return folder


class House:
    """A gate with everything around it, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.carrier = Carrier({}, ring=0.05)
        self.extra = ""
        self.media_ports = rtp_ports()
        self.gate: Gate
        self.phone: Phone
        self.calls: list[PhoneCall] = []

    def load(self) -> Settings:
        file = self.folder / "gate.toml"
        sounds = "" if "prompts.folder" in self.extra else f'prompts.folder = "{_short_sounds()}"'
        file.write_text(
            f"""
            local_networks = ["127.0.0.2"]
            sip.listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
            media.ports = "{self.media_ports}"
            store.url = "sqlite:///{self.folder}/gate.db"
            phones.codecs = ["PCMU"]
            timers.drain = 1
            {sounds}
            {self.extra}
            [[trunks]]
            name = "carrier"
            addresses = ["udp:127.0.0.1:{self.carrier.port}"]
            inbound = false
            number_format = {{ style = "e164_without_plus" }}
            """
        )
        return load_settings(file)

    def fill_store(self, settings: Settings) -> None:
        with Store(settings.store.url) as store:
            free = ClassOfService(frozenset({CallClass.TOLL_FREE}))
            store.groups.add(UserGroup("Codes", permissions=free, collection=CodeCollection.REQUIRED))
            credentials = digest_credentials("204", settings.auth.realm, PASSWORD)
            store.users.add(User("204", "Codes", "Phone 204", credentials=credentials))
            store.codes.add(new_code(CODE, "Test", plan=composition.number_plan(settings)))

    async def open(self, *, fill: bool = True) -> None:
        await self.carrier.start()
        settings = self.load()
        if fill:
            self.fill_store(settings)
        self.gate = Gate(settings, load=self.load)
        await self.gate.start()
        self.phone = Phone("204", PASSWORD, self.gate.bound[0][1], {})
        await self.phone.start()

    async def close(self) -> None:
        await self.gate.stop()
        for call in self.calls:
            await call.rtp.close()
        await self.phone.close()
        await self.carrier.close()

    def dial(self, number: str = NUMBER) -> PhoneCall:
        call = self.phone.call(number)
        self.calls.append(call)
        return call

    async def talk(self, number: str = NUMBER) -> PhoneCall:
        """Place a gated call and come as far as the conversation."""
        streams = self.carrier.streams
        before = len(streams)
        call = self.dial(number)
        await happens(call.answered)
        call.rtp.press(CODE + "#")
        await until(lambda: len(streams) > before and streams[-1].packets > 5)
        return call

    def ask(self, command: str, **arguments: object) -> object:
        return ask(self.gate.settings.control_socket, command, timeout=PATIENCE, **arguments)

    async def records(self, count: int = 1) -> list[CallRecord]:
        found: list[CallRecord] = []

        def enough() -> bool:
            assert self.gate.store is not None
            found[:] = self.gate.store.usage.stream()
            return len(found) >= count

        await until(enough)
        return found
