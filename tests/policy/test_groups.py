"""Classes of service and user groups: the derived matrix and its edited cells."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import CallClass, ClassOfService, CodeCollection, Treatment, UserGroup
from proxy.policy.groups import PatternVerdict
from tests.policy.support import INTERNAL, number, service


def test_permission_pattern_wins_over_restriction_pattern() -> None:
    cos = service(CallClass.LOCAL, restricted=("+1415.", "+1212."), permitted=("+14155550100", "+44."))
    assert cos.pattern_verdict(number("5550100"))[0] is PatternVerdict.PERMITTED
    verdict, pattern = cos.pattern_verdict(number("5550101"))
    assert verdict is PatternVerdict.RESTRICTED
    assert str(pattern) == "+1415."
    assert cos.pattern_verdict(number("204")) == (PatternVerdict.SILENT, None)
    assert ClassOfService().pattern_verdict(number("204")) == (PatternVerdict.SILENT, None)


def test_includes_goes_by_pattern_then_class() -> None:
    cos = service(CallClass.LOCAL, restricted=("4155550101",), permitted=("+44.",))
    assert cos.includes(number("5550100"))
    assert not cos.includes(number("5550101"))
    assert cos.includes(number("+442079460000"))
    assert not cos.includes(number("18005550100"))


@pytest.mark.parametrize(
    ("collection", "outside", "asks"),
    [
        (CodeCollection.OFF, Treatment.BLOCK, False),
        (CodeCollection.OPTIONAL, Treatment.OPTIONAL_CODE, True),
        (CodeCollection.REQUIRED, Treatment.REQUIRED_CODE, True),
    ],
)
def test_matrix_is_derived_from_the_pair(collection: CodeCollection, outside: Treatment, asks: bool) -> None:
    group = UserGroup("staff", INTERNAL, collection, service(CallClass.LOCAL, CallClass.NATIONAL))
    assert group.matrix[CallClass.INTERNAL] is Treatment.ALLOW
    assert group.matrix[CallClass.LOCAL] is outside
    assert outside.asks is asks
    assert group.matrix[CallClass.PREMIUM] is Treatment.BLOCK
    assert group.matrix[CallClass.EMERGENCY] is Treatment.ALLOW
    assert set(group.matrix) == set(CallClass)


def test_emergency_is_allowed_without_any_permission() -> None:
    assert (
        UserGroup("none", ClassOfService(), unlock=ClassOfService()).matrix[CallClass.EMERGENCY]
        is Treatment.ALLOW
    )


def test_edited_cells_outlive_a_change_of_the_pair() -> None:
    edited = {CallClass.NATIONAL: Treatment.OPTIONAL_CODE, CallClass.INTERNAL: Treatment.BLOCK}
    before = UserGroup("staff", INTERNAL, CodeCollection.REQUIRED, edited=edited)
    after = UserGroup("staff", INTERNAL, CodeCollection.OFF, edited=before.edited)
    for group in (before, after):
        assert group.matrix[CallClass.NATIONAL] is Treatment.OPTIONAL_CODE
        assert group.matrix[CallClass.INTERNAL] is Treatment.BLOCK
    assert (before.matrix[CallClass.MOBILE], after.matrix[CallClass.MOBILE]) == (
        Treatment.REQUIRED_CODE,
        Treatment.BLOCK,
    )


def test_outside_ignores_a_cell_that_allows() -> None:
    edited = {CallClass.LOCAL: Treatment.ALLOW, CallClass.NATIONAL: Treatment.OPTIONAL_CODE}
    group = UserGroup("staff", INTERNAL, CodeCollection.REQUIRED, edited=edited)
    assert group.matrix[CallClass.LOCAL] is Treatment.ALLOW
    assert group.outside(CallClass.LOCAL) is Treatment.REQUIRED_CODE
    assert group.outside(CallClass.NATIONAL) is Treatment.OPTIONAL_CODE


def test_group_is_immutable_all_through() -> None:
    edited = {CallClass.LOCAL: Treatment.ALLOW}
    group = UserGroup("staff", edited=edited)
    edited[CallClass.PREMIUM] = Treatment.ALLOW
    assert dict(group.edited) == {CallClass.LOCAL: Treatment.ALLOW}
    with pytest.raises(TypeError):
        group.matrix[CallClass.PREMIUM] = Treatment.ALLOW  # type: ignore[index]  # wrong on purpose


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": ""}, "group name"),
        ({"name": " staff"}, "group name"),
        ({"name": "x" * 65}, "group name"),
        ({"name": "a\nb"}, "group name"),
        ({"edited": {CallClass.EMERGENCY: Treatment.BLOCK}}, "always allowed"),
        ({"tries": 0}, "tries"),
        ({"tries": 21}, "tries"),
        ({"first_digit": 0.1}, "first_digit"),
        ({"inter_digit": 601.0}, "inter_digit"),
        ({"whole_entry": float("nan")}, "whole_entry"),
        ({"min_length": 0}, "code length"),
        ({"min_length": 5, "max_length": 4}, "code length"),
        ({"max_length": 21}, "code length"),
        ({"fixed_length": 21}, "fixed_length"),
        ({"min_length": 4, "fixed_length": 3}, "fixed_length"),
        ({"prompts": "../secret"}, "prompts"),
        ({"prompts": ".."}, "prompts"),
        ({"prompts": "a\\b"}, "prompts"),
        ({"prompts": "a\0"}, "prompts"),
    ],
)
def test_bad_group_is_refused_by_field(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        UserGroup(**{"name": "staff", **changes})  # type: ignore[arg-type]  # wrong on purpose


def test_emergency_cell_may_be_written_down_as_allow() -> None:
    assert UserGroup("staff", edited={CallClass.EMERGENCY: Treatment.ALLOW}, fixed_length=6).fixed_length == 6
