"""What the steps of one run leave for each other: facts, and the sealed certificate family."""

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.facts import NodeFacts
from workers.errors import NodeRefused
from workers.records import Change, Record, StepOutcome
from workers.texts import cleaned

if TYPE_CHECKING:
    from workers.secrets.vault import Vault
    from workers.store import RunStore

__all__ = [
    "DIGESTS",
    "OBSERVED",
    "PLANNED",
    "VERIFIED",
    "FamilyDigests",
    "RunDocuments",
    "changes_of",
    "target_of",
]

OBSERVED = "observed"  #: document kind: facts the plan is made from
PLANNED = "planned"  #: document kind: facts a plan was made from that was saved before this run
VERIFIED = "verified"  #: document kind: facts the verdict is made from
RIGHT = "right"  #: document kind: nodes that a wave's check found to need nothing
DIGESTS = "family"  #: document kind: what may be known of the family
FAMILY = "family"


class FamilyDigests(Record):
    """What may be known of a certificate family: enough to judge by, nothing to keep secret."""

    hashes: dict[str, str]  #: kind -> SHA-256 of the file, hex
    sizes: dict[str, int]  #: kind -> bytes
    thumbprint: str  #: SHA-256 of the client certificate, hex

    @classmethod
    def of(cls, family: Family) -> "FamilyDigests":
        """Those of a family."""
        sizes = {kind: len(data) for kind, data in family.blobs.items()}
        return cls(hashes=family.hashes, sizes=sizes, thumbprint=family.thumbprint)


def target_of(cluster: Cluster, node: str, family: FamilyDigests) -> Target:
    """What a node has to be, given the family that the run hands out."""
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
    """One run's shelf in the store. Certificate material lies there sealed, everything else as JSON."""

    def __init__(self, store: "RunStore", vault: "Vault", run_id: str) -> None:
        self._store = store
        self._vault = vault
        self._run = run_id

    def of(self, run_id: str) -> "RunDocuments":
        """Another run's shelf."""
        return RunDocuments(self._store, self._vault, run_id)

    def outcomes(self, node: str) -> tuple[StepOutcome, ...]:
        """What the run's steps did to a node so far."""
        return tuple(outcome for outcome in self._store.outcomes(self._run) if outcome.node == node)

    def going_on(self) -> frozenset[str]:
        """Ids of all runs, of any cluster, that have not ended."""
        return frozenset(self._store.active())

    def keep_facts(self, kind: str, facts: NodeFacts) -> None:
        """Stores what was seen on a node; a second look replaces the first."""
        self._store.put(self._run, kind, facts.node, facts.model_dump_json(exclude_defaults=True))

    def facts(self, kind: str, node: str) -> NodeFacts | None:
        """What was seen on a node, if it was seen."""
        document = self._store.document(self._run, kind, node)
        return NodeFacts.model_validate_json(document) if document else None

    def planned(self, node: str) -> NodeFacts | None:
        """What the plan believes of a node: what a saved plan saw, else what this run saw."""
        return self.facts(PLANNED, node) or self.facts(OBSERVED, node)

    def keep_right(self, node: str, *, right: bool) -> None:
        """Notes whether a node needs nothing, as it was just seen; taken back before anything is changed."""
        self._store.put(self._run, RIGHT, node, "1" if right else "")

    def is_right(self, node: str) -> bool:
        """Whether the wave's check found that this node needs nothing, and nothing was changed since."""
        return bool(self._store.document(self._run, RIGHT, node))

    def all_facts(self, kind: str) -> dict[str, NodeFacts]:
        """What was seen, per node."""
        documents = self._store.documents(self._run, kind)
        return {node: NodeFacts.model_validate_json(text) for node, text in documents.items()}

    def keep_family(self, family: Family) -> None:
        """Seals the six files; private keys never lie in the store in clear, their digests do."""
        # First the digests: a family that is sealed is not looked for again.
        self._store.put(self._run, DIGESTS, FAMILY, FamilyDigests.of(family).to_json())
        blobs = {kind: base64.b64encode(data).decode() for kind, data in family.blobs.items()}
        self._vault.seal(self._run, FAMILY, json.dumps(blobs).encode())

    def family(self) -> Family | None:
        """The family this run hands out, or None while nobody has found or made one."""
        if self._store.document(self._run, "sealed", FAMILY) is None:
            return None
        blobs = json.loads(self._vault.unseal(self._run, FAMILY))
        return Family(blobs={kind: base64.b64decode(text) for kind, text in blobs.items()})

    def required_family(self) -> Family:
        """The family this run hands out.

        Raises:
            NodeRefused: the run has none; its plan would not have been made without.
        """
        family = self.family()
        if family is None:
            raise NodeRefused("this run holds no certificate family", remedy="start a new run")
        return family

    def family_digests(self) -> FamilyDigests | None:
        """What everybody may know of that family; needs no seal key."""
        document = self._store.document(self._run, DIGESTS, FAMILY)
        return FamilyDigests.model_validate_json(document) if document else None

    def digest(self, text: str) -> str:
        """A keyed digest, for comparing secrets without keeping them."""
        return self._vault.digest(text)
