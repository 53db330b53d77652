"""One archive with everything about a run, to keep and to check without any server.

It is safe to share with everybody who may know the cluster: facts contain digests of secrets, never secrets.
"""

import hashlib
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from pipelines.audit.archive import pack
from pipelines.coordinator import snapshot_of
from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.rollout import kind_of
from pipelines.run.evidence import Evidence, evidence_of
from pipelines.run.summary import RunSummary, summary_of
from workers.errors import InputRefused
from workers.host.private import write_private
from workers.records import DocumentKind, Record, RunRecord, RunState, StepOutcome
from workers.store.chain import Chain, digest_of
from workers.store.port import RunStore

__all__ = [
    "EVENTS",
    "MANIFEST",
    "OUTCOMES",
    "REPORT",
    "REPORT_PAGE",
    "RUN",
    "BundledRun",
    "Manifest",
    "Member",
    "bundle_of",
    "evidence_in",
    "manifest_of",
    "outcomes_adapter",
    "reports_of",
    "versions",
    "write_bundle",
]

MANIFEST, RUN, OUTCOMES, EVENTS = "manifest.json", "run.json", "outcomes.json", "events.jsonl"
REPORT, REPORT_PAGE = "report.json", "report.html"

#: Packages whose versions determine what a run does and how its bundle is written.
_LIBRARIES = ("esync-rollout", "celery", "cryptography", "jinja2", "lxml", "pydantic", "pywinrm", "redis")
_ALONE: Mapping[str, str] = {
    DocumentKind.PLAN: "plan.json",
    DocumentKind.FAMILY: "family.json",
}  #: kinds with one document per run
_PAGE = 1000

outcomes_adapter: TypeAdapter[tuple[StepOutcome, ...]] = TypeAdapter(tuple[StepOutcome, ...])


class BundledRun(Record):
    """`run.json`: the run as it ended, the flags that were set, and where its history begins and ends."""

    record: RunRecord
    flags: dict[str, str]
    chain: Chain


class Member(Record):
    """Digest and size of one member."""

    sha256: str
    size: int


class Manifest(Record):
    """`manifest.json`: the content of the bundle. `digest` covers all other fields.

    `version` is that of the layout and of the sentences in it. Version 1 had other sentences for the same results.
    """

    version: Literal[1, 2] = 1  #: the default stays 1: the digest of version 1 does not cover it
    run: str
    cluster: str
    verdict: str
    chain_head: str
    versions: dict[str, str]
    members: dict[str, Member]
    digest: str = ""

    def sealed(self) -> "Manifest":
        """With the digest of all other fields."""
        return self.model_copy(update={"digest": digest_of(self.model_copy(update={"digest": ""}))})

    def to_bytes(self) -> bytes:
        """The manifest as it is written."""
        return _pretty(self)


def write_bundle(engine: Engine, run_id: str, path: Path) -> Manifest:
    """Writes the bundle of a run that has ended.

    Raises:
        InputRefused: the run has not ended.
        FileTrouble: the file cannot be written.
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    members = bundle_of(engine.store, summary_of(snapshot_of(engine, record), kind_of(record.kind, record.id)))
    write_private(path, pack(members))
    return Manifest.model_validate_json(members[MANIFEST])


def bundle_of(store: RunStore, known: RunSummary) -> dict[str, bytes]:
    """All members by name, including the manifest.

    Raises:
        InputRefused: the run has not ended.
    """
    record = known.record.model_copy(update={"version": 0})
    if record.state is not RunState.CONCLUDED:
        raise InputRefused(f"run {record.id} has not ended", remedy="write the bundle when the run has ended")
    run = BundledRun(record=record, flags=store.flags(record.id), chain=store.chain(record.id))
    members = {
        RUN: _pretty(run),
        OUTCOMES: outcomes_adapter.dump_json(known.outcomes, indent=2, exclude_defaults=True) + b"\n",
        EVENTS: _events(store, record.id),
        **reports_of(known),
    }
    for kind, documents in evidence_of(store, record.id).items():
        members |= {_member_name(kind, name): text.encode() for name, text in documents.items()}
    return {**members, MANIFEST: manifest_of(run, members).to_bytes()}


def manifest_of(run: BundledRun, members: Mapping[str, bytes]) -> Manifest:
    """The manifest of these members."""
    digests = {name: Member(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in members.items()}
    return Manifest(
        version=2,
        run=run.record.id,
        cluster=run.record.cluster,
        verdict=run.record.verdict or "",
        chain_head=run.chain.head,
        versions=versions(),
        members=dict(sorted(digests.items())),
    ).sealed()


def versions() -> dict[str, str]:
    """The versions of this process."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def reports_of(known: RunSummary) -> dict[str, bytes]:
    """The report in both formats. It follows from the other members."""
    report = build(known)
    return {REPORT: _pretty(report), REPORT_PAGE: to_html(report).encode()}


def evidence_in(members: Mapping[str, bytes]) -> Evidence:
    """The documents that the decisions were made from, as the store had them.

    Raises:
        UnicodeDecodeError: one of them is not text.
    """
    found: Evidence = {}
    for kind, name in _ALONE.items():
        if name in members:
            found[kind] = {kind: members[name].decode()}
    for name, data in members.items():
        match = re.fullmatch(r"(?:facts/([a-z]+)|findings)/([A-Za-z0-9_-]+)\.json", name)
        if match:
            found.setdefault(match[1] or DocumentKind.FINDINGS, {})[match[2]] = data.decode()
    return found


def _member_name(kind: str, name: str) -> str:
    folder = DocumentKind.FINDINGS if kind == DocumentKind.FINDINGS else f"facts/{kind}"
    return _ALONE.get(kind) or f"{folder}/{name}.json"


def _events(store: RunStore, run_id: str) -> bytes:
    lines, after = [], ""
    while page := store.events(run_id, after, _PAGE):
        lines += [event.to_json() for event in page]
        after = page[-1].id
    return "".join(f"{line}\n" for line in lines).encode()


def _pretty(record: Record) -> bytes:
    return record.model_dump_json(indent=2).encode() + b"\n"
