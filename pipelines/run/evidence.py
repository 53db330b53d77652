"""The evidence of a verdict: every document of a run that a decision reads, as the store keeps it."""

import hashlib

from workers.records import DocumentKind, RunRecord
from workers.store.chain import digest_of
from workers.store.port import RunStore

__all__ = ["APPROVED", "ATTACHED", "EVIDENCE", "Evidence", "conclusion", "evidence_of"]

#: Kinds of documents that decisions read. Nothing secret is in any of them.
EVIDENCE = (
    DocumentKind.OBSERVED,
    DocumentKind.PLANNED,
    DocumentKind.VERIFIED,
    DocumentKind.FAMILY,
    DocumentKind.PREVIOUS,
    DocumentKind.ATTESTED,
    DocumentKind.DRAINED,
    DocumentKind.DOWN,
    DocumentKind.PLAN,
    DocumentKind.FINDINGS,
    DocumentKind.SYNC,
)

#: Kinds of documents that only a report reads. They belong to no verdict.
ATTACHED = (DocumentKind.AVAILABILITY,)
APPROVED = "plan approved by {who} on {where}"  #: the message of the event that says so

Evidence = dict[str, dict[str, str]]  #: kind -> name -> document


def judged_kind(record: RunRecord) -> DocumentKind:
    """Of which kind the facts are that the verdict is made from: those before the plan, if they were complete."""
    last = next((turn for turn in reversed(record.turns) if turn.stage == "verify"), None)
    return DocumentKind.OBSERVED if last is not None and not last.steps else DocumentKind.VERIFIED


def evidence_of(store: RunStore, run_id: str) -> Evidence:
    """The evidence of one run, and what its report shows besides, as it is stored."""
    found = store.documents_of(run_id, (*EVIDENCE, *ATTACHED))
    return {kind: documents for kind, documents in found.items() if documents}


def conclusion(record: RunRecord, evidence: Evidence) -> str:
    """Digest of a concluded run: its record (without the count of its writes) and the evidence of its verdict."""
    digests = {
        kind: {name: hashlib.sha256(text.encode()).hexdigest() for name, text in documents.items()}
        for kind, documents in evidence.items()
        if kind not in ATTACHED
    }
    written = record.model_dump(mode="json", exclude_defaults=True, exclude={"version"})
    return digest_of({"evidence": digests, "record": written})
