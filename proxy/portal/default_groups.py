"""Which peers have a group for their callers that match no user: without it these are refused."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.portal.portal import Portal
from proxy.settings import ALL_PHONES

__all__ = ["default_groups", "default_groups_of_pbxs"]


def default_groups(portal: Portal) -> Mapping[str, str | None]:
    """The groups by peer: as the gate has them now, else as the settings had them at the portal's start.

    Blocks for a second.
    """
    peers = portal.gate.state().facts.get("peers")
    if not isinstance(peers, list):
        return portal.default_groups
    of_phones = {ALL_PHONES: portal.default_groups.get(ALL_PHONES)}
    told = {str(peer.get("name")): peer.get("default_group") for peer in peers if isinstance(peer, dict)}
    return of_phones | told


def default_groups_of_pbxs(portal: Portal) -> Mapping[str, str | None]:
    """The same without that of phones: these say themselves who calls. Blocks for a second."""
    return {name: group for name, group in default_groups(portal).items() if name != ALL_PHONES}
