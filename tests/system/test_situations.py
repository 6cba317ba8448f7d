"""Each folder of ``situations`` is one call, placed by SIPp through a real gate to a SIPp carrier.

Checked are both SIPp ends (their scenarios), the record in the usage log, what the carrier heard, and that no
digit typed at the prompt reached the carrier, the gate's log or, when it was no code, the gate's disk. The
situations run side by side, each lane with a gate of its own; the phones of a situation register before it.
"""

from __future__ import annotations

import queue
import re
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.cdr.record import CallRecord
from proxy.policy import (
    CallClass,
    CallerLock,
    CallLimits,
    ClassOfService,
    CodeCollection,
    NumberPlan,
    User,
    UserGroup,
    new_code,
)
from proxy.store import digest_credentials
from tests.support.pcap import VOICES, Keys, caller_stream, tone_stream, write_pcap
from tests.support.run_again import LOST, read_machine
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, Gate, free_port, running_gate
from tests.system.media import PATIENCE, RtpListener, shorten_sounds, write_beep

SITUATIONS = sorted(path.parent for path in (Path(__file__).parent / "situations").glob("*/situation.toml"))
REGISTRATION = Path(__file__).parent / "registration" / "phone.xml"
WATCHER_ADDRESS = "127.0.0.23"
PHONE_ADDRESSES = {"phone": "127.0.0.20", "second_phone": "127.0.0.21", "third_phone": "127.0.0.22"}
PHONES = [str(extension) for extension in range(210, 260)]
"""Users with phones; each belongs to one situation, so that no phone of another one rings."""
CODE = "ACME-12/7"
CODE_DIGITS = "2263127"
PASSWORD = "a-sip-password"
NO_RECORD = 0.5
"""Seconds after which a record that is not there will not come."""
LANES = 4

Outcome = tuple[Exception | None, float]
"""What went wrong, and the share of the machine that others took meanwhile."""


@contextmanager
def lane(folder: Path, *, store_url: str = "") -> Iterator[Gate]:
    """Run one gate with everything the situations need."""
    folder.mkdir()
    prompts = folder / "prompts"
    shorten_sounds(prompts)
    write_beep(prompts / "groups" / "curt" / "enter_code.wav")
    extra = f'[prompts]\nfolder = "{prompts}"\n[auth]\nalgorithms = ["MD5"]  # all that SIPp can\n'
    extra += '[subscriptions]\nmailboxes = "pbx"\nmin_expires = 2\n'
    extra += '[[did_routes]]\nprefix = "+12025550166"\nuser = "256"\n'
    with running_gate(folder, extra=extra, store_url=store_url) as gate:
        store = gate.store
        store.groups.add(
            UserGroup("curt", collection=CodeCollection.REQUIRED, tries=2, first_digit=1.0, prompts="curt")
        )
        store.groups.add(UserGroup("four digits", collection=CodeCollection.REQUIRED, fixed_length=4))
        free = ClassOfService(frozenset(CallClass))
        store.groups.add(UserGroup("three seconds", free, limits=CallLimits(talk_seconds=3)))
        store.locks.add([CallerLock("user 207", time.time(), None, 5)])
        for extension, group in (
            ("201", "required"),
            ("202", "optional"),
            ("203", "closed"),
            ("204", "curt"),
            ("205", "required"),
            ("206", "four digits"),
            ("207", "required"),
            ("208", "three seconds"),
            *((extension, "required") for extension in PHONES),
        ):
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            store.users.add(User(extension, group, credentials=credentials))
        plan = NumberPlan()
        store.codes.add(new_code(CODE, "Client twelve, matter seven", plan=plan))
        store.codes.add(new_code("1234", "Office", plan=plan))
        gate.wait_for_policy()
        yield gate
        assert "faults: 0" in gate.wait_until_idle()


class Lanes:
    """Gates that are free in turn, and what became of the situations played through them."""

    def __init__(
        self, gates: list[Gate], threads: ThreadPoolExecutor, folders: pytest.TempPathFactory
    ) -> None:
        self._free: queue.SimpleQueue[Gate] = queue.SimpleQueue()
        for gate in gates:
            self._free.put(gate)
        self._threads = threads
        self._folders = folders
        self._played: dict[Path, Future[Outcome]] = {}

    def start(self, situation: Path) -> None:
        """Play a situation as soon as a lane is free."""
        self._played[situation] = self._threads.submit(self._play, situation)

    def outcome(self, situation: Path) -> Outcome:
        """Return what became of a situation; when it is asked for again, it is played again."""
        if situation not in self._played:
            self.start(situation)
        return self._played.pop(situation).result()

    def _play(self, situation: Path) -> Outcome:
        gate, before, error = self._free.get(), read_machine(), None
        try:
            play(situation, gate, self._folders.mktemp(situation.name))
        except Exception as raised:  # noqa: BLE001 - the test of this situation raises it
            error = raised
        finally:
            self._free.put(gate)
        return error, before.lost_until(read_machine())


@pytest.fixture(scope="module")
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """Run the situations that were asked for, some at a time."""
    here = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asked = [Path(str(item.callspec.params["folder"])) for item in here if item.module is request.module]
    folder = tmp_path_factory.mktemp("lanes")
    number = min(LANES, len(asked))
    with ExitStack() as running, ThreadPoolExecutor(number) as threads:
        gates = [running.enter_context(lane(folder / str(one))) for one in range(number)]
        made = Lanes(gates, threads, tmp_path_factory)
        # The longest take longest whenever they start: so they start first.
        for situation in sorted(asked, key=lambda situation: -_length_ms(_read(situation))):
            made.start(situation)
        yield made


@pytest.mark.parametrize("folder", SITUATIONS, ids=lambda folder: folder.name)
def test_situation(folder: Path, lanes: Lanes, request: pytest.FixtureRequest) -> None:
    error, request.node.stash[LOST] = lanes.outcome(folder)
    if error is not None:
        raise error


def play(folder: Path, gate: Gate, work: Path) -> None:
    """Let one situation happen and judge it."""
    situation = _read(folder)
    log_before = gate.log.stat().st_size
    caller_address = situation.setdefault("caller_address", PBX_ADDRESS)
    with RtpListener(CARRIER_ADDRESSES[0]) as media, RtpListener(caller_address) as heard:
        placed: dict[str, sipp.Sipp] = {}
        answering = _start_answering(folder, situation, gate, work, media)
        try:
            words = {"rtp_address": heard.address, "rtp_port": str(heard.port)}
            words |= _place_earlier(folder, situation, gate, work, answering, placed)
            caller = placed["caller"] = _start_caller(folder, situation, gate, work, words)
            caller.wait()
            for process in (*placed.values(), *answering):
                process.wait()
        finally:
            for process in (*placed.values(), *answering):
                process.stop()
    _judge_records(gate, placed[situation.get("records_of", "caller")].call_id, situation)
    assert media.digits == situation.get("carrier_hears", ""), "digits that the carrier heard"
    assert media.audio_packets >= situation.get("carrier_audio_packets", 0)
    for ear, wanted in ((media, "carrier_hears_packets"), (heard, "caller_hears_packets")):
        for payload_type, packets in situation.get(wanted, {}).items():
            assert ear.packets[int(payload_type)] >= packets, (wanted, ear.packets)
    with gate.log.open() as log:
        log.seek(log_before)
        written = log.read()
    for entry in _entries(situation):
        assert entry not in written, "typed digits in the log"
        assert not any(entry in process.messages() for process in answering), "typed digits at the carrier"
        if entry != CODE_DIGITS:
            kept = [path for path in gate.config.parent.rglob("tollgate*") if path.is_file()]
            assert kept
            assert not any(entry.encode() in path.read_bytes() for path in kept), "wrong digits on the disk"


def _read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "situation.toml").read_text())


def _keys(situation: dict[str, Any]) -> list[Keys]:
    return [Keys(**group) for group in situation.get("keys", [])]


def _total_ms(situation: dict[str, Any]) -> int:
    return 2000 + max((group.start_ms + 100 * len(group.digits) for group in _keys(situation)), default=0)


def _length_ms(situation: dict[str, Any]) -> int:
    """Return how long a situation may take: what it says, or as long as its keys."""
    return max(_total_ms(situation), 1000 * int(situation.get("seconds", 0)))


def _entries(situation: dict[str, Any]) -> list[str]:
    """Return what is typed at the prompt, in pieces long enough not to be found elsewhere by chance."""
    typed = [group.digits.replace("#", "*").split("*") for group in _keys(situation)]
    return [entry for entries in typed for entry in entries if len(entry) >= 6]


def _judge_records(gate: Gate, call_id: str, situation: dict[str, Any]) -> None:
    """Look for the record of the call; one that went on elsewhere has one per segment (``[[segments]]``)."""
    expected = situation.get("segments", [situation["record"]] if "record" in situation else [])
    until = time.monotonic() + (PATIENCE if expected else NO_RECORD)
    found: list[CallRecord] = []
    while len(found) < max(1, len(expected)) and time.monotonic() < until:
        time.sleep(0.1)
        found = [record for record in gate.records() if record.a_call_id == call_id]
    assert len(found) == len(expected), "records of the call"
    found.sort(key=lambda record: bool(record.first_record_id))
    assert [facts(record, names) for record, names in zip(found, expected, strict=True)] == expected


def _start_answering(
    folder: Path, situation: dict[str, Any], gate: Gate, work: Path, media: RtpListener
) -> list[sipp.Sipp]:
    """Start whoever the situation says answers: carriers, the PBX behind the gate, and phones, registered."""
    places = [
        ("carrier", CARRIER_ADDRESSES[0], gate.carrier_ports[0], ""),
        ("second_carrier", CARRIER_ADDRESSES[1], gate.carrier_ports[1], ""),
        ("pbx", PBX_ADDRESS, gate.pbx_port, ""),
    ]
    for name, phone in situation.get("phones", {}).items():
        address = PHONE_ADDRESSES[name]
        places.append((name, address, free_port(address), phone["user"]))
        _register(work, gate, name, places[-1][2], phone)
    watcher = situation.get("watcher")
    watching = [] if watcher is None else [_start_watching(folder, watcher, gate, work)]
    return watching + [
        sipp.start(
            folder / f"{name}.xml",
            work,
            name=name,
            address=address,
            port=port,
            media_port=free_port(address),
            transport=situation.get(f"{name}_transport", "udp"),
            keys={"rtp_address": media.address, "rtp_port": str(media.port), "user": user},
            seconds=situation.get("seconds", 30),
            calls=situation.get("calls", {}).get(name, 1),
        )
        for name, address, port, user in places
        if (folder / f"{name}.xml").exists()
    ]


def _start_watching(folder: Path, watcher: dict[str, Any], gate: Gate, work: Path) -> sipp.Sipp:
    """Start the phone that watches somebody's line during the call."""
    return sipp.start(
        folder / "watcher.xml",
        work,
        name="watcher",
        address=WATCHER_ADDRESS,
        port=free_port(WATCHER_ADDRESS),
        media_port=free_port(WATCHER_ADDRESS),
        remote=f"127.0.0.1:{gate.port}",
        service=watcher["line"],
        keys={"user": watcher["user"]},
    )


def _register(work: Path, gate: Gate, name: str, port: int, phone: dict[str, Any]) -> None:
    """Let a phone say where it is; it answers from there then."""
    sipp.start(
        REGISTRATION,
        work,
        name=f"{name}_registers",
        address=PHONE_ADDRESSES[name],
        port=port,
        media_port=free_port(PHONE_ADDRESSES[name]),
        remote=f"127.0.0.1:{gate.port}",
        keys={"user": phone["user"], "q": str(phone.get("q", 1))},
    ).wait()


def _place_earlier(  # noqa: PLR0917
    folder: Path,
    situation: dict[str, Any],
    gate: Gate,
    work: Path,
    answering: list[sipp.Sipp],
    placed: dict[str, sipp.Sipp],
) -> dict[str, str]:
    """Place the calls that come before the caller's own (``[[earlier]]``).

    Each comes when the one before has told what is to be learnt of it: the named groups of a pattern in its
    messages, or in those of who answers.
    """
    words: dict[str, str] = {}
    for number, call in enumerate(situation.get("earlier", [])):
        name = call["scenario"] if call["scenario"] not in placed else f"{call['scenario']}_{number}"
        process = placed[name] = _start_caller(folder, situation | call, gate, work, words, name)
        if call.get("ends"):
            process.wait()
        source = next((one for one in answering if one.name == call.get("from")), process)
        words |= _learn(source, call["learns"])
    return words


def _learn(source: sipp.Sipp, pattern: str) -> dict[str, str]:
    """Return the words of the last place that a pattern fits, as soon as there is one."""
    until = time.monotonic() + PATIENCE
    while not (found := list(re.finditer(pattern, source.messages(), re.DOTALL))):
        assert time.monotonic() < until, f"{source.name}: nothing like {pattern}"
        time.sleep(0.1)
    return found[-1].groupdict()


def _start_caller(  # noqa: PLR0917
    folder: Path,
    situation: dict[str, Any],
    gate: Gate,
    work: Path,
    words: dict[str, str],
    name: str = "caller",
) -> sipp.Sipp:
    keys, total_ms = _keys(situation), _total_ms(situation)
    if situation.get("inband"):
        stream = tone_stream(keys, total_ms=total_ms)
    else:
        stream = caller_stream(keys, total_ms=total_ms, voice=VOICES[situation.get("voice", "pcmu")])
    write_pcap(work / "keys.pcap", stream)
    address = situation["caller_address"]
    return sipp.start(
        folder / f"{situation.get('scenario', 'caller')}.xml",
        work,
        name=name,
        address=address,
        port=free_port(address),
        media_port=free_port(address),
        remote=f"127.0.0.1:{gate.port}",
        transport=situation.get("transport", "udp"),
        service=situation["dial"],
        keys={"user": situation["user"], **words},
        seconds=situation.get("seconds", 30),
    )


def facts(record: CallRecord, names: dict[str, Any]) -> dict[str, Any]:
    """Return what the record says on the named facts, in the words of a situation file."""
    special: dict[str, Any] = {
        "account_code": record.code.form if record.code else "",
        "trunks": [f"{one.trunk} {one.sip_code}" for one in record.trunks],
    }
    return {name: special[name] if name in special else getattr(record, name) for name in names}
