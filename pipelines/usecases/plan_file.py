"""A plan as a file: what was seen, what would be done, and on what cluster. Holds no secret, only references."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from pipelines.run.plan import Plan
from tasks.cluster import Cluster
from tasks.ektron.facts import NodeFacts
from workers.errors import InputRefused
from workers.host.reading import content_of
from workers.records import Record, now
from workers.secrets.vault import Vault
from workers.store.chain import digest_of

__all__ = ["SavedPlan", "is_plan", "load_plan"]

VERSION: Literal[2] = 2
LIMIT = 64 * 2**20  #: bytes; a thousand nodes need some ten megabytes
VALUES = 6_000_000  #: values it may hold; a node needs about a thousand
_MARK = re.compile(rb'"esync_plan"\s*:')
_AGAIN = "make a new plan"


class SavedPlan(Record):
    """What `esync plan -o` writes and `esync rollout` applies (docs/plan-schema.json).

    Attributes:
        run: the run that made the plan.
        spec: the cluster as the plan knows it; that is what the plan is applied to.
        fingerprint: of `plan`.
        facts: what the plan was made from, so that a later run can say what has changed since.
        mac: over what stands before it, under the seal key, so that nobody without that key can make another one fit;
            empty where there is no key.
        digest: SHA-256 over everything else in this document: whatever was edited, it tells.
    """

    esync_plan: Literal[2] = VERSION
    made: AwareDatetime = Field(default_factory=now)
    run: str
    spec: Cluster
    plan: Plan
    fingerprint: str
    facts: dict[str, NodeFacts]
    mac: str = ""
    digest: str = ""

    def sealed(self, vault: Vault) -> "SavedPlan":
        """With the code and the digest of everything it says."""
        coded = self.model_copy(update={"mac": vault.mac(self._content()) if vault.can_seal else ""})
        return coded.model_copy(update={"digest": _digest(json.loads(coded.model_dump_json()))})

    def _content(self) -> str:
        """What the code is over."""
        return _digest(json.loads(self.model_copy(update={"mac": ""}).model_dump_json()))

    def require_made_by(self, vault: Vault) -> None:
        """Whoever has the seal key takes only plans that were made with it.

        Raises:
            InputRefused: it was made without the key or with another one, or changed by somebody who has none.
        """
        if vault.can_seal and not vault.is_mac(self._content(), self.mac):
            raise InputRefused(
                "the plan was not made with the seal key that is set here, or it was changed after it was made",
                remedy="make a new plan here, or set the ESYNC_SEAL_KEY it was made with",
            )


def is_plan(path: Path) -> bool:
    """Whether a file looks like a saved plan rather than a cluster file; one that cannot be read does not."""
    try:
        content = content_of(path, LIMIT, "file")
    except InputRefused:
        return False
    return content.lstrip().startswith(b"{") and _MARK.search(content) is not None


def load_plan(path: Path) -> SavedPlan:
    """Reads a saved plan.

    Raises:
        InputRefused: it is none, it is damaged, of another version, or somebody edited it.
    """
    try:
        return _understood(content_of(path, LIMIT, "plan"))
    except InputRefused as refused:
        refused.file = str(path)
        raise


def _understood(content: bytes) -> SavedPlan:
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > VALUES:
        raise InputRefused("the plan holds more than any plan does", remedy=_AGAIN)
    try:
        said = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputRefused("the file is damaged: it is no plan in JSON", remedy=_AGAIN) from None
    version = said.get("esync_plan") if isinstance(said, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise InputRefused("the plan was made by another version of esync", remedy=_AGAIN)
    if said.get("digest") != _digest(said):
        raise InputRefused("the plan was changed after it was made", remedy=_AGAIN)
    try:
        saved = SavedPlan.model_validate_json(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputRefused(f"this is no plan of this version ({where[:80]})", remedy=_AGAIN) from None
    if saved.plan.fingerprint != saved.fingerprint:
        raise InputRefused("the plan contradicts itself: its fingerprint is of another one", remedy=_AGAIN)
    return saved


def _digest(said: dict[str, Any]) -> str:
    """Of everything but the digest itself. Order and white space do not count, every value and its type do."""
    return digest_of({name: value for name, value in said.items() if name != "digest"})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands twice means one thing to one reader and another to the next."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
