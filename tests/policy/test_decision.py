"""The decision: permissions, patterns, matrix, second class of service; total, and emergency always goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import (
    CallClass,
    CallRequest,
    CodeCollection,
    Decision,
    DialledNumber,
    NumberPlan,
    NumberRefused,
    Snapshot,
    Treatment,
    User,
    UserGroup,
    decide,
    is_for_help,
)
from tests.policy.support import INTERNAL, US, service, snapshot

ABROAD = "sip:9011442079460000@192.0.2.1"
LOCAL = "5550100"


def dial(dialled: str, *groups: UserGroup) -> Decision:
    policy = snapshot(*groups, users=(User("204", groups[0].name if groups else "staff"),))
    return decide(CallRequest(dialled, user="204"), policy)


def test_class_inside_the_call_permissions_is_free() -> None:
    decision = dial(LOCAL, UserGroup("staff", service(CallClass.LOCAL), CodeCollection.REQUIRED))
    assert decision.treatment is Treatment.ALLOW
    assert decision.reason == "group 'staff' may dial local numbers freely"
    assert not decision.asks
    assert decision.call_class is CallClass.LOCAL


@pytest.mark.parametrize(
    ("collection", "treatment", "ending"),
    [
        (CodeCollection.OFF, Treatment.BLOCK, "it collects no account codes"),
        (CodeCollection.OPTIONAL, Treatment.OPTIONAL_CODE, "an account code is asked for and may be skipped"),
        (CodeCollection.REQUIRED, Treatment.REQUIRED_CODE, "an account code is required"),
    ],
)
def test_class_outside_the_call_permissions_is_treated_by_the_collection(
    collection: CodeCollection, treatment: Treatment, ending: str
) -> None:
    decision = dial(ABROAD, UserGroup("staff", INTERNAL, collection))
    assert decision.treatment is treatment
    assert decision.reason.startswith(
        "international numbers lie outside the call permissions of group 'staff'"
    )
    assert decision.reason.endswith(ending)
    assert decision.asks is treatment.asks


def test_second_class_of_service_decides_whether_the_call_may_be_placed_at_all() -> None:
    group = UserGroup("staff", INTERNAL, CodeCollection.REQUIRED, service(CallClass.LOCAL))
    assert dial(LOCAL, group).treatment is Treatment.REQUIRED_CODE
    refused = dial(ABROAD, group)
    assert refused.treatment is Treatment.BLOCK
    assert refused.reason.endswith("no account code unlocks them")


def test_permission_pattern_frees_and_restriction_pattern_asks() -> None:
    permissions = service(CallClass.LOCAL, restricted=("5550199",), permitted=("+4420.",))
    group = UserGroup("staff", permissions, CodeCollection.REQUIRED)
    assert dial(ABROAD, group).treatment is Treatment.ALLOW
    assert dial("5550100", group).treatment is Treatment.ALLOW
    asked = dial("5550199", group)
    assert asked.treatment is Treatment.REQUIRED_CODE
    assert "restriction pattern 5550199" in asked.reason


def test_restricted_number_without_collection_is_blocked() -> None:
    group = UserGroup("staff", service(CallClass.LOCAL, restricted=("5550199",)))
    assert dial("+1 415 555 0199", group).treatment is Treatment.BLOCK


def test_patterns_of_the_second_class_of_service_bound_the_codes() -> None:
    unlock = service(CallClass.INTERNATIONAL, restricted=("+4420.",), permitted=("5550100",))
    group = UserGroup("staff", INTERNAL, CodeCollection.OPTIONAL, unlock)
    kept = dial(ABROAD, group)
    assert kept.treatment is Treatment.BLOCK
    assert "keeps codes from unlocking it" in kept.reason
    assert dial("+442179460000", group).treatment is Treatment.OPTIONAL_CODE
    assert dial("5550100", group).treatment is Treatment.OPTIONAL_CODE
    assert dial("5550101", group).treatment is Treatment.BLOCK
    without = UserGroup("staff", INTERNAL, CodeCollection.OFF, unlock)
    assert dial("5550100", without).treatment is Treatment.BLOCK


def test_permitted_unlock_pattern_leaves_an_edited_treatment() -> None:
    edited = {CallClass.LOCAL: Treatment.REQUIRED_CODE}
    group = UserGroup("staff", INTERNAL, CodeCollection.OPTIONAL, service(permitted=("5550100",)), edited)
    assert dial("5550100", group).treatment is Treatment.REQUIRED_CODE


def test_edited_cells_decide() -> None:
    edited = {
        CallClass.LOCAL: Treatment.OPTIONAL_CODE,
        CallClass.INTERNATIONAL: Treatment.ALLOW,
        CallClass.INTERNAL: Treatment.BLOCK,
    }
    group = UserGroup("staff", INTERNAL, CodeCollection.OFF, edited=edited)
    assert dial(LOCAL, group).treatment is Treatment.OPTIONAL_CODE
    assert dial(ABROAD, group).treatment is Treatment.ALLOW
    blocked = dial("201", group)
    assert blocked.treatment is Treatment.BLOCK
    assert "matrix: internal is block (edited by hand)" in blocked.steps


def test_steps_tell_the_whole_way() -> None:
    steps = dial(ABROAD).steps
    assert [step.partition(":")[0] for step in steps] == [
        "caller",
        "group",
        "number",
        "class",
        "matrix",
        "decision",
    ]
    assert steps[0] == "caller: user 204, proved by authentication"
    assert steps[-1].startswith("decision: required code, because international numbers")


def test_number_without_normal_form_is_refused_with_its_reason() -> None:
    decision = dial("sip:reception@example.com")
    assert decision.treatment is Treatment.BLOCK
    assert (decision.number, decision.call_class, decision.status_hint) == (None, None, 404)
    assert not decision.emergency
    assert "can't be dialled" in decision.reason


# Who the caller is (DESIGN, Identity of the caller)


def test_peers_asserted_identity_names_the_user() -> None:
    policy = snapshot(users=(User("204", "staff", caller_number="4155550104"),))
    decision = decide(
        CallRequest(ABROAD, caller="sip:+14155550104@pbx.example.com", default_group="none"), policy
    )
    assert decision.user is policy.users["204"]
    assert decision.steps[0] == "caller: user 204, named by the peer"


@pytest.mark.parametrize("caller", ["", "sip:299@pbx.example.com"])
def test_caller_that_matches_no_user_falls_into_the_peers_default_group(caller: str) -> None:
    decision = decide(CallRequest(ABROAD, caller=caller, default_group="staff"), snapshot())
    assert decision.user is None
    assert decision.group is not None
    assert decision.treatment is Treatment.REQUIRED_CODE


def test_caller_without_user_and_default_group_is_blocked() -> None:
    decision = decide(CallRequest("201"), snapshot())
    assert decision.treatment is Treatment.BLOCK
    assert decision.reason == "the caller belongs to no user group"
    assert decision.status_hint == 403


def test_authenticated_name_that_the_policy_does_not_know_is_blocked_whatever_the_default_group() -> None:
    decision = decide(CallRequest("201", user="777", caller="204", default_group="staff"), snapshot())
    assert decision.treatment is Treatment.BLOCK
    assert "'777'" in decision.steps[0]


def test_user_is_found_by_extension_when_the_digest_name_is_another() -> None:
    policy = snapshot(users=(User("204", "staff", digest_name="desk"),))
    for name in ("desk", "204"):
        assert decide(CallRequest("201", user=name), policy).user is policy.users["204"]


def test_disabled_user_and_missing_group_are_blocked() -> None:
    policy = snapshot(users=(User("204", "staff", enabled=False), User("205", "gone")))
    assert decide(CallRequest("201", user="204"), policy).reason == "user 204 is disabled"
    missing = decide(CallRequest("201", user="205"), policy)
    assert missing.treatment is Treatment.BLOCK
    assert "group: 'gone' does not exist" in missing.steps
    assert missing.user is policy.users["205"]


# Emergency


class Broken(Snapshot):
    """A policy whose every user look-up fails, or whose normaliser does."""

    def __init__(self, plan: NumberPlan | None = None, *, normaliser_too: bool) -> None:
        super().__init__(plan)
        self.normaliser_too = normaliser_too

    def normalise(self, text: str) -> DialledNumber | NumberRefused:
        if self.normaliser_too:
            raise RuntimeError("broken")
        return super().normalise(text)

    def user_by_digest_name(self, _name: str) -> Never:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    "dialled", ["911", "9911", "tel:112", "urn:service:sos", "sip:+911@h", "9-1-1", "%39%31%31"]
)
@pytest.mark.parametrize(
    "request_",
    [
        CallRequest(""),
        CallRequest("", user="204"),
        CallRequest("", user="777"),
        CallRequest("", caller="sip:nobody@h"),
        CallRequest("", default_group="gone"),
    ],
)
def test_emergency_is_placed_for_everyone(dialled: str, request_: CallRequest) -> None:
    policy = snapshot(users=(User("204", "gone", enabled=False),))
    decision = decide(CallRequest(dialled, request_.user, request_.caller, request_.default_group), policy)
    assert decision.treatment is Treatment.ALLOW
    assert decision.emergency
    assert decision.number is not None
    assert decision.number.number in {"911", "112"}


def test_emergency_tells_the_user_for_the_record() -> None:
    assert dial("911").user is not None


def test_emergency_is_placed_when_the_users_cannot_be_looked_up() -> None:
    decision = decide(CallRequest("911", user="204"), Broken(normaliser_too=False))
    assert (decision.treatment, decision.user) == (Treatment.ALLOW, None)


@pytest.mark.parametrize(
    ("dialled", "number"),
    [
        ("911", "911"),
        ("9911", "911"),
        ("+1911", "911"),
        ("933", "933"),
        ("sip:+112@h", "112"),
        ("sip:911@h;x=" + "a" * 4000, "911"),
        ("urn:service:sos.fire", "911"),
    ],
)
def test_emergency_is_placed_when_the_whole_policy_is_broken(dialled: str, number: str) -> None:
    plan = replace(US, emergency_numbers=frozenset({"933"}))
    decision = decide(CallRequest(dialled, user="204"), Broken(plan, normaliser_too=True))
    assert decision.treatment is Treatment.ALLOW
    assert decision.number is not None
    assert decision.number.number == number


@pytest.mark.parametrize(
    ("dialled", "number"), [("+911", "911"), ("112", "112"), ("999", "999"), ("urn:service:sos", "112")]
)
def test_emergency_is_placed_without_any_number_plan(dialled: str, number: str) -> None:
    broken = Broken(normaliser_too=True)
    object.__setattr__(broken, "plan", None)
    decision = decide(CallRequest(dialled), broken)
    assert decision.number is not None
    assert (decision.treatment, decision.number.number) == (Treatment.ALLOW, number)
    assert decide(CallRequest("9110"), broken).treatment is Treatment.BLOCK


@pytest.mark.parametrize("plan", [US, None])
@pytest.mark.parametrize(
    ("dialled", "for_help"),
    [("911", True), ("sip:+112@h", True), ("urn:service:sos", True), ("9110", False), ("%%%", False)],
)
def test_a_call_for_help_is_known_without_a_decision(
    plan: NumberPlan | None, dialled: str, *, for_help: bool
) -> None:
    policy = snapshot()
    object.__setattr__(policy, "plan", plan)
    assert is_for_help(dialled, policy) is for_help
    assert decide(CallRequest(dialled), policy).emergency is for_help


@pytest.mark.parametrize("dialled", ["201", "sip:x@h", LOCAL])
def test_other_calls_are_blocked_when_the_policy_is_broken(dialled: str) -> None:
    decision = decide(CallRequest(dialled, user="204"), Broken(normaliser_too=True))
    assert (decision.treatment, decision.status_hint) == (Treatment.BLOCK, 500)
    assert decision.reason == "the policy could not be evaluated (RuntimeError)"


_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["204", "5550100", "911", ABROAD, "sip:sos@h", "tel:999", "+19005551234"]),
    st.text("0123456789+*#", max_size=20),
)
_POLICY = snapshot(UserGroup("staff", INTERNAL, CodeCollection.OPTIONAL), users=(User("204", "staff"),))


@given(_TEXTS, st.none() | _TEXTS, _TEXTS, st.none() | _TEXTS)
def test_decide_never_raises_and_always_has_a_reason(
    dialled: str, user: str | None, caller: str, default_group: str | None
) -> None:
    decision = decide(CallRequest(dialled, user, caller, default_group), _POLICY)
    assert decision.reason
    assert decision.steps
    assert decision.number is not None or decision.treatment is Treatment.BLOCK
    if decision.emergency:
        assert decision.treatment is Treatment.ALLOW
    assert is_for_help(dialled, _POLICY) is decision.emergency
