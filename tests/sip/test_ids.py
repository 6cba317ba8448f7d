"""Branches, tags and Call-IDs: RFC 3261 §8.1.1.4, §8.1.1.7, §19.3."""

from __future__ import annotations

import pytest

from proxy.sip.ids import KeyedIds

KEY = bytes(range(32))


def test_rfc3261_8_1_1_7_branches_have_the_magic_cookie_and_never_repeat() -> None:
    ids = KeyedIds(KEY)
    branches = [ids.branch() for _ in range(1000)]
    assert len(set(branches)) == 1000
    assert all(branch.startswith("z9hG4bK") and len(branch) == 39 for branch in branches)


def test_rfc3261_19_3_tags_and_call_ids_never_repeat() -> None:
    ids = KeyedIds(KEY)
    assert len({ids.tag() for _ in range(1000)} | {ids.call_id() for _ in range(1000)}) == 2000


def test_the_same_key_gives_the_same_sequence_another_key_another() -> None:
    assert KeyedIds(KEY).branch() == KeyedIds(KEY).branch()
    assert KeyedIds(KEY).branch() != KeyedIds(KEY[::-1]).branch()


def test_rfc3261_8_2_7_a_derived_tag_depends_on_the_material_and_the_key() -> None:
    assert KeyedIds(KEY).derived_tag("a\udcff") == KeyedIds(KEY).derived_tag("a\udcff")
    assert KeyedIds(KEY).derived_tag("a") != KeyedIds(KEY).derived_tag("b")
    assert KeyedIds(KEY).derived_tag("a") != KeyedIds(KEY[::-1]).derived_tag("a")


def test_rfc3261_14_2_retry_after_is_0_to_10_s() -> None:
    ids = KeyedIds(KEY)
    assert {ids.retry_after() for _ in range(500)} == set(range(11))


def test_rfc3261_14_1_the_wait_after_a_491_depends_on_who_owns_the_call_id() -> None:
    ids = KeyedIds(KEY)
    owner = {ids.glare_wait(owns_call_id=True) for _ in range(5000)}
    other = {ids.glare_wait(owns_call_id=False) for _ in range(5000)}
    assert (min(owner), max(owner), len(owner)) == (2.1, 4.0, 191)
    assert (min(other), max(other), len(other)) == (0.0, 2.0, 201)


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_key_of_a_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        KeyedIds(bytes(length))
