"""An OpenID Connect provider: where a browser is sent to, and what a code that it brings back stands for.

The code flow with PKCE, a state and a nonce. What the provider says is checked: its signature, issuer, audience, time
and nonce. The libraries are those of the extra `oidc`.
"""

import importlib.util
import json
import time
from collections.abc import Mapping
from typing import Any

import requests
from pydantic import ConfigDict, ValidationError

from pipelines.web.access import OpenId
from workers.errors import InputRefused, NotAllowed, StoreUnavailable
from workers.records import Record
from workers.secrets.vault import Vault
from workers.texts import cleaned

__all__ = ["Attempt", "Person", "Provider", "redirect_address"]

ANSWER = 10.0  #: seconds that the provider has to answer
FRESH = 600.0  #: seconds for which its configuration and keys are remembered
LEEWAY = 60  #: seconds that its clock may differ
_LARGEST = 1_000_000  #: bytes of an answer
_GROUPS = 500


class Attempt(Record):
    """One attempt to log on: what only this server and the browser that began it know."""

    verifier: str
    nonce: str
    browser: str  #: digest of the cookie of the browser


class Person(Record):
    """Who has logged on."""

    name: str
    groups: tuple[str, ...] = ()


class _Configuration(Record):
    """The part of a provider's configuration that is used."""

    model_config = ConfigDict(extra="ignore")

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


def redirect_address(url: str) -> str:
    """Where the provider sends browsers back to."""
    return f"{url.rstrip('/')}/logon/openid/back"


class Provider:
    """The provider of an access file.

    Args:
        access: how it is configured.
        url: the address of this server for browsers.
        vault: reveals our secret there.

    Raises:
        InputRefused: the libraries for it are not installed.
        SecretUnavailable: our secret cannot be read: who logs on would be the first to see it.
    """

    def __init__(self, access: OpenId, url: str, vault: Vault) -> None:
        if not all(importlib.util.find_spec(name) for name in ("authlib", "joserfc")):
            raise InputRefused(
                "OpenID Connect is not installed", remedy="install it: pip install 'esync-rollout[oidc]'"
            )
        vault.reveal(access.secret)
        self._access = access
        self._back = redirect_address(url)
        self._vault = vault
        self._known: tuple[float, _Configuration, Any] | None = None

    def address(self, state: str, attempt: Attempt) -> str:
        """Where a browser is sent to, to log on.

        Raises:
            StoreUnavailable: the provider does not answer.
        """
        configuration, _ = self._configuration()
        with self._session() as session:
            address, _ = session.create_authorization_url(
                configuration.authorization_endpoint, state=state, nonce=attempt.nonce, code_verifier=attempt.verifier
            )
        return str(address)

    def person(self, code: str, attempt: Attempt) -> Person:
        """Who the code stands for.

        Raises:
            NotAllowed: the code, or what the provider says, is not valid.
            StoreUnavailable: the provider does not answer.
        """
        from authlib.common.errors import AuthlibBaseError  # noqa: PLC0415 - of an extra
        from joserfc.errors import JoseError  # noqa: PLC0415

        configuration, keys = self._configuration()
        try:
            with self._session() as session:
                token = session.fetch_token(
                    configuration.token_endpoint, code=code, code_verifier=attempt.verifier, timeout=ANSWER
                )
            return self._person(self._claims(str(token["id_token"]), keys, attempt.nonce))
        except requests.RequestException as error:
            raise _silent(error) from None
        except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
            raise NotAllowed(f"the logon was not accepted: {type(error).__name__}", remedy="log on again") from None

    def _session(self) -> Any:  # noqa: ANN401 - the library has no types
        from authlib.integrations.requests_client import OAuth2Session  # noqa: PLC0415 - of an extra

        access = self._access
        return OAuth2Session(
            access.client_id,
            self._vault.reveal(access.secret).reveal(),
            scope=" ".join(access.scopes),
            redirect_uri=self._back,
            code_challenge_method="S256",
        )

    def _claims(self, text: str, keys: Any, nonce: str) -> Mapping[str, Any]:  # noqa: ANN401 - keys of the library
        from joserfc import jwt  # noqa: PLC0415 - of an extra

        token = jwt.decode(text, keys, algorithms=["RS256", "RS384", "RS512", "PS256", "ES256", "ES384"])
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self._access.issuer},
            aud={"essential": True, "value": self._access.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(token.claims)
        return token.claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name = claims.get(self._access.user_claim)
        if not isinstance(name, str) or not name.strip():
            raise ValueError("no name")
        if self._access.user_claim == "email" and claims.get("email_verified") is False:
            raise ValueError("not verified")
        groups = claims.get(self._access.groups_claim)
        known = [one for one in groups if isinstance(one, str)] if isinstance(groups, list) else []
        return Person(name=cleaned(name.strip(), 80), groups=tuple(known[:_GROUPS]))

    def _configuration(self) -> tuple[_Configuration, Any]:
        """The provider's configuration and its keys."""
        from joserfc.jwk import KeySet  # noqa: PLC0415 - of an extra

        if self._known is None or time.monotonic() - self._known[0] > FRESH:
            issuer = self._access.issuer
            try:
                found = _Configuration.model_validate(
                    _fetched(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                )
                if found.issuer != issuer:
                    raise InputRefused(
                        f"the provider at {issuer} calls itself {cleaned(found.issuer, 200)}",
                        remedy="correct `openid.issuer` in the access file",
                    )
                self._known = time.monotonic(), found, KeySet.import_key_set(_fetched(found.jwks_uri))
            except requests.RequestException as error:
                raise _silent(error) from None
            except (ValidationError, ValueError):
                raise StoreUnavailable(f"the answer of the provider at {issuer} is not OpenID Connect") from None
        return self._known[1], self._known[2]


def _fetched(url: str) -> Any:  # noqa: ANN401 - JSON
    """A JSON document of the provider.

    Raises:
        ValueError: it is very large, or no JSON.
    """
    with requests.get(url, timeout=ANSWER, allow_redirects=False, stream=True) as answer:
        answer.raise_for_status()
        text = answer.raw.read(_LARGEST + 1, decode_content=True)
    if len(text) > _LARGEST:
        raise ValueError("too large")
    return json.loads(text)


def _silent(error: requests.RequestException) -> StoreUnavailable:
    return StoreUnavailable(
        f"the OpenID Connect provider does not answer: {type(error).__name__}", remedy="try again, or use a token"
    )
