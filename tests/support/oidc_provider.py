"""A provider of OpenID Connect over real HTTP, with real RSA keys, which can be told to lie.

It signs by the ``cryptography`` package alone, and holds clients to what RFC 6749 and RFC 7636 want of them:
a code is good once, for the client, the address and the verifier that it was asked for with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.http_server import HttpServer

__all__ = ["CLIENT", "SECRET", "OidcProvider", "new_key"]

CLIENT, SECRET = "tollgate portal", "s3cret:with/signs"

_Fields = Mapping[str, str]
_Answer = tuple[int, dict[str, str], bytes]


def encoded(data: bytes) -> str:
    """Base64url as RFC 7515 §2 has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def new_key(_name: str) -> rsa.RSAPrivateKey:
    """A key of this name: making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


class OidcProvider(HttpServer):
    """One provider; a context manager. What it shall do wrong is set from outside."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.key, self.kid = new_key("first"), "first"
        self.claims: dict[str, object] = {"sub": "u-1", "preferred_username": "phone_manager"}
        """Of whoever logs in."""
        self.instead: dict[str, object] = {}
        """Claims that are not what they should be; None leaves one out."""
        self.described: dict[str, object] = {}
        """What it says of itself otherwise."""
        self.sign: Callable[[OidcProvider, Mapping[str, object]], str] = OidcProvider.signed
        self.refuses = ""
        """The error that it sends people back with."""
        self.keys: object = None
        """What it tells as its keys instead."""
        self.status, self.body = 200, b""
        """Of answers that are to be broken."""
        self.asked: list[str] = []
        """Paths, in the order of the requests."""
        self._codes: dict[str, _Fields] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(owner._get(self.path))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                self._answer(owner._token(dict(parse_qsl(form)), self.headers.get("authorization", "")))

            def _answer(self, answer: _Answer) -> None:
                status, headers, body = answer
                owner.asked.append(urlsplit(self.path).path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parameter's name
                pass

        super().__init__(Handler)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def change_keys(self, kid: str) -> None:
        self.key, self.kid = new_key(kid), kid

    def signed(self, claims: Mapping[str, object], header: Mapping[str, object] | None = None) -> str:
        """An ID token with an RS256 signature."""
        head = {"alg": "RS256", "kid": self.kid, **(header or {})}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        return f"{text}.{encoded(self.key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"

    def unsigned(self, claims: Mapping[str, object]) -> str:
        """An ID token that says it needs no signature (RFC 8725 §2.1)."""
        return ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + "."

    def signed_with_public_key(self, claims: Mapping[str, object]) -> str:
        """An ID token whose HMAC has the key that everybody can read (RFC 8725 §2.1)."""
        header = {"alg": "HS256", "kid": self.kid}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        key = json.dumps(self._public_key()).encode()
        return f"{text}.{encoded(hmac.digest(key, text.encode(), hashlib.sha256))}"

    def _public_key(self) -> dict[str, object]:
        numbers = self.key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "n": encoded(numbers.n.to_bytes(256, "big")),
            "e": encoded(numbers.e.to_bytes(3, "big")),
        }

    def _get(self, path: str) -> _Answer:
        parts = urlsplit(path)
        if parts.path == "/authorize":
            return self._authorize(dict(parse_qsl(parts.query)))
        if parts.path == "/keys":
            # Keys of kinds that nobody knows are no reason to fail (RFC 7517 §5).
            known = [{"kty": "moon"}, {"kty": "oct", "k": "AA"}, self._public_key()]
            return self._json({"keys": known if self.keys is None else self.keys})
        return self._json(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "authorization_response_iss_parameter_supported": True,
                **self.described,
            }
        )

    def _authorize(self, asked: _Fields) -> _Answer:
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        told = {"state": asked["state"], "iss": self.issuer}
        if self.refuses:
            told["error"] = self.refuses
        else:
            told["code"] = secrets.token_urlsafe()
            self._codes[told["code"]] = asked
        return 302, {"location": f"{asked['redirect_uri']}?{urlencode(told)}"}, b""

    def _token(self, given: _Fields, authorization: str) -> _Answer:
        asked = self._codes.pop(given.get("code", ""), None)
        if asked is None or given["grant_type"] != "authorization_code":
            return self._json({"error": "invalid_grant"}, 400)
        challenge = encoded(hashlib.sha256(given["code_verifier"].encode()).digest())
        if (given["redirect_uri"], challenge) != (asked["redirect_uri"], asked["code_challenge"]):
            return self._json({"error": "invalid_grant"}, 400)
        pair = f"{quote(CLIENT, safe='')}:{quote(SECRET, safe='')}"
        by_header = authorization == "Basic " + base64.b64encode(pair.encode()).decode()
        by_body = (given.get("client_id"), given.get("client_secret")) == (CLIENT, SECRET)
        if not by_header and not by_body:
            return self._json({"error": "invalid_client"}, 401)
        now = int(self._clock())
        told = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {
            name: value for name, value in (told | self.claims | self.instead).items() if value is not None
        }
        return self._json({"access_token": "a", "token_type": "Bearer", "id_token": self.sign(self, claims)})

    def _json(self, told: object, status: int = 200) -> _Answer:
        body = self.body or json.dumps(told).encode()
        return self.status if status == 200 else status, {"content-type": "application/json"}, body
