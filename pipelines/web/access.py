"""The access file of `esync serve`: under which names it is reached, and whom it believes besides tokens.

Without a file only tokens open anything, and only loopback names are answered.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.usecases.tokens import Grant
from workers.errors import InputRefused
from workers.host.reading import content_of
from workers.records import Record
from workers.texts import cleaned

__all__ = ["Access", "OpenId", "Proxy", "Rule", "load_access"]

_MOST = 1_000_000  #: bytes of an access file


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(text)) for text in texts)


class Rule(Grant):
    """Who has a role: a user by name, or everyone of a group. The first rule that fits counts."""

    user: str = ""
    group: str = ""


class Proxy(Record):
    """A proxy before this server. It has to remove these headers from the requests of its own clients.

    Attributes:
        addresses: of the proxy, as networks; from every other address its headers are ignored.
        user_header: has the name of the user whom the proxy has logged on; empty if it logs no one on. A request
            that has it more than once names no user.
        groups_header: has the groups, separated by commas; empty for none. As `user_header`.
        address_header: has the address of the client, the last one if there are several; empty for none.
    """

    addresses: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_networks)]
    user_header: str = ""
    groups_header: str = ""
    address_header: str = ""


class OpenId(Record):
    """An OpenID Connect provider.

    Attributes:
        issuer: its URL, under which it publishes its configuration.
        client_id: ours, there.
        secret: a reference (`env:NAME`, `file:PATH`) to ours.
        user_claim: the claim with the name of the user.
        groups_claim: the claim with the groups.
        scopes: asked for.
        button: what the page calls it.
    """

    issuer: str
    client_id: str
    secret: str
    user_claim: str = "email"
    groups_claim: str = "groups"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    button: str = "single sign-on"


class Access(Record):
    """What `esync serve` accepts.

    Attributes:
        hosts: names under which it is reached, without port.
        https: whether browsers reach it by HTTPS, through a proxy: cookies are then for HTTPS only.
        url: the address that browsers use; needed for OpenID Connect.
        proxy: see there.
        openid: see there.
        logons: wrong tokens and failed logons of one address in a minute; as many may be begun at the provider.
        starts: requests for runs of one caller in a minute.
        streams: streams of events that one caller may have open at the same time, at each server.
        rules: who of the users of the proxy and of the provider has which role; everyone else is refused.
    """

    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    https: bool = False
    url: str = ""
    proxy: Proxy | None = None
    openid: OpenId | None = None
    logons: Annotated[int, Field(ge=1, le=100_000)] = 20
    starts: Annotated[int, Field(ge=1, le=100_000)] = 30
    streams: Annotated[int, Field(ge=1, le=100_000)] = 300
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.openid and not self.url.startswith(("https://", "http://localhost:", "http://127.0.0.1:")):
            raise ValueError("openid needs `url`, the address of this server for browsers, with https://")
        return self

    def grant(self, user: str, groups: frozenset[str]) -> Grant | None:
        """What a user whom the proxy or the provider has named may do; None for nothing."""
        for rule in self.rules:
            if (rule.user and rule.user == user) or (rule.group and rule.group in groups):
                return Grant(role=rule.role, clusters=rule.clusters)
        return None


def load_access(path: Path) -> Access:
    """Reads an access file (YAML).

    Raises:
        InputRefused: it cannot be read, or has mistakes; the message names the first.
    """
    try:
        data = YAML(typ="safe").load(content_of(path, _MOST, "access file").decode())
        return Access.model_validate(data or {})
    except (YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        # Without the value of a key that is there twice: it may be secret.
        what = cleaned(str(getattr(error, "problem", "")).partition(" with value")[0], 200)
        where = f" in line {place.line + 1}: {what}" if place else ""
        raise InputRefused(
            f"not YAML in UTF-8{where}", remedy="docs/api.md describes the access file", file=str(path)
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputRefused(
            f"{place}: {first['msg']}", remedy="docs/api.md describes the access file", file=str(path)
        ) from None
