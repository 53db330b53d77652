"""What the steps of one run keep for each other: facts, and the sealed certificate family."""

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts import NodeFacts
from workers.errors import NodeRefused
from workers.records import Change, DocumentKind, Record, StepOutcome
from workers.texts import cleaned

if TYPE_CHECKING:
    from workers.secrets.vault import Vault
    from workers.store.port import RunStore

__all__ = ["FamilyDigests", "RunDocuments", "changes_of", "target_of"]

_FAMILY = "family"  #: the name of the one document of its kind


class FamilyDigests(Record):
    """The public part of a certificate family: enough to compare files with, nothing secret."""

    hashes: dict[str, str]  #: kind -> SHA-256 of the file, hex
    sizes: dict[str, int]  #: kind -> bytes
    thumbprint: str  #: SHA-256 of the client certificate, hex

    @classmethod
    def of(cls, family: Family) -> "FamilyDigests":
        """The digests of a family."""
        sizes = {kind: len(data) for kind, data in family.blobs.items()}
        return cls(hashes=family.hashes, sizes=sizes, thumbprint=family.thumbprint)


def target_of(cluster: Cluster, node: str, family: FamilyDigests) -> Target:
    """What a node has to be, given the family that the run distributes."""
    return Target(
        node=node,
        nodes=cluster.node_names,
        is_origin=cluster.is_origin(node),
        hashes=family.hashes,
        thumbprint=family.thumbprint,
    )


def changes_of(differences: Iterable[Difference]) -> tuple[Change, ...]:
    """Differences as a plan and an outcome record them."""
    return tuple(
        Change(what=cleaned(one.what), file=one.file, before=cleaned(one.before), after=cleaned(one.after))
        for one in differences
    )


class RunDocuments:
    """The documents of one run in the store. Certificate material is sealed, everything else is JSON."""

    def __init__(self, store: "RunStore", vault: "Vault", run_id: str) -> None:
        self._store = store
        self._vault = vault
        self._run = run_id

    def of(self, run_id: str) -> "RunDocuments":
        """The documents of another run."""
        return RunDocuments(self._store, self._vault, run_id)

    def outcomes(self, node: str) -> tuple[StepOutcome, ...]:
        """The outcomes of this run on a node so far."""
        return tuple(outcome for outcome in self._store.outcomes(self._run) if outcome.node == node)

    def going_on(self) -> frozenset[str]:
        """Ids of all runs, of any cluster, that are not concluded."""
        return frozenset(self._store.active())

    def keep_facts(self, kind: str, facts: NodeFacts) -> None:
        """Stores the facts of a node; a second observation replaces the first."""
        self._store.put(self._run, kind, facts.node, facts.model_dump_json(exclude_defaults=True))

    def facts(self, kind: str, node: str) -> NodeFacts | None:
        """The facts of a node; None when it was not observed."""
        document = self._store.document(self._run, kind, node)
        return NodeFacts.model_validate_json(document) if document else None

    def planned(self, node: str) -> NodeFacts | None:
        """The facts that the plan is based on: those of a saved plan, otherwise those that this run observed."""
        return self.facts(DocumentKind.PLANNED, node) or self.facts(DocumentKind.OBSERVED, node)

    def keep_right(self, node: str, *, right: bool) -> None:
        """Stores whether a node needs no change. The step sets it back before it changes anything."""
        self._store.put(self._run, DocumentKind.UP_TO_DATE, node, "1" if right else "")

    def is_right(self, node: str) -> bool:
        """Whether the check of the wave found that this node needs no change, and nothing was changed since."""
        return bool(self._store.document(self._run, DocumentKind.UP_TO_DATE, node))

    def all_facts(self, kind: str) -> dict[str, NodeFacts]:
        """The facts of all observed nodes, by name."""
        documents = self._store.documents(self._run, kind)
        return {node: NodeFacts.model_validate_json(text) for node, text in documents.items()}

    def keep_family(self, family: Family) -> None:
        """Stores the six files sealed, because they hold private keys, and their digests in clear text."""
        # The digests first: when a sealed family is found, the steps do not look for another.
        self._store.put(self._run, DocumentKind.FAMILY, _FAMILY, FamilyDigests.of(family).to_json())
        blobs = {kind: base64.b64encode(data).decode() for kind, data in family.blobs.items()}
        self._vault.seal(self._run, _FAMILY, json.dumps(blobs).encode())

    def family(self) -> Family | None:
        """The family that this run distributes; None until a step found or generated one."""
        if self._store.document(self._run, DocumentKind.SEALED, _FAMILY) is None:
            return None
        blobs = json.loads(self._vault.unseal(self._run, _FAMILY))
        return Family(blobs={kind: base64.b64decode(text) for kind, text in blobs.items()})

    def required_family(self) -> Family:
        """The family that this run distributes.

        Raises:
            NodeRefused: the run has none; its plan would not have been made without.
        """
        family = self.family()
        if family is None:
            raise NodeRefused("this run holds no certificate family", remedy="start a new run")
        return family

    def family_digests(self) -> FamilyDigests | None:
        """The public digests of that family; needs no seal key."""
        document = self._store.document(self._run, DocumentKind.FAMILY, _FAMILY)
        return FamilyDigests.model_validate_json(document) if document else None

    def digest(self, text: str) -> str:
        """A keyed digest, for comparing secrets without storing them."""
        return self._vault.digest(text)
