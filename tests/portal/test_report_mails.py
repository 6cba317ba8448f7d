"""Reports by e-mail: made in the portal, written for their owner's eyes, sent to a real mail server."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
import pytest_asyncio

from proxy.cdr.record import CallRecord, UsedCode
from proxy.policy import AccountCode, NumberPlan, User, UserGroup, new_code
from proxy.portal import mailed_reports
from proxy.portal.report_sender import ReportSender
from proxy.portal.webhook_mail import Mailer
from proxy.settings_notify import MailSettings
from proxy.store import (
    MailedCalls,
    PortalAccount,
    ReportBy,
    ReportFormat,
    ReportSchedule,
    Rhythm,
    Role,
    Store,
)
from proxy.store.schedules import BACK_OFF
from tests.cdr.samples import full_record
from tests.portal.conftest import NOW, Clock
from tests.portal.person import Person, notice, rows
from tests.portal.postbox import MailServer, Postbox
from tests.portal.receiver import happens

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
ACME = UsedCode("ACME-12/7", "2263127", "2263127")
FORM = {
    "report": "code",
    "format": "csv",
    "language": "en",
    "rhythm": "daily",
    "weekday": "1",
    "monthday": "1",
    "time": "06:30",
    "recipients": "boss@example.com\r\nbooks@example.com",
    "enabled": "yes",
}


def call(record_id: str, **more: object) -> CallRecord:
    plain = replace(full_record(record_id), start_time=NOW, answered_after=6.0, ended_after=66.0, code=ACME)
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.fixture
def log(store: Store) -> Store:
    store.groups.add(UserGroup("Consultants"))
    store.users.add(User("204", "Consultants", name="Anna"))
    store.codes.add(replace(new_code("ACME-12/7", plan=NumberPlan()), description='Acme <b>& "Sons"'))
    store.usage.insert_many([call("r1"), call("r2", ended_after=126.0), call("r3", user="205", code=None)])
    return store


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def sender(store: Store, postbox: Postbox, clock: Clock) -> Iterator[ReportSender]:
    with MailServer(postbox) as servers:
        settings = MailSettings(server=servers.start(), security="none", sender="gate@example.com")
        yield ReportSender(store, Mailer(settings, patience=60), clock=clock, every=0.01)


@pytest.fixture
def made(log: Store, account: Account, clock: Clock) -> Callable[..., ReportSchedule]:
    """Make a schedule about yesterday, whose calls these are, and let it be due."""
    owner = account(Role.BILLING_CONTACT)

    def make(**more: object) -> ReportSchedule:
        plain = ReportSchedule(owner.id, ReportBy.CODE, Rhythm.DAILY, ("boss@example.com",))
        added = log.schedules.add(replace(plain, **more), now=NOW)  # type: ignore[arg-type]
        clock.now = max(clock.now, added.next_at)
        return added

    return make


@pytest_asyncio.fixture
async def boss(person: New, account: Account) -> Person:
    """A Decision Maker, logged in."""
    account(Role.DECISION_MAKER)
    someone = person()
    await someone.log_in("decision_maker")
    return someone


def attached(message: EmailMessage) -> tuple[str, bytes]:
    [part] = message.iter_attachments()
    content = part.get_content()
    return str(part.get_filename()), content if isinstance(content, bytes) else content.encode()


def html(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def cells(shown: str) -> list[list[str]]:
    """The table's lines."""
    body = shown.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in body.split("</tr>")[:-1]]


YESTERDAY = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%d}"


async def test_made_listed_changed_sent_now_and_deleted(
    boss: Person, log: Store, sender: ReportSender, postbox: Postbox, clock: Clock
) -> None:
    someone = boss
    assert 'href="/reports/mail"' in (await someone.get("/reports")).text
    page = await someone.get("/reports/mail")
    assert "No report is sent by e-mail." in page.text
    assert "No mail server is set" in notice(page)
    answer = await someone.post("/reports/mail", FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/reports/mail?said=added")
    page = await someone.get("/reports/mail?said=added")
    assert notice(page).endswith("The report will be sent.")
    [line] = rows(page)
    assert line[:3] == ["Report by account code", "boss@example.com, books@example.com", "decision_maker"]
    assert line[3].endswith("06:30:00 every day")
    assert line[4:] == ["", "Send now"]
    [kept] = log.schedules.all()
    one = f"/reports/mail/{kept.id}"
    assert 'name="time" type="time" value="06:30"' in (await someone.get(one)).text
    changed = {**FORM, "version": "1", "report": "user", "rhythm": "weekly", "weekday": "5", "enabled": ""}
    assert (await someone.post(one, changed)).headers["location"] == "/reports/mail?said=changed"
    theirs = {
        **changed,
        "rhythm": "monthly",
        "monthday": "9",
        "recipients": "me@example.com",
        "enabled": "yes",
    }
    late = await someone.post(one, theirs)
    assert late.status_code == 409
    assert (
        "It now has: How often: every week; Day of the week: Friday; Day of the month: -; "
        "To: books@example.com, boss@example.com; is sent: No." in notice(late)
    )
    assert ">me@example.com</textarea>" in late.text, "what was typed is still there"
    assert 'name="monthday" type="number" min="1" max="28" value="9"' in late.text
    assert 'name="version" value="2"' in late.text
    assert "is not sent" in rows(await someone.get("/reports/mail"))[0][3]
    clock.now += 60
    assert (await someone.post(f"{one}/send")).headers["location"] == "/reports/mail?said=sending"
    assert "next try" in rows(await someone.get("/reports/mail"))[0][4]
    assert sender.look()
    assert not sender.look()
    assert [message["To"] for message in postbox.taken] == ["boss@example.com, books@example.com"]
    assert rows(await someone.get("/reports/mail"))[0][4].startswith("sent ")
    assert "Send this report no more?" in (await someone.get(f"{one}?delete=true")).text
    assert "Send this report no more?" in (await someone.post(f"{one}/delete")).text
    assert (await someone.post(f"{one}/delete", {"sure": "yes"})).headers[
        "location"
    ] == "/reports/mail?said=deleted"
    assert (await someone.get(one)).status_code == 404
    assert log.schedules.all() == []
    kinds = [(entry.who, entry.action) for entry in log.audit.page() if entry.kind == "schedule"]
    assert kinds == [("decision_maker", act) for act in ("delete", "send", "change", "add")]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("recipients", "", "e-mail address"),
        ("recipients", "boss@example.com\r\nBcc:all@example.com", "is no e-mail address"),
        ("report", "moon", "report"),
        ("format", "exe", "format"),
        ("language", "xx", "language"),
        ("rhythm", "hourly", "rhythm"),
        ("time", "25:00", "06:30"),
        ("time", "", "06:30"),
        ("report", "statement", "account code that is there"),
    ],
)
async def test_bad_forms_are_refused_with_what_was_typed(
    boss: Person, log: Store, field: str, value: str, complaint: str
) -> None:
    someone = boss
    answer = await someone.post("/reports/mail", {**FORM, field: value, "code": "does not exist"})
    assert (answer.status_code, complaint in notice(answer)) == (422, True), notice(answer)
    assert "boss@example.com" in answer.text or field == "recipients"
    assert log.schedules.all() == []
    for day in ("0", "29", "x", "²", "999"):
        answer = await someone.post("/reports/mail", {**FORM, "rhythm": "monthly", "monthday": day})
        assert answer.status_code == 422
    assert (await someone.get("/reports/mail?said=<b>")).status_code == 400
    assert (await someone.post("/reports/mail/7", {**FORM, "version": "1"})).status_code == 404


async def test_who_may_see_less_touches_no_schedule_of_others(
    person: New, account: Account, made: Callable[..., ReportSchedule], log: Store
) -> None:
    theirs = made(account_id=account(Role.DECISION_MAKER).id)
    own = made()
    someone = person()
    await someone.log_in("billing_contact")
    assert [line[2] for line in rows(await someone.get("/reports/mail"))] == ["billing_contact"]
    one = f"/reports/mail/{theirs.id}"
    assert (await someone.get(one)).status_code == 404
    for path, fields in (
        (one, {**FORM, "version": "1"}),
        (f"{one}/send", {}),
        (f"{one}/delete", {"sure": "yes"}),
    ):
        assert (await someone.post(path, fields)).status_code == 404
    assert {kept.id for kept in log.schedules.all()} == {theirs.id, own.id}
    other = person()
    await other.log_in("decision_maker")
    assert len(rows(await other.get("/reports/mail"))) == 2
    assert (await other.post(f"/reports/mail/{own.id}", {**FORM, "version": "1"})).status_code == 303
    assert [kept.account_id for kept in log.schedules.all()] == [theirs.account_id, own.account_id]


async def test_a_statement_is_of_a_code_that_is_named_without_its_digits(
    person: New, account: Account, log: Store
) -> None:
    account(Role.BILLING_CONTACT)
    account(Role.DECISION_MAKER)
    found = log.codes.find("ACME-12/7")
    assert found is not None
    masked, other = person(), person()
    await masked.log_in("billing_contact")
    await other.log_in("decision_maker")
    page = await masked.get(f"/reports/mail?code_id={found.id}")
    assert 'name="code"' not in page.text
    assert "ACME-12" not in page.text
    assert f'name="code_id" value="{found.id}"' in page.text
    statement = {**FORM, "report": "statement"}
    assert (await masked.post("/reports/mail", {**statement, "code": "ACME-12/7"})).status_code == 422
    assert (await masked.post("/reports/mail", {**statement, "code_id": str(found.id)})).status_code == 303
    assert (await other.post("/reports/mail", {**statement, "code": "acme127"})).status_code == 303
    assert [kept.code_id for kept in log.schedules.all()] == [found.id, found.id]
    assert "ACME-12" not in (await masked.get("/reports/mail")).text


async def test_who_saves_second_is_told_of_another_code(person: New, account: Account, log: Store) -> None:
    account(Role.BILLING_CONTACT)
    account(Role.DECISION_MAKER)
    for form in ("1111", "2222", "3333"):
        log.codes.add(new_code(form, plan=NumberPlan()))
    first, second, third = (
        one.id for one in log.codes.after(0) if one.value.form in {"1111", "2222", "3333"}
    )
    masked, open_ = person(), person()
    await masked.log_in("billing_contact")
    await open_.log_in("decision_maker")
    statement = {**FORM, "report": "statement", "version": "1"}
    assert (await masked.post("/reports/mail", {**statement, "code_id": str(first)})).status_code == 303
    [kept] = log.schedules.all()
    one = f"/reports/mail/{kept.id}"

    async def told(who: Person, **changed: str) -> str:
        answer = await who.post(one, {**statement, **changed})
        assert answer.status_code == 409
        return notice(answer)

    changed = {**statement, "code_id": str(first), "code": "2222"}
    assert (await open_.post(one, changed)).status_code == 303
    label = "Account code of a statement"
    assert f"It now has: {label}: 2222." in await told(open_, code_id=str(first))
    assert f"It now has: {label}: 2222." in await told(open_, code_id=str(second), code="33-33")
    assert f"It now has: {label}: ****." in await told(masked, code_id=str(third)), "alike, and another"
    assert label not in await told(open_, code_id=str(first), code="22-22"), "the same, typed otherwise"
    assert label not in await told(masked, code_id=str(second))
    other = {**changed, "report": "code", "version": "2"}
    assert (await open_.post(one, other)).status_code == 303
    assert f"Report by account code; {label}: -." in await told(open_, code_id=str(second))


def test_reports_as_table_csv_and_workbook(
    made: Callable[..., ReportSchedule], sender: ReportSender, postbox: Postbox
) -> None:
    for form in ("html", "csv", "xlsx"):
        made(format=ReportFormat(form), language="de", report=ReportBy.USER)
    while sender.look():
        pass
    table, csv, book = postbox.taken
    assert table["From"] == "gate@example.com"
    assert table["Subject"] == f"Auswertungen: {_by_user_in_german()}, {YESTERDAY}"
    assert table["Auto-Submitted"] == "auto-generated"
    assert cells(html(table))[0] == ["204", "Anna", "2", "2", "00:03:00", "180"]
    name, data = attached(csv)
    assert name == f"user-{YESTERDAY}-{YESTERDAY}.csv"
    assert '"204","Anna","2","2","00:03:00","180"' in data.decode()
    name, data = attached(book)
    assert name.endswith(".xlsx")
    sheet = zipfile.ZipFile(io.BytesIO(data)).read("xl/worksheets/sheet1.xml").decode()
    assert "<v>180</v>" in sheet, "numbers can be added up"
    assert len({message["Message-ID"] for message in postbox.taken}) == 3


def _by_user_in_german() -> str:
    from proxy.portal.texts import texts_of

    return texts_of("de")("report.by_user")


def test_statements_and_the_usage_log_show_what_their_owner_may_see(
    made: Callable[..., ReportSchedule], sender: ReportSender, postbox: Postbox, log: Store
) -> None:
    found = log.codes.find("ACME-12/7")
    assert found is not None
    of_code = {"report": MailedCalls.STATEMENT, "code_id": found.id}
    made(**of_code, format=ReportFormat.HTML)
    made(**of_code, format=ReportFormat.CSV)
    made(report=MailedCalls.USAGE, user="205")
    made(report=MailedCalls.USAGE, format=ReportFormat.XLSX)
    made(report=ReportBy.CODE)
    while sender.look():
        pass
    statement, calls, usage, book, codes = postbox.taken
    shown = html(statement)
    assert re.search(r"<dd[^>]*>\*{4}", shown)
    assert "<b>" not in shown
    assert "Acme &lt;b&gt;&amp; &#34;Sons&#34;" in shown
    assert re.findall(r"<dd[^>]*>([^<]*)</dd>", shown)[1:] == ["2", "2", "00:03:00"]
    assert len(cells(shown)) == 2
    assert attached(calls)[1].count(b"\n") == 3
    lines = attached(usage)[1].decode().splitlines()
    assert len(lines) == 2
    assert "205" in lines[1]
    strings = zipfile.ZipFile(io.BytesIO(attached(book)[1])).read("xl/worksheets/sheet1.xml").decode()
    assert strings.count("<row ") == 4
    for message in postbox.taken:
        assert "ACME-12" not in message.as_string()
        assert "2263127" not in message.as_string()
    assert b"****" in attached(codes)[1]
    owner = log.accounts.by_name("billing_contact")
    assert owner is not None
    log.accounts.change(replace(owner, see_codes=True), version=owner.version)
    made(report=ReportBy.CODE)
    sender.look()
    assert b"ACME-12/7" in attached(postbox.taken[-1])[1]


def test_what_can_never_be_sent_is_given_up_with_its_reason(
    made: Callable[..., ReportSchedule],
    sender: ReportSender,
    postbox: Postbox,
    log: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = log.codes.find("ACME-12/7")
    owner = log.accounts.by_name("billing_contact")
    assert found is not None
    assert owner is not None
    gone = made(report=MailedCalls.STATEMENT, code_id=found.id)
    assert log.schedules.note_due(now=gone.next_at) == 1
    log.codes.delete_one(found.id)
    log.codes.add(AccountCode("300003", description="Client C"))  # which gets another number
    large = made(report=MailedCalls.USAGE)
    book = made(report=MailedCalls.USAGE, format=ReportFormat.XLSX)
    monkeypatch.setattr(mailed_reports, "LARGEST", 100)
    monkeypatch.setattr(mailed_reports, "MOST_ROWS", 2)
    for _ in range(3):
        sender.look()
    monkeypatch.undo()
    log.accounts.set_password(owner.id, "x", now=NOW, must_change=True)
    fine = made()
    sender.look()
    log.accounts.change(replace(owner, disabled=True), version=owner.version + 1)
    disabled = made()
    sender.look()
    log.accounts.delete(owner.id)
    nobody = made(account_id=owner.id)
    sender.look()
    last = log.schedules.last_mails()
    assert "was deleted" in last[gone.id].last_error
    for one in (large, book):
        assert "mail servers don't take" in last[one.id].last_error
    assert last[fine.id].sent_at is not None
    for one in (disabled, nobody):
        assert (last[one.id].next_try_at, last[one.id].attempts) == (None, 1)
        assert "may not see reports" in last[one.id].last_error
    assert len(postbox.taken) == 1


def test_a_mail_server_that_refuses_is_tried_again_and_one_address_keeps_no_other_waiting(
    made: Callable[..., ReportSchedule], sender: ReportSender, postbox: Postbox, log: Store, clock: Clock
) -> None:
    one = made(recipients=("boss@example.com", "books@example.com"))
    postbox.says = "451 4.3.0 Later"
    assert sender.look()
    assert "451" in log.schedules.last_mails()[one.id].last_error
    postbox.says = "250 OK"
    assert not sender.look()
    clock.now += BACK_OFF[0]
    postbox.refused = {"books@example.com"}
    assert sender.look()
    assert len(postbox.taken) == 1
    last = log.schedules.last_mails()[one.id]
    assert last.sent_at is not None
    assert last.last_error == "not taken for books@example.com"


def test_without_a_mail_server_it_says_so_and_waits(
    made: Callable[..., ReportSchedule], store: Store, clock: Clock
) -> None:
    one = made()
    assert ReportSender(store, Mailer(MailSettings()), clock=clock).look()
    last = store.schedules.last_mails()[one.id]
    assert last.next_try_at == clock.now + BACK_OFF[0]
    assert "notify.mail.server" in last.last_error


def test_two_processes_send_each_report_once_and_a_store_that_fails_is_waited_for(
    made: Callable[..., ReportSchedule], sender: ReportSender, postbox: Postbox, store: Store, clock: Clock
) -> None:
    for _ in range(5):
        made()
    with Store(f"sqlite:///{store.database.file}") as other:
        beside = ReportSender(other, sender._mailer, clock=clock, every=0.01)
        with store.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE report_mails RENAME TO gone")
        sender.start()
        beside.start()
        happens(lambda: sender._looking._failing and beside._looking._failing)
        with store.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO report_mails")
        happens(lambda: [bool(one.sent_at) for one in store.schedules.last_mails().values()] == [True] * 5)
        sender.stop()
        beside.stop()
    assert len(postbox.taken) == len({message["Message-ID"] for message in postbox.taken}) == 5


async def test_pages_in_every_language(boss: Person, log: Store) -> None:
    await boss.post("/reports/mail", {**FORM, "rhythm": "weekly"})
    [one] = log.schedules.all()
    for language, word in (("es", "cada semana"), ("de", "jede Woche")):
        for path in ("/reports/mail", f"/reports/mail/{one.id}"):
            answer = await boss.client.get(path, headers={"accept-language": language})
            assert (answer.status_code, word in answer.text) == (200, True)
