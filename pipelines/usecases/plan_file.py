"""A plan as a file: the cluster, what was observed, and what would be changed. Contains no secret, only references."""

import json
import re
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from pipelines.run.plan import Plan
from tasks.cluster import Cluster
from tasks.ektron.facts.node import NodeFacts
from workers.errors import InputRefused
from workers.host.reading import content_of
from workers.records import Record, now
from workers.secrets.vault import Vault
from workers.store.chain import digest_of

__all__ = ["SavedPlan", "is_plan", "load_plan"]

VERSION: Literal[3] = 3
LIMIT = 64 * 2**20  #: bytes; a thousand nodes need about ten megabytes
VALUES = 6_000_000  #: values it may contain; a node needs about a thousand
_MARK = re.compile(rb'"esync_plan"\s*:')
_AGAIN = "make a new plan: esync plan CLUSTER -o FILE"


class SavedPlan(Record):
    """What `esync plan -o` writes and `esync rollout` applies (docs/plan-schema.json).

    Attributes:
        run: the run that made the plan.
        spec: the cluster for which the plan was made, and to which it is applied.
        only: the nodes that may be changed, those given with `--node`; all when empty.
        options: of the run that made the plan and of the one that applies it, see `RunRecord.options`.
        fingerprint: of `plan`.
        facts: what the plan was made from, so that a later run can report what has changed since.
        mac: authentication code over everything before it, with the seal key, so that only its holders can make a
            plan; empty without a seal key.
        digest: SHA-256 over everything else in this document, so that any edit is noticed.
    """

    esync_plan: Literal[3] = VERSION
    made: AwareDatetime = Field(default_factory=now)
    run: str
    spec: Cluster
    only: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    plan: Plan
    fingerprint: str
    facts: dict[str, NodeFacts]
    mac: str = ""
    digest: str = ""

    def sealed(self, vault: Vault) -> "SavedPlan":
        """The plan with its authentication code and its digest."""
        coded = self.model_copy(update={"mac": vault.mac(self._content()) if vault.can_seal else ""})
        return coded.model_copy(update={"digest": _digest(json.loads(coded.model_dump_json()))})

    def _content(self) -> str:
        """What the authentication code covers."""
        return _digest(json.loads(self.model_copy(update={"mac": ""}).model_dump_json()))

    def require_made_by(self, vault: Vault) -> None:
        """Checks that the plan was made with the seal key of this vault, if the vault has one.

        Raises:
            InputRefused: it was made without that key, or was changed by someone without it.
        """
        if vault.can_seal and not vault.is_mac(self._content(), self.mac):
            raise InputRefused(
                "the plan was not made with the seal key that is set here, or it was changed after it was made",
                remedy="make a new plan here, or set the ESYNC_SEAL_KEY that the plan was made with",
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
        InputRefused: the file is not a plan, is damaged, was edited, or is of another version.
    """
    try:
        return _understood(content_of(path, LIMIT, "plan"))
    except InputRefused as refused:
        refused.file = str(path)
        raise


def _understood(content: bytes) -> SavedPlan:
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > VALUES:
        raise InputRefused("the file is larger than any plan", remedy=_AGAIN)
    try:
        document = json.loads(content.decode(), object_pairs_hook=_unique_names, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise InputRefused("the file is damaged: it is not a plan in JSON", remedy=_AGAIN) from None
    version = document.get("esync_plan") if isinstance(document, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise InputRefused("the plan was made by another version of esync", remedy=_AGAIN)
    if document.get("digest") != _digest(document):
        raise InputRefused("the plan was changed after it was made", remedy=_AGAIN)
    try:
        saved = SavedPlan.model_validate_json(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputRefused(f"the file is not a plan of this version ({where[:80]})", remedy=_AGAIN) from None
    if saved.plan.fingerprint != saved.fingerprint:
        raise InputRefused("the plan is inconsistent: its fingerprint belongs to another plan", remedy=_AGAIN)
    return saved


def _digest(document: dict[str, object]) -> str:
    """Of everything except the digest itself. Order and white space do not count; every value and its type do."""
    return digest_of({name: value for name, value in document.items() if name != "digest"})


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a name that occurs twice: different readers would take different values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _not_json(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
