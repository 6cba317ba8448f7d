"""What the INVITE of a B leg says: to whom, from whom, and what crosses from the caller's.

RFC 3261 §8.1.1 (From, To, Request-URI), RFC 3323 and RFC 3325 (who calls, and who may know), RFC 5621 (bodies
of several parts).
"""

from __future__ import annotations

from proxy.call.config import CallerIdPolicy, IdentityHeader, PrivacyPolicy, Trunk
from proxy.call.headers import quote_display_name, wants_anonymity
from proxy.call.routing import Hop, Route
from proxy.policy import format_for_trunk
from proxy.sip.bindings import Binding
from proxy.sip.body import with_description
from proxy.sip.headers import canonical_name
from proxy.sip.message import Request
from proxy.sip.spec import InviteSpec
from proxy.sip.uri import format_host

__all__ = ["contact_invite", "invite_spec", "max_forwards"]

_ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'

_OTHERS_WORD = frozenset({"Remote-Party-ID", "Identity", "Identity-Info"})
"""Who calls in the words of others, which the gate's own statement replaces: some carriers believe the first
of these above all else, and the others sign a From that does not go out."""

_IDENTITY_NAMES = {
    IdentityHeader.ASSERTED: "P-Asserted-Identity",
    IdentityHeader.PREFERRED: "P-Preferred-Identity",
}


def invite_spec(route: Route, hop: Hop, invite: Request, description: bytes) -> InviteSpec:
    """Write the B leg's INVITE for one hop."""
    trunk = hop.trunk
    number = route.decision.number
    user = route.user
    if not user and number is not None:
        user = format_for_trunk(number, trunk.number_format).replace("#", "%23")
    uri = _uri(user, trunk.host, trunk)
    caller_number = _caller_number(route, trunk)
    from_number = caller_number or route.caller.claimed
    caller_uri = _uri(from_number, trunk.from_host or trunk.host, trunk)
    crossing = route.crossing(trunk)
    keeps_asserted = (
        crossing.trusted
        and trunk.caller_id is CallerIdPolicy.PASS
        and trunk.identity_header is IdentityHeader.ASSERTED
        and "P-Asserted-Identity" not in crossing.dropped
    )
    headers = crossing.headers(invite.headers, without="" if keeps_asserted else "P-Asserted-Identity")
    if trunk.caller_id is not CallerIdPolicy.PASS:
        headers = [header for header in headers if canonical_name(header[0]) not in _OTHERS_WORD]
    name = _IDENTITY_NAMES.get(trunk.identity_header, "")
    if (
        trunk.trusted
        and caller_number
        and name
        and name not in crossing.dropped
        and not (keeps_asserted and "P-Asserted-Identity" in invite.headers)
    ):
        headers.append((name, f"<{caller_uri}>"))
    content_type, body = with_description(invite, description, crossing.parts)
    return InviteSpec(
        uri=uri,
        from_=_from(route, invite, from_number, caller_uri, trunk.privacy),
        to=f"<{uri}>",
        flow=hop.flow,
        body=body,
        content_type=content_type,
        headers=tuple(headers),
        # Only an emergency call comes this far at 0; it gets one more hop, which ends a loop all the same.
        max_forwards=(max_forwards(invite) or 2) - 1,
        # Carriers that know the gate by its registration look for it here.
        contact_user=trunk.account.user if trunk.register and trunk.account is not None else "",
        large=trunk.large_requests,
        urgent=route.emergency,
    )


def contact_invite(
    route: Route, line: Trunk, binding: Binding, invite: Request, description: bytes, *, host: str
) -> InviteSpec:
    """Write the INVITE to one contact of a user; ``host`` is the gate as that phone knows it."""
    caller = route.caller
    user = route.decision.user
    number = caller.number or ("" if user is None else user.extension)
    crossing = route.crossing(line)
    content_type, body = with_description(invite, description, crossing.parts)
    return InviteSpec(
        uri=binding.contact,
        from_=_from(route, invite, number, f"sip:{number}@{format_host(host)}", PrivacyPolicy.ANONYMOUS),
        to=f"<sip:{route.callee}@{format_host(host)}>",
        flow=binding.flow,
        body=body,
        content_type=content_type,
        headers=tuple(crossing.headers(invite.headers)),
        route=binding.path,
        max_forwards=max_forwards(invite) - 1,
        large=line.large_requests,
    )


def _from(route: Route, invite: Request, number: str, uri: str, privacy: PrivacyPolicy) -> str:
    """Return From; anonymous where the caller wants that or nobody knows who it is.

    Who calls for help is named whatever the caller's phone is set to: help has to find the way back.
    """
    hidden = (
        privacy is PrivacyPolicy.ANONYMOUS
        and not route.emergency
        and wants_anonymity(invite.headers.get_all("Privacy"))
    )
    if hidden or not number:
        return _ANONYMOUS
    name = f"{quote_display_name(route.caller.name)} " if route.caller.name else ""
    return f"{name}<{uri}>"


def _uri(user: str, host: str, trunk: Trunk) -> str:
    parameters = ";user=phone" if trunk.user_phone and _is_telephone_number(user) else ""
    return f"sip:{user}@{format_host(host)}{parameters}"


def _is_telephone_number(user: str) -> bool:
    """Say whether a user part is a number in the sense of RFC 3966, which ``user=phone`` claims."""
    digits = user.removeprefix("+").replace("%23", "#")
    return bool(digits) and not digits.strip("0123456789*#")


def _caller_number(route: Route, trunk: Trunk) -> str:
    if trunk.caller_id is CallerIdPolicy.FIXED:
        return trunk.fixed_caller_number
    user = route.decision.user
    if user is not None and (trunk.caller_id is CallerIdPolicy.USER or not route.caller.number):
        return user.outside_number
    return route.caller.number


def max_forwards(invite: Request) -> int:
    """Return Max-Forwards as received; 70 when there is none (RFC 3261 §16.3 step 3, §8.1.1.6)."""
    value = invite.headers.get("Max-Forwards")
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 3 else 70
