"""The decision on a call that nobody has placed yet: through which peer it comes may not be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proxy.errors import ConfigurationError
from proxy.policy.decision import NO_DEFAULT_GROUP, CallRequest, Decision, decide
from proxy.policy.snapshot import Snapshot

__all__ = ["decide_through"]


def decide_through(
    request: CallRequest, snapshot: Snapshot, peers: Mapping[str, str | None], peer: str | None = None
) -> Decision:
    """Return the decision on a call through the ``peer`` that is named, else any of the ``peers``, which are
    given with their default groups. A default group that the request has counts instead.

    Raises ConfigurationError if there is no such peer, or if it depends on which one it is.
    """
    if peer is not None and peer not in peers:
        message = f"no peer {peer!r} in the settings; there are {', '.join(peers) or 'none'}"
        raise ConfigurationError(message)
    groups = {*peers.values()} if peer is None else {peers[peer]}
    if request.default_group is None and len(groups) == 1:
        request = replace(request, default_group=groups.pop())
    found = decide(request, snapshot)
    if NO_DEFAULT_GROUP in found.steps and len(groups) > 1:
        shown = ", ".join(f"{name} ({group or 'none'})" for name, group in peers.items())
        message = f"needed, as the default groups of the peers differ: {shown}"
        raise ConfigurationError(message)
    return found
