"""The ordered multi-map of header fields (RFC 3261 §7.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import LocalProtocolError
from proxy.sip.headers import Headers, canonical_name


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("Call-ID", "Call-ID"),
        ("call-id", "Call-ID"),
        ("CALL-ID", "Call-ID"),
        ("i", "Call-ID"),
        ("V", "Via"),
        ("cseq ", "CSeq"),
        ("www-AUTHENTICATE", "WWW-Authenticate"),
        ("x-new-HEADER", "X-New-Header"),
    ],
)
def test_rfc3261_7_3_3_canonical_names(spelled: str, canonical: str) -> None:
    assert canonical_name(spelled) == canonical


def test_rfc3261_7_3_1_any_spelling_finds_the_header() -> None:
    headers = Headers([("v", "1"), ("X-new", "2")])
    assert headers.get("Via") == headers.get("VIA") == "1"
    assert headers.get("x-NEW") == "2"
    assert headers.get("To") is None
    assert "via" in headers
    assert "to" not in headers
    assert headers.lines() == ["v: 1", "X-new: 2"]
    assert list(headers.items()) == [("Via", "1"), ("X-New", "2")]


def test_rfc3261_7_3_1_several_lines_keep_their_order() -> None:
    headers = Headers(
        [("Route", "<sip:a>, <sip:b>"), ("To", "x"), ("Route", "<sip:c>"), ("Route", "<sip:d>")]
    )
    assert headers.get("Route") == "<sip:a>, <sip:b>"
    assert headers.get_all("route") == ["<sip:a>, <sip:b>", "<sip:c>", "<sip:d>"]
    assert headers.values("Route") == ["<sip:a>", "<sip:b>", "<sip:c>", "<sip:d>"]
    assert headers.get_all("To") == ["x"]
    assert headers.get_all("From") == []
    assert headers.is_repeated("Route")
    assert not headers.is_repeated("To")
    assert len(headers) == 4


def test_prepend_makes_the_first() -> None:
    headers = Headers([("To", "x")])
    headers.prepend("Via", "2")
    headers.prepend("Via", "1")
    headers.prepend("Via", "0")
    assert headers.get("Via") == "0"
    assert headers.get_all("Via") == ["0", "1", "2"]
    assert headers.lines() == ["Via: 0", "Via: 1", "Via: 2", "To: x"]


def test_set_leaves_one_in_the_first_place() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("A", "3"), ("C", "4"), ("C", "5")])
    headers.set("a", "6")
    assert headers.lines() == ["a: 6", "B: 2", "C: 4", "C: 5"]
    assert headers.get_all("A") == ["6"]
    headers.set("B", "7")
    headers.set("D", "8")
    assert headers.lines() == ["a: 6", "B: 7", "C: 4", "C: 5", "D: 8"]


def test_replace_first_leaves_the_others() -> None:
    headers = Headers([("To", "x"), ("Via", "1"), ("Via", "2")])
    headers.replace_first("Via", "0")
    assert headers.get_all("Via") == ["0", "2"]
    with pytest.raises(LocalProtocolError):
        headers.replace_first("From", "y")


def test_remove_takes_all_of_a_name() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("A", "3")])
    headers.remove("a")
    headers.remove("Z")
    assert headers.lines() == ["B: 2"]
    assert headers.get_all("A") == []
    headers.remove("B")
    headers.add("A", "4")
    assert not headers.is_repeated("A")
    assert headers.get_all("A") == ["4"]
    headers.remove("A")
    assert len(headers) == 0


def test_keep_first() -> None:
    headers = Headers([("To", "1"), ("To", "2"), ("Via", "1"), ("Via", "2")])
    headers.keep_first(("To", "From"))
    assert headers.lines() == ["To: 1", "Via: 1", "Via: 2"]


def test_a_copy_is_independent() -> None:
    headers = Headers([("A", "1"), ("A", "2"), ("A", "3")])
    copy = headers.copy()
    assert copy == headers
    assert copy.get_all("A") == ["1", "2", "3"]
    copy.add("B", "2")
    assert "B" not in headers
    assert copy != headers
    assert headers != 1


@pytest.mark.parametrize(
    ("name", "value"), [("A", "x\r\nB: y"), ("A", "x\ny"), ("A", "x\r"), ("A b", ""), ("", "")]
)
def test_nothing_can_break_its_line(name: str, value: str) -> None:
    headers = Headers()
    for method in (headers.add, headers.prepend, headers.set):
        with pytest.raises(LocalProtocolError):
            method(name, value)
    assert headers.lines() == []


def test_values_stay_out_of_traces() -> None:
    assert repr(Headers([("Authorization", "Digest secret")])) == "Headers(['Authorization'])"


NAMES = st.sampled_from(["Via", "v", "To", "X-a", "x-A", "Route"])
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "prepend", "set", "remove"]), NAMES, st.sampled_from("123")),
    max_size=20,
)


@given(OPERATIONS)
def test_every_view_agrees_with_a_plain_list(operations: list[tuple[str, str, str]]) -> None:
    headers = Headers()
    model: list[tuple[str, str]] = []
    for operation, spelled, value in operations:
        name = canonical_name(spelled)
        if operation == "add":
            headers.add(spelled, value)
            model.append((name, value))
        elif operation == "prepend":
            headers.prepend(spelled, value)
            model.insert(0, (name, value))
        elif operation == "remove":
            headers.remove(spelled)
            model = [item for item in model if item[0] != name]
        else:
            headers.set(spelled, value)
            at = next((index for index, item in enumerate(model) if item[0] == name), len(model))
            model = [item for index, item in enumerate(model) if item[0] != name or index < at]
            model.insert(at, (name, value))
        assert list(headers.items()) == model
        for each in ("Via", "To", "X-A", "Route"):
            values = [item[1] for item in model if item[0] == each]
            assert headers.get_all(each) == values
            assert headers.get(each) == (values[0] if values else None)
            assert (each in headers) is bool(values)
