"""Single sign-on: who somebody is, as a provider of OpenID Connect says (Core 1.0, code flow with PKCE).

A log-in leaves here with `SingleSignOn.begin`, which gives the address at the provider and what the
browser's cookie holds, and comes back with `SingleSignOn.finish`. State, nonce and PKCE's verifier stay in
the portal's memory in between, and are good for one answer. What the provider says is believed for its
signature only, by the keys that its own address names.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from proxy.errors import TollgateError
from proxy.portal.second_factor import Waiting
from proxy.settings_portal import OidcSettings

__all__ = ["ANSWER_PATH", "SignOnFailed", "SignedOn", "SingleSignOn"]

ANSWER_PATH = "/login/oidc/answer"

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""Those with a public key: never ``none``, nor one whose key the provider would share with its clients."""
_KEY_TYPES = ("RSA", "EC", "OKP")
_LEEWAY = 60
"""Seconds that the two clocks may differ by."""
_PATIENCE = 10.0
_LARGEST = 256 * 1024
_KNOWN_FOR = 3_600.0
"""Seconds for which the provider's description is good."""
_KEYS_AGAIN = 60.0
"""Keys that are not known are asked for this often at most."""
_SILENT_FOR = 5.0
"""So long nobody else asks a provider that did not answer."""


class SignOnFailed(TollgateError):  # noqa: N818 - it says what is the case
    """Nobody is let in. ``key`` names the text for who tries; the message is for the log."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


@dataclass(frozen=True, slots=True)
class SignedOn:
    """Who has come back from the provider."""

    subject: str
    """What the provider never calls anybody else."""
    name: str
    """Of the portal account."""
    second_factor: bool
    """The provider has asked for one."""
    following: str
    """Page that was wanted."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    state: str
    nonce: str
    verifier: str
    following: str


@dataclass(frozen=True, slots=True)
class _Description:
    """What the provider says of itself (Discovery 1.0 §3)."""

    authorization: str
    token: str
    keys: str
    secret_in_body: bool
    names_issuer: bool
    """Its answers name it (RFC 9207)."""
    read_at: float


class SingleSignOn:
    """One provider. Belongs to one event loop."""

    def __init__(
        self,
        settings: OidcSettings,
        public_url: str,
        clock: Callable[[], float],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._back = public_url + ANSWER_PATH
        self._clock = clock
        self._tls = tls or ssl.create_default_context()
        self._attempts: Waiting[_Attempt] = Waiting()
        self._description: _Description | None = None
        self._keys: KeySet | None = None
        self._keys_read_at = float("-inf")
        self._failed_at = float("-inf")
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        """What the provider is called for people."""
        return self._settings.name

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return self._settings.issuer

    async def begin(self, following: str) -> tuple[str, str]:
        """Begin a log-in; returns the address to send the browser to, and what its cookie has to hold.

        Raises `SignOnFailed` when the provider does not answer.
        """
        described = await self._described()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = _Attempt(state, nonce, verifier, following)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=")
        asked = urlencode(
            {
                "response_type": "code",
                "client_id": self._settings.client_id,
                "redirect_uri": self._back,
                "scope": " ".join(dict.fromkeys(("openid", *self._settings.scopes))),
                "state": attempt.state,
                "nonce": attempt.nonce,
                "code_challenge": challenge.decode(),
                "code_challenge_method": "S256",
            }
        )
        token = secrets.token_urlsafe(32)
        self._attempts.put(token, attempt, now=self._clock())
        joint = "&" if urlsplit(described.authorization).query else "?"
        return f"{described.authorization}{joint}{asked}", token

    async def finish(self, token: str, answer: Mapping[str, str]) -> SignedOn:
        """Take the provider's answer from the browser that has this cookie. Raises `SignOnFailed`."""
        attempt = self._attempts.get(token, now=self._clock())
        if attempt is None or not hmac.compare_digest(
            answer.get("state", "").encode(), attempt.state.encode()
        ):
            raise SignOnFailed("sso.begin_again", "the answer is to no log-in of this browser")
        self._attempts.drop(token)
        described = await self._described()
        issuer = answer.get("iss", "" if described.names_issuer else self.issuer)
        if issuer != self.issuer:
            raise SignOnFailed("sso.failed", "the answer is another provider's (RFC 9207)")
        if error := answer.get("error", ""):
            raise SignOnFailed("sso.refused", f"the provider says {_printable(error)}")
        code = answer.get("code", "")
        if not 1 <= len(code) <= 4_096:
            raise SignOnFailed("sso.failed", "the answer holds no code")
        claims = await self._verified(await self._redeem(described, code, attempt), attempt.nonce)
        told = claims.get("amr")
        methods = {*told} if isinstance(told, list) and all(isinstance(one, str) for one in told) else set()
        factors = {*methods, str(claims.get("acr", ""))}
        return SignedOn(
            str(claims["sub"]),
            self._name(claims),
            not factors.isdisjoint(self._settings.second_factor),
            attempt.following,
        )

    async def _described(self) -> _Description:
        """What the provider says of itself, read now or in the last hour."""
        async with self._turn:
            now, known = self._clock(), self._description
            if known is not None and 0 <= now - known.read_at < _KNOWN_FOR:
                return known
            told = await self._ask("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if told.get("issuer") != self.issuer:
                raise SignOnFailed(
                    "sso.failed", "the provider calls itself otherwise than portal.oidc.issuer"
                )
            ways = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            self._description = _Description(
                self._endpoint(told, "authorization_endpoint"),
                self._endpoint(told, "token_endpoint"),
                self._endpoint(told, "jwks_uri"),
                isinstance(ways, list) and "client_secret_basic" not in ways,
                told.get("authorization_response_iss_parameter_supported") is True,
                now,
            )
            return self._description

    def _endpoint(self, told: Mapping[str, object], name: str) -> str:
        """An address that the provider names: never one without TLS when it has TLS itself."""
        url = told.get(name)
        if isinstance(url, str) and len(url) <= 2_000:
            parts = urlsplit(url)
            if parts.hostname and parts.scheme in {"https", urlsplit(self.issuer).scheme}:
                return url
        raise SignOnFailed("sso.failed", f"the provider's {name} is no address that is good")

    async def _redeem(self, described: _Description, code: str, attempt: _Attempt) -> str:
        """Change the code for an ID token (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        secret, client = self._settings.client_secret.get_secret_value(), self._settings.client_id
        if secret and not described.secret_in_body:
            # Both are encoded as in forms first (RFC 6749 §2.3.1).
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            fields |= {"client_id": client} | ({"client_secret": secret} if secret else {})
        told = await self._ask("POST", described.token, fields, headers)
        id_token = told.get("id_token")
        if not isinstance(id_token, str):
            raise SignOnFailed("sso.failed", "the provider gave no ID token")
        return id_token

    async def _verified(self, id_token: str, nonce: str) -> Mapping[str, object]:
        """The claims of an ID token, once all that Core 1.0 §3.1.3.7 asks for was looked at."""
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            token = jwt.decode(id_token, await self._keys_for(id_token), algorithms=list(_ALGORITHMS))
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignOnFailed("sso.failed", f"the ID token is not good: {_printable(str(error))}") from None
        claims: Mapping[str, object] = token.claims
        audience = claims["aud"]
        party = claims.get(
            "azp", None if isinstance(audience, list) and len(audience) > 1 else self._settings.client_id
        )
        if party != self._settings.client_id:
            raise SignOnFailed("sso.failed", "the ID token was made for another program (azp)")
        if not (isinstance(claims["sub"], str) and claims["sub"] and claims["sub"].isprintable()):
            raise SignOnFailed("sso.failed", "the ID token names nobody")
        return claims

    def _name(self, claims: Mapping[str, object]) -> str:
        claim = self._settings.claim
        name = claims.get(claim)
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise SignOnFailed("sso.no_account", f"the ID token has no name as its claim {claim}")
        if claim == "email" and claims.get("email_verified") is not True:
            raise SignOnFailed("sso.no_account", "the provider has not verified the e-mail address")
        return name.strip()

    async def _keys_for(self, id_token: str) -> KeySet:
        """The provider's keys; asked for again when none of them is the one that has signed."""
        wanted = jws.extract_compact(id_token.encode()).headers().get("kid")
        async with self._turn:
            now, known = self._clock(), self._keys
            has = known is not None and (wanted is None or any(key.kid == wanted for key in known.keys))
            if known is None or (not has and now - self._keys_read_at >= _KEYS_AGAIN):
                described = self._description
                told = (await self._ask("GET", described.keys)).get("keys") if described is not None else None
                known = _readable_keys(told)
                self._keys, self._keys_read_at = known, now
            return known

    async def _ask(
        self,
        method: str,
        url: str,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, object]:
        """Ask the provider for a JSON object. Raises `SignOnFailed`; nothing of what was sent is in it."""
        if 0 <= self._clock() - self._failed_at < _SILENT_FOR:
            raise SignOnFailed("sso.silent", "the provider did not answer a moment ago")
        body = b""
        try:
            async with (
                asyncio.timeout(_PATIENCE),
                httpx.AsyncClient(verify=self._tls, timeout=_PATIENCE, trust_env=False) as client,
                client.stream(
                    method, url, data=fields, headers={"accept": "application/json", **(headers or {})}
                ) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > _LARGEST:
                        raise SignOnFailed("sso.failed", f"{_host(url)} sends more than anybody needs")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            self._failed_at = self._clock()
            reason = str(error) or type(error).__name__
            raise SignOnFailed("sso.silent", f"{_host(url)} does not answer: {_printable(reason)}") from None
        if answer.status_code >= 500:
            self._failed_at = self._clock()
            raise SignOnFailed("sso.silent", f"{_host(url)} answers {answer.status_code}")
        if answer.status_code != 200:
            raise SignOnFailed("sso.failed", f"{_host(url)} answers {answer.status_code}{_told_error(body)}")
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise SignOnFailed("sso.failed", f"{_host(url)} answers with something else than JSON")
        return told


def _readable_keys(told: object) -> KeySet:
    """The keys that may sign an ID token; others are for others."""
    found = [
        key
        for key in (told if isinstance(told, list) else [])
        if isinstance(key, dict) and key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"
    ]
    try:
        return KeySet.import_key_set({"keys": found})
    except (JoseError, ValueError, TypeError, KeyError):
        raise SignOnFailed("sso.failed", "the provider's keys can't be read") from None


def _told_error(body: bytes) -> str:
    """What RFC 6749 §5.2 has a provider say."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = told.get("error") if isinstance(told, dict) else None
    return f" ({_printable(error)})" if isinstance(error, str) else ""


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]
