"""What the steps of one run keep for each other: facts, and the sealed certificate family."""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tasks.cluster import Cluster
from workers.errors import NodeRefused
from workers.records import Change, DocumentKind, Record, RunRecord, StepOutcome
from workers.remembered import Remembered
from workers.store.documents import document_as
from workers.texts import cleaned

if TYPE_CHECKING:  # loaded when facts or a family are opened: what shows runs opens neither
    from tasks.ektron.certificates.family import Family
    from tasks.ektron.desired.target import Difference, Target
    from tasks.ektron.facts.node import NodeFacts
    from workers.secrets.vault import Vault
    from workers.store.port import Place, RunStore

__all__ = [
    "BACK",
    "FORCE",
    "NO_FAMILY",
    "PRUNE",
    "RETIRE",
    "FamilyDigests",
    "Known",
    "RunDocuments",
    "changes_of",
    "target_of",
]

BACK = "back"  #: the document of a node with a mark that its balancer has back
PRUNE = "prune"  #: the option that removes keys and files of servers that are neither nodes nor partners
RETIRE = "retire"  #: the option of a run that takes nodes out of the cluster
FORCE = "force"  #: the option that lets a rollback overwrite what changed since


class FamilyDigests(Record):
    """The public part of a certificate family: enough to compare files with, nothing secret."""

    hashes: dict[str, str]  #: kind -> SHA-256 of the file, hex
    sizes: dict[str, int]  #: kind -> bytes
    thumbprint: str  #: SHA-256 of the client certificate, hex

    @classmethod
    def of(cls, family: "Family") -> "FamilyDigests":
        """The digests of a family."""
        sizes = {kind: len(data) for kind, data in family.blobs.items()}
        return cls(hashes=family.hashes, sizes=sizes, thumbprint=family.thumbprint)


_AS_OBJECTS = 3  #: bytes of facts in memory for each character of their text (measured)
NO_FAMILY = FamilyDigests(hashes={}, sizes={}, thumbprint="")  #: of a run that distributes none


def target_of(cluster: Cluster, node: str, family: FamilyDigests, options: Collection[str] = ()) -> "Target":
    """What a node has to be, given the family that the run distributes, and the options of the run."""
    from tasks.ektron.desired.target import Target  # noqa: PLC0415 - see above

    return Target(
        node=node,
        nodes=cluster.node_names,
        is_origin=cluster.is_origin(node),
        hashes=family.hashes,
        thumbprint=family.thumbprint,
        partners=cluster.partners,
        prune=PRUNE in options,
        retired=RETIRE in options,
    )


def changes_of(differences: "Iterable[Difference]") -> tuple[Change, ...]:
    """Differences as a plan and an outcome record them."""
    return tuple(
        Change(what=cleaned(one.what), file=one.file, before=cleaned(one.before), after=cleaned(one.after))
        for one in differences
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What a process has read of documents, so that no step of it reads or parses that again.

    Attributes:
        families: by run, kind and digests.
        earlier_sites: by run; they are kept when it is requested.
        joined_before: the same of the earlier run that found the cluster joined.
    """

    families: "Remembered[Family]" = field(default_factory=lambda: Remembered(256))
    earlier_sites: Remembered[tuple[str, ...]] = field(default_factory=lambda: Remembered(1000))
    joined_before: Remembered[str] = field(default_factory=lambda: Remembered(1000))
    _texts: Remembered[str] = field(default_factory=lambda: Remembered(2_000_000))
    #: By the digest of their text; the weight is in bytes.
    _facts: "Remembered[NodeFacts]" = field(default_factory=lambda: Remembered(2_000_000))
    #: All that are in use, such as what a session has for the next step: a join reads those of all nodes.
    _held: "WeakValueDictionary[str, NodeFacts]" = field(default_factory=WeakValueDictionary)

    def facts(self, text: str, run_id: str) -> "NodeFacts":
        """The facts in a text of a run; those that are in memory already are the same object."""
        name = _digest(text)
        known = self._facts.get(name) or self._held.get(name)
        if known is not None:
            return known
        from tasks.ektron.facts.node import NodeFacts  # noqa: PLC0415 - see above

        return self.keep_facts(text, document_as(NodeFacts, text, run_id))

    def keep_facts(self, text: str, facts: "NodeFacts") -> "NodeFacts":
        """Remembers what is in a text, and returns it."""
        name = _digest(text)
        self._held[name] = facts
        return self._facts.put(name, facts, _AS_OBJECTS * len(text))

    def texts(self, record: RunRecord, places: "Iterable[Place]") -> "dict[Place, str | None]":
        """Those of these documents that a step of the same turn has read: they are written in other turns only."""
        found = {place: self._texts.get(_place(record, place)) for place in places}
        return {place: text for place, text in found.items() if text is not None}

    def keep_texts(self, record: RunRecord, documents: "Mapping[Place, str | None]") -> None:
        """Remembers what a step has read."""
        for place, text in documents.items():
            if place[0] == DocumentKind.PLANNED or (text and place[0] in _FIXED):
                self._texts.put(_place(record, place), text or "", 100 + len(text or ""))

    def forget_texts(self, record: RunRecord, places: "Iterable[Place]") -> None:
        """Forgets what a step has written."""
        for place in places:
            self._texts.forget(_place(record, place))


#: Documents that no step of a turn with several steps writes. That of a plan exists since before the run, or never.
_FIXED = frozenset({DocumentKind.OBSERVED, DocumentKind.PLANNED, DocumentKind.FAMILY})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _place(record: RunRecord, place: "Place") -> str:
    return f"{record.id} {record.version} {' '.join(place)}"


class RunDocuments:
    """The documents of one run in the store. Certificate material is sealed, everything else is JSON.

    Args:
        store: the run store.
        vault: for sealed documents.
        run_id: the run.
        known: what this process knows already.
        read: documents that a step read when it began; the step does not read them again.
        later: takes the documents that are stored together with the outcome of the step.
    """

    def __init__(
        self,
        store: "RunStore",
        vault: "Vault",
        run_id: str,
        known: Known | None = None,
        read: "dict[Place, str | None] | None" = None,
        later: "dict[Place, str] | None" = None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._run = run_id
        self._known = known or Known()
        self._read = {} if read is None else read
        self._later = later

    @staticmethod
    def of_step(node: str, *, alone: bool) -> "tuple[Place, ...]":
        """The documents that almost every step of a node reads; `alone` when it is the only one of its turn."""
        always = ((DocumentKind.OBSERVED, node), (DocumentKind.FAMILY, DocumentKind.FAMILY))
        return always if alone else (*always, (DocumentKind.PLANNED, node), (DocumentKind.UP_TO_DATE, node))

    def of(self, run_id: str) -> "RunDocuments":
        """The documents of another run."""
        return RunDocuments(self._store, self._vault, run_id, self._known)

    def _document(self, kind: str, name: str) -> str | None:
        if (kind, name) in self._read:
            return self._read[kind, name]
        return self._store.document(self._run, kind, name)

    def _put(self, kind: str, name: str, text: str, *, later: bool = False) -> None:
        if later and self._later is not None:
            self._later[kind, name] = text
        else:
            self._store.put(self._run, kind, name, text)
        if (kind, name) in self._read or self._later is not None:
            self._read[kind, name] = text

    def outcomes(self, node: str) -> tuple[StepOutcome, ...]:
        """The outcomes of this run on a node so far."""
        return tuple(outcome for outcome in self._store.outcomes(self._run) if outcome.node == node)

    def going_on(self) -> frozenset[str]:
        """Ids of all runs, of any cluster, that are not concluded."""
        return frozenset(self._store.active())

    def keep_facts(self, kind: str, facts: "NodeFacts") -> None:
        """Stores the facts of a node, together with the outcome of a step; a second observation replaces the first."""
        text = facts.model_dump_json(exclude_defaults=True)
        self._put(kind, facts.node, text, later=True)
        self._known.keep_facts(text, facts)

    def facts(self, kind: str, node: str) -> "NodeFacts | None":
        """The facts of a node; None when it was not observed."""
        document = self._document(kind, node)
        return self._known.facts(document, self._run) if document else None

    def planned(self, node: str) -> "NodeFacts | None":
        """The facts that the plan is based on: those of a saved plan, otherwise those that this run observed."""
        return self.facts(DocumentKind.PLANNED, node) or self.facts(DocumentKind.OBSERVED, node)

    def keep_earlier_sites(self, folders: Iterable[str]) -> None:
        """Stores where earlier runs of this cluster found the site."""
        self._store.put(self._run, DocumentKind.EARLIER_SITES, DocumentKind.EARLIER_SITES, json.dumps(list(folders)))

    def earlier_sites(self) -> tuple[str, ...]:
        """The folders in which earlier runs of this cluster found the site, without the present one."""
        known = self._known.earlier_sites.get(self._run)
        if known is not None:
            return known
        document = self._document(DocumentKind.EARLIER_SITES, DocumentKind.EARLIER_SITES)
        return self._known.earlier_sites.put(self._run, tuple(json.loads(document)) if document else ())

    def keep_joined_before(self, run_id: str, kind: DocumentKind) -> None:
        """Stores which earlier run found these servers joined, and the kind of the facts that it judged."""
        self.keep(DocumentKind.JOINED_BEFORE, DocumentKind.JOINED_BEFORE, f"{kind} {run_id}")

    def facts_when_joined(self, node: str) -> "NodeFacts | None":
        """What an earlier run saw on the node when it found these servers joined: a guess, and no evidence."""
        earlier = self._known.joined_before.get(self._run)
        if earlier is None:
            document = self._document(DocumentKind.JOINED_BEFORE, DocumentKind.JOINED_BEFORE)
            earlier = self._known.joined_before.put(self._run, document or "")
        kind, _, run_id = earlier.partition(" ")
        return self.of(run_id).facts(kind, node) if run_id else None

    def keep(self, kind: DocumentKind, name: str, text: str) -> None:
        """Stores a text of a step; a later one of the same name replaces it."""
        self._store.put(self._run, kind, name, text)

    def kept(self, kind: DocumentKind, name: str) -> str | None:
        """A text of a step, as it is in the store now."""
        return self._store.document(self._run, kind, name)

    def all_kept(self, kind: DocumentKind) -> dict[str, str]:
        """All texts of that kind, by name."""
        return self._store.documents(self._run, kind)

    def keep_right(self, node: str, *, right: bool) -> None:
        """Stores whether a node needs no change. The step sets it back before it changes anything."""
        place = (DocumentKind.UP_TO_DATE, node)
        if right or self._read.get(place, "1"):
            self._put(*place, "1" if right else "", later=right)
            if not right and self._later is not None:
                self._later.pop(place, None)

    def keep_back(self, node: str) -> None:
        """Stores that a node with a mark was found to get requests again."""
        self._put(DocumentKind.DRAINED, node, BACK)

    def keep_left(self, node: str, who: str) -> None:
        """Stores that a node is out of its balancer, and who did it: the store has lost its mark."""
        self._put(DocumentKind.DRAINED, node, who)

    def is_right(self, node: str) -> bool:
        """Whether the check of the wave found that this node needs no change, and nothing was changed since."""
        return bool(self._document(DocumentKind.UP_TO_DATE, node))

    def all_facts(self, kind: str) -> "dict[str, NodeFacts]":
        """The facts of all observed nodes, by name."""
        documents = self._store.documents(self._run, kind)
        return {node: self._known.facts(text, self._run) for node, text in documents.items()}

    def keep_family(self, family: "Family", which: DocumentKind = DocumentKind.FAMILY) -> None:
        """Stores the six files sealed, because they hold private keys, and their digests in clear text.

        Args:
            family: the files.
            which: `FAMILY` is the one that the run distributes, `PREVIOUS` the one that a renewal replaces.
        """
        # The digests first: when a sealed family is found, the steps do not look for another.
        self._put(which, which, FamilyDigests.of(family).to_json())
        blobs = {kind: base64.b64encode(data).decode() for kind, data in family.blobs.items()}
        self._vault.seal(self._run, which, json.dumps(blobs).encode())

    def family(self, which: DocumentKind = DocumentKind.FAMILY) -> "Family | None":
        """The family that this run distributes, or replaces; None until a step found or generated one."""
        digests = self._document(which, which)
        if digests is None:
            return None
        name = f"{self._run} {which} {digests}"
        known = self._known.families.get(name)
        if known is not None:
            return known
        if self._store.document(self._run, DocumentKind.SEALED, which) is None:
            return None
        from tasks.ektron.certificates.family import Family  # noqa: PLC0415 - see above

        blobs = json.loads(self._vault.unseal(self._run, which))
        family = Family(blobs={kind: base64.b64decode(text) for kind, text in blobs.items()})
        same = FamilyDigests.of(family).to_json() == digests  # not while another one is being kept
        return self._known.families.put(name, family) if same else family

    def required_family(self, which: DocumentKind = DocumentKind.FAMILY) -> "Family":
        """The family that this run distributes, or replaces.

        Raises:
            NodeRefused: the run has none; its plan would not have been made without.
        """
        family = self.family(which)
        if family is None:
            raise NodeRefused("this run holds no certificate family", remedy="start a new run")
        return family

    def family_digests(self, which: DocumentKind = DocumentKind.FAMILY) -> FamilyDigests | None:
        """The public digests of that family; needs no seal key."""
        document = self._document(which, which)
        return document_as(FamilyDigests, document, self._run) if document else None

    def digest(self, text: str) -> str:
        """A keyed digest, for comparing secrets without storing them."""
        return self._vault.digest(text)
