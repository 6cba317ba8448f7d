"""``tollgate usage`` on records in a real SQLite file."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Disposition, UsedCode
from proxy.cli import run
from proxy.store.days import site_zone
from proxy.store.store import Store


@pytest.fixture(autouse=True)
def _two_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")
    monkeypatch.setenv("TZ", "UTC")
    first, second = (datetime(2026, 7, day, 12).astimezone().timestamp() for day in (1, 2))
    with Store("sqlite:///cli.db") as store:
        store.usage.insert_many(
            [
                CallRecord(
                    "r1",
                    first,
                    user="204",
                    group="sales",
                    caller_number="204",
                    dialled_number="14155550100",
                    call_class="national",
                    treatment="required code",
                    code=UsedCode("ACME-12/7", "2263127", "2263127", "Acme"),
                    answered_after=5.0,
                    ended_after=80.4,
                    disposition=Disposition.ANSWERED,
                ),
                CallRecord("r2", second, caller_number="=1+1", disposition=Disposition.BLOCKED),
            ]
        )


def out_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_list_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    lines = out_of(capsys, "usage", "list")
    assert [line.split("\t")[-1] for line in lines] == ["Result", "blocked", "answered"]
    assert lines[2].split("\t")[1:] == [
        "1:15",
        "204",
        "204",
        "14155550100",
        "national",
        "required code",
        "ACME-12/7",
        "answered",
    ]
    assert lines[2].startswith("2026-07-01 12:00:00\t")


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["r2", "r1"]),
        (["--limit", "1"], ["r2"]),
        (["--user", "204"], ["r1"]),
        (["--group", "sales"], ["r1"]),
        (["--code", "acme 127"], ["r1"]),
        (["--number", "555"], ["r1"]),
        (["--result", "blocked"], ["r2"]),
        (["--from", "2026-07-02"], ["r2"]),
        (["--until", "2026-07-01"], ["r1"]),
        (["--from", "2026-07-01", "--until", "2026-07-02"], ["r2", "r1"]),
        (["--from", "2026-07-03"], []),
    ],
)
def test_filters(arguments: list[str], ids: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = out_of(capsys, "usage", "list", "--format", "jsonl", *arguments)
    assert [json.loads(line)["record_id"] for line in lines] == ids


@pytest.mark.parametrize("form", ["usage-log", "asterisk", "freeswitch", "jsonl"])
def test_export_in_every_format(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out_of(capsys, "usage", "export", "--format", form)
    assert len(lines) == (3 if form == "usage-log" else 2)
    assert out_of(capsys, "usage", "export", "out", "--format", form) == ["out: 2 calls"]
    assert Path("out").read_text().splitlines() == lines
    assert run(["usage", "export", "out"]) == 1
    assert "there is a file at out already; --replace overwrites it" in capsys.readouterr().err
    assert Path("out").read_text().splitlines() == lines
    assert out_of(capsys, "usage", "export", "out", "--replace", "--format", form) == ["out: 2 calls"]


def test_export_for_spreadsheets_has_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    lines = out_of(capsys, "usage", "export")
    assert lines[0].startswith('"Location","Start of Call Date"')
    assert ',"\'=1+1",' in lines[2]


def test_export_can_show_the_recorded_code_too(capsys: pytest.CaptureFixture[str]) -> None:
    plain = out_of(capsys, "usage", "export")
    lines = out_of(capsys, "usage", "export", "--corrections")
    assert lines[0].endswith(
        '"Account Code","Recorded Account Code","Corrected By","Corrected At","Correction Reason"'
    )
    assert lines[1:] == [line + ',"","","",""' for line in plain[1:]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["export", "x", "--format", "xls"], "--format: 'xls' is not known; write usage-log, asterisk"),
        (["export", "x", "--format", "jsonl", "--corrections"], "--corrections: only the usage-log format"),
        (["list", "--from", "yesterday"], "--from: 'yesterday' is no date"),
        (["list", "--from", "2026-07-02", "--until", "2026-07-01"], "--from lies after --until"),
        (["list", "--until", "9999-12-31"], "--until: 9999-12-31 is too far away"),
        (["list", "--from", "0001-01-01"], "--from: 0001-01-01 is too far away"),
        (["list", "--result", "happy"], "--result: 'happy' is not known"),
        (["list", "--code", "#"], "# ends it"),
        (["export", "no/file"], "can't be written"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["usage", *arguments]) == 1
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert not Path("x").exists()


def test_zone_is_that_of_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert str(site_zone()) == "Europe/Berlin"
    monkeypatch.setenv("TZ", "Nowhere/Atlantis")
    assert datetime(2026, 7, 1, tzinfo=site_zone()).utcoffset() is not None
    monkeypatch.delenv("TZ")
    assert datetime(2026, 7, 1, tzinfo=site_zone()).utcoffset() is not None
