"""What the steps of one run leave for each other: facts, and the sealed certificate family."""

import base64
import json
from typing import TYPE_CHECKING

from tasks.ektron.certificates import Family
from tasks.ektron.facts import NodeFacts

if TYPE_CHECKING:
    from workers.store import RunStore
    from workers.vault import Vault

__all__ = ["OBSERVED", "VERIFIED", "Material"]

OBSERVED = "observed"  #: document kind: facts the plan is made from
VERIFIED = "verified"  #: document kind: facts the verdict is made from
FAMILY = "family"


class Material:
    """One run's shelf in the store. Certificate material lies there sealed, everything else as JSON."""

    def __init__(self, store: "RunStore", vault: "Vault", run_id: str) -> None:
        self._store = store
        self._vault = vault
        self._run = run_id

    def keep_facts(self, kind: str, facts: NodeFacts) -> None:
        """Stores what was seen on a node; a second look replaces the first."""
        self._store.put(self._run, kind, facts.node, facts.model_dump_json(exclude_defaults=True))

    def facts(self, kind: str, node: str) -> NodeFacts | None:
        """What was seen on a node, if it was seen."""
        document = self._store.document(self._run, kind, node)
        return NodeFacts.model_validate_json(document) if document else None

    def all_facts(self, kind: str) -> dict[str, NodeFacts]:
        """What was seen, per node."""
        documents = self._store.documents(self._run, kind)
        return {node: NodeFacts.model_validate_json(text) for node, text in documents.items()}

    def keep_family(self, family: Family) -> None:
        """Seals the six files; private keys never lie in the store in clear."""
        blobs = {kind: base64.b64encode(data).decode() for kind, data in family.blobs.items()}
        self._vault.seal(self._run, FAMILY, json.dumps(blobs).encode())

    def family(self) -> Family | None:
        """The family this run hands out, or None while nobody has found or made one."""
        if self._store.document(self._run, "sealed", FAMILY) is None:
            return None
        blobs = json.loads(self._vault.unseal(self._run, FAMILY))
        return Family(blobs={kind: base64.b64decode(text) for kind, text in blobs.items()})

    def digest(self, text: str) -> str:
        """A keyed digest, for comparing secrets without keeping them."""
        return self._vault.digest(text)
