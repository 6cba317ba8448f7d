"""Digest authentication of phones at the call (RFC 7616, RFC 8760, RFC 3261 §22.1).

The arithmetic, nonces and replay protection are `proxy.sip.digest_server`; here is who the users are. To a
stranger an unknown user, a disabled one and a wrong password are one and the same challenge. Help
alone is called with the password of a disabled user, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy.call.identity import Challenge
from proxy.call.password_guard import BanRules, Heed, PasswordGuard
from proxy.policy import CallRequest, DigestCredential, Snapshot, User, decide
from proxy.sip.bindings import Bindings
from proxy.sip.digest import Algorithm, Credentials, Ha1, find_credentials
from proxy.sip.digest_server import DigestServer, Verdict
from proxy.sip.flow import Flow
from proxy.sip.message import Request

__all__ = ["DigestAuthenticator"]


class DigestAuthenticator:
    """Proves users by their HA1s in the policy. ``salts`` gives a fresh token for each nonce."""

    __slots__ = ("_decoy", "_guard", "_salts", "_server", "bindings")

    def __init__(self, server: DigestServer, salts: Callable[[], str], rules: BanRules | None = None) -> None:
        self._server = server
        self._salts = salts
        self._guard = PasswordGuard(rules or BanRules())
        self.bindings: Callable[[str], Bindings] = lambda _extension: ()
        """The live ones of a user: over their flows it is heard although others have guessed beside it."""
        credentials = tuple(
            DigestCredential(algorithm.value, server.realm, algorithm.hash("")) for algorithm in Algorithm
        )
        self._decoy = User("0", "nobody", credentials=credentials)
        """Looked at in place of users that don't exist; never accepted."""

    def authenticate(self, invite: Request, flow: Flow, policy: Snapshot, now: float) -> User | Challenge:
        """Return the user whom the credentials prove, or the challenge that goes out instead; one without
        headers to who has guessed too often. Of those a few more are looked at if they call for help.
        """
        server, guard = self._server, self._guard
        credentials = find_credentials(invite.headers.get_all("Authorization"), server.realm)
        if credentials is None:
            return self._challenge(flow, now)
        name, genuine = credentials.username, server.was_given(credentials.nonce, flow.remote_host)
        user = policy.user_by_digest_name(name)
        own = user is not None and _is_flow_of(self.bindings(user.extension), flow)
        heed = guard.heed(flow, name, genuine=genuine, own=own, now=now)
        if heed is Heed.CHALLENGE:
            return self._challenge(flow, now)
        banned = heed is Heed.REFUSE
        if banned and not (_is_for_help(invite, policy) and guard.spares(flow, name, own=own, now=now)):
            return Challenge(())
        verdict = server.verify(
            credentials,
            method=invite.method,
            uri=invite.uri,
            ha1s=self._ha1s(user, credentials),
            source=flow.remote_host,
            now=now,
        )
        if verdict is Verdict.ACCEPTED and user is not None:
            if user.enabled:
                return user
            if _is_for_help(invite, policy):
                return replace(self._challenge(flow, now), known=user)
        elif verdict is Verdict.STALE and user is not None and user.enabled and not banned:
            return self._challenge(flow, now, stale=True)
        # Under a ban an old nonce tells nothing: else a call for help that is never placed would.
        guard.wrong(flow, name, invite.method, genuine=genuine, own=own, now=now)
        return self._challenge(flow, now)

    def _challenge(self, flow: Flow, now: float, *, stale: bool = False) -> Challenge:
        challenges = self._server.challenges(
            source=flow.remote_host, salt=self._salts(), now=now, stale=stale
        )
        return Challenge(tuple(("WWW-Authenticate", challenge) for challenge in challenges))

    def _ha1s(self, user: User | None, credentials: Credentials) -> list[Ha1]:
        # The same work for everybody: time must not tell whether there is such a user.
        looked_at = self._decoy if user is None else user
        found = [
            Ha1(algorithm, stored.ha1)
            for algorithm in Algorithm
            if (stored := looked_at.credential(algorithm.value, credentials.realm)) is not None
        ]
        return [] if user is None else found


def _is_flow_of(bindings: Bindings, flow: Flow) -> bool:
    """Say whether one of them was registered over this flow: this address and port, or this connection."""
    way = (*flow[:3], flow.connection)
    return any((*one.source[:3], one.source.connection) == way for one in bindings)


def _is_for_help(request: Request, policy: Snapshot) -> bool:
    """Say whether an emergency number is called."""
    return request.method == "INVITE" and decide(CallRequest(request.uri), policy).emergency
