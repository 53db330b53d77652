"""Who may ask for what over the network: roles, and tokens that carry one. A token's secret is stored as a digest only.

A token is `esync-ID-SECRET`: the id finds it in the store, the secret has 256 random bits. No slow hash is needed for
such a secret, and it is compared in constant time.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from pipelines.engine import Engine
from pipelines.usecases.origin import OneLine, user
from workers.errors import InputRefused, Misused
from workers.records import Record, now
from workers.settings import Secret
from workers.texts import cleaned

__all__ = [
    "EVERY_CLUSTER",
    "Grant",
    "Role",
    "Token",
    "TokenRow",
    "clusters_of",
    "create_token",
    "holder",
    "lifetime",
    "listed_tokens",
    "revoke_token",
    "token_by_id",
    "token_of",
]

EVERY_CLUSTER = "*"
_CLUSTERS = r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$"
NAMED = "1 to 64 letters, digits, '.', '_' or '-', no pattern"  #: how a cluster is called
LONGEST = timedelta(days=731)  #: a token that is forgotten ends by itself
_KIND, _USED = "token", "token-used"
_TOKEN = re.compile(r"esync-(?P<id>[0-9a-f]{12})-[0-9a-f]{64}", re.ASCII)
_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_USE_NOTED_EVERY = timedelta(minutes=1)


class Role(StrEnum):
    """What a caller may do; each role includes those before it."""

    VIEWER = "viewer"  #: looks at clusters, runs and reports
    OPERATOR = "operator"  #: starts runs, pauses, resumes, promotes and cancels them
    APPROVER = "approver"  #: approves the plans of others, and answers questions about a cluster
    ADMIN = "admin"  #: creates, lists and revokes tokens

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other one may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class Grant(Record):
    """A role, and the clusters for which it counts: their names as in their files, or `*` for all."""

    role: Role
    clusters: Annotated[tuple[Annotated[str, Field(pattern=_CLUSTERS)], ...], Field(min_length=1, max_length=200)] = (
        EVERY_CLUSTER,
    )

    def covers(self, cluster: str) -> bool:
        """Whether it counts for that cluster."""
        return EVERY_CLUSTER in self.clusters or cluster in self.clusters


class Token(Grant):
    """A token as it is stored. `digest` is SHA-256, hex, of the whole text that the holder presents."""

    id: str
    name: OneLine  #: the person or program that holds it
    digest: str
    created: AwareDatetime
    expires: AwareDatetime
    by: OneLine  #: who created it


class TokenRow(Grant):
    """A token in a list, without anything secret. `used` is exact to a minute; null before the first use."""

    id: str
    name: str
    created: AwareDatetime
    expires: AwareDatetime
    used: AwareDatetime | None
    by: str


def create_token(engine: Engine, name: str, grant: Grant, expires: timedelta, by: str = "") -> tuple[Token, Secret]:
    """Creates a token; its text is returned here and never again.

    Args:
        engine: where.
        name: the person or program that will hold it: runs are recorded under this name.
        grant: what it may do, and where.
        expires: how long it counts.
        by: who creates it; this user when empty.

    Raises:
        Misused: the name is empty or too long, or the time is not from a minute to two years.
    """
    name = holder(name)
    if not timedelta(minutes=1) <= expires <= LONGEST:
        raise Misused("a token counts for a minute at least, and two years at most", remedy="for example: 90d")
    token_id = secrets.token_hex(6)
    text = f"esync-{token_id}-{secrets.token_hex(32)}"
    made = now()
    token = Token(
        id=token_id,
        name=name,
        digest=_digest(text),
        created=made,
        expires=made + expires,
        by=by or user(),
        **grant.model_dump(),
    )
    engine.store.keep(_KIND, token_id, token.to_json())
    return token, Secret(text)


def token_of(engine: Engine, text: str) -> Token | None:
    """The token with that text; None when there is none, or it has expired or was revoked. Notes its use.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    match = _TOKEN.fullmatch(text)
    token = token_by_id(engine, match["id"]) if match else None
    if token is None or not hmac.compare_digest(token.digest, _digest(text)):
        return None
    _note_use(engine, token)
    return token


def token_by_id(engine: Engine, token_id: str) -> Token | None:
    """The token of that id, unless it has expired or was revoked."""
    token = _read(engine.store.kept(_KIND, token_id))
    return token if token and token.id == token_id and now() < token.expires else None


def listed_tokens(engine: Engine) -> tuple[TokenRow, ...]:
    """All tokens, the newest first, also expired ones."""
    used = engine.store.all_kept(_USED)
    found = filter(None, map(_read, engine.store.all_kept(_KIND).values()))
    rows = [TokenRow(**token.model_dump(exclude={"digest"}), used=_moment(used.get(token.id, ""))) for token in found]
    return tuple(sorted(rows, key=lambda row: row.created, reverse=True))


def revoke_token(engine: Engine, token_id: str) -> None:
    """Removes a token: from now on it opens nothing, and the sessions that were begun with it end.

    Raises:
        InputRefused: there is no such token.
    """
    if not engine.store.kept(_KIND, token_id):
        raise InputRefused(f"there is no token {cleaned(token_id, 40)!r}", remedy="list them: esync token list")
    engine.store.keep(_KIND, token_id, "")
    engine.store.keep(_USED, token_id, "")


def holder(name: str) -> str:
    """The name of who holds a token, as it is recorded.

    Raises:
        Misused: it is empty or too long.
    """
    known = cleaned(name).strip()
    if not 1 <= len(known) <= 80:  # noqa: PLR2004 - said in the message
        raise Misused("the name of a token has 1 to 80 characters", remedy="name the person or program")
    return known


def clusters_of(names: Sequence[str]) -> tuple[str, ...]:
    """The clusters that a token is to count for.

    Raises:
        Misused: one of them is no name of a cluster: the token would open nothing.
    """
    for name in names:
        if not re.fullmatch(_CLUSTERS, name):
            raise Misused(f"{cleaned(name, 64)!r} is not the name of a cluster", remedy=f"write its own name: {NAMED}")
    return tuple(names)


def lifetime(text: str) -> timedelta:
    """The time that a text such as `90d`, `12h` or `30m` means.

    Raises:
        Misused: it means none.
    """
    match = _LIFETIME.fullmatch(text.strip())
    if match is None:
        raise Misused(f"{cleaned(text, 40)!r} is not a time", remedy="write a number and d, h or m: 90d")
    found = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if found > LONGEST:
        raise Misused("a token counts for two years at most", remedy="for example: 90d")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(text: str) -> Token | None:
    with suppress(ValidationError):
        return Token.model_validate_json(text)
    return None


def _note_use(engine: Engine, token: Token) -> None:
    before = _moment(engine.store.kept(_USED, token.id))
    if before is None or now() - before > _USE_NOTED_EVERY:
        engine.store.keep(_USED, token.id, now().isoformat())


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
