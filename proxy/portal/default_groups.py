"""Which peers have a group for their callers that match no user: without it these are refused."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.errors import ConfigurationError
from proxy.portal.portal import Portal
from proxy.settings import Settings

__all__ = ["default_groups_of", "refuse_default_group"]

_PHONES = "phones"


def default_groups_of(settings: Settings) -> dict[str, str]:
    """Return what the settings say: by the name of a peer, and of ``phones``."""
    named = [(peer.name, peer.default_group) for peer in settings.peers]
    if settings.phones.enabled:
        named.append((_PHONES, settings.phones.default_group))
    return {name: group for name, group in named if group is not None}


def refuse_default_group(portal: Portal, name: str) -> None:
    """Raise `ConfigurationError` for a group that callers of a peer belong to. Blocks for a second."""
    used = sorted(peer for peer, group in _default_groups(portal).items() if group == name)
    if used:
        message = f"group {name!r} can't be deleted: it is the default_group of {', '.join(used)}"
        raise ConfigurationError(message)


def _default_groups(portal: Portal) -> Mapping[str, object]:
    """The groups by peer: as the gate has them now, else as the settings had them at the portal's start."""
    peers = portal.gate.state().facts.get("peers")
    if not isinstance(peers, list):
        return portal.default_groups
    of_phones = {_PHONES: portal.default_groups.get(_PHONES)}
    told = {str(peer.get("name")): peer.get("default_group") for peer in peers if isinstance(peer, dict)}
    return of_phones | told
