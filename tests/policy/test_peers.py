"""The decision on a call of which the peer may not be known."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import (
    NO_DEFAULT_GROUP,
    CallRequest,
    CodeCollection,
    Snapshot,
    Treatment,
    User,
    UserGroup,
    decide,
    decide_through,
)
from tests.policy.support import US

SALES = UserGroup("sales", collection=CodeCollection.REQUIRED)
SNAPSHOT = Snapshot(US, [SALES, UserGroup("lobby")], [User("204", "sales", caller_number="+14155550104")])
ABROAD = "+442079460000"
STRANGER = CallRequest(ABROAD, caller="+14155550199")
BY_SALES = CallRequest(ABROAD, caller="+14155550199", default_group="sales")


@pytest.mark.parametrize(
    ("peers", "peer"),
    [
        ({"pbx": "sales"}, None),
        ({"pbx": "sales", "standby": "sales"}, None),
        ({"pbx": "sales", "branch": None}, "pbx"),
        ({"pbx": "sales", "branch": "lobby"}, "pbx"),
    ],
)
def test_the_default_group_counts_that_all_peers_share_or_the_named_one_has(
    peers: dict[str, str | None], peer: str | None
) -> None:
    assert decide_through(STRANGER, SNAPSHOT, peers, peer) == decide(BY_SALES, SNAPSHOT)
    assert decide(BY_SALES, SNAPSHOT).treatment is Treatment.REQUIRED_CODE


@pytest.mark.parametrize("peers", [{}, {"pbx": None}, {"pbx": None, "standby": None}])
def test_peers_without_default_groups_have_none(peers: dict[str, str | None]) -> None:
    assert NO_DEFAULT_GROUP in decide_through(STRANGER, SNAPSHOT, peers).steps


@pytest.mark.parametrize(
    ("peers", "shown"),
    [
        ({"pbx": "sales", "branch": None}, "pbx (sales), branch (none)"),
        (
            {"pbx": "sales", "standby": "sales", "branch": "lobby"},
            "pbx (sales), standby (sales), branch (lobby)",
        ),
    ],
)
def test_where_default_groups_differ_the_peer_has_to_be_named(
    peers: dict[str, str | None], shown: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        decide_through(STRANGER, SNAPSHOT, peers)
    assert str(refusal.value) == f"needed, as the default groups of the peers differ: {shown}"


@pytest.mark.parametrize(
    "request_",
    [
        BY_SALES,
        CallRequest(ABROAD, user="204"),
        CallRequest(ABROAD, caller="+14155550104"),
        CallRequest("911", caller="+14155550199"),
    ],
)
def test_where_the_peer_does_not_matter_nobody_has_to_name_it(request_: CallRequest) -> None:
    peers = {"pbx": "lobby", "branch": None}
    assert decide_through(request_, SNAPSHOT, peers) == decide(request_, SNAPSHOT)


@pytest.mark.parametrize(("peers", "there"), [({}, "none"), ({"pbx": None, "branch": None}, "pbx, branch")])
def test_a_peer_that_is_not_there_is_refused(peers: dict[str, str | None], there: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        decide_through(STRANGER, SNAPSHOT, peers, "nosuch")
    assert str(refusal.value) == f"no peer 'nosuch' in the settings; there are {there}"
