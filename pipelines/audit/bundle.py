"""One archive with everything that is known about a run, to be kept and checked without any of our servers.

Everything of it is public to whoever may know the cluster: facts hold digests where the nodes hold secrets.
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
from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.run.evidence import Evidence, evidence_of
from pipelines.usecases.runs import RunSummary, summary
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

#: Whose versions decide what a run does and how its bundle reads.
_LIBRARIES = ("esync-rollout", "celery", "cryptography", "jinja2", "lxml", "pydantic", "pywinrm", "redis")
_ALONE: dict[str, str] = {
    DocumentKind.PLAN: "plan.json",
    DocumentKind.FAMILY: "family.json",
}  #: kinds of which a run has one document
_PAGE = 1000

outcomes_adapter: TypeAdapter[tuple[StepOutcome, ...]] = TypeAdapter(tuple[StepOutcome, ...])


class BundledRun(Record):
    """`run.json`: the run as it ended, the flags that were up, and where its history begins and ends."""

    record: RunRecord
    flags: dict[str, str]
    chain: Chain


class Member(Record):
    """What the manifest knows of a member."""

    sha256: str
    size: int


class Manifest(Record):
    """`manifest.json`: what is in the bundle. `version` is that of this layout, `digest` that of all the rest here."""

    version: Literal[1] = 1
    run: str
    cluster: str
    verdict: str
    chain_head: str
    versions: dict[str, str]
    members: dict[str, Member]
    digest: str = ""

    def sealed(self) -> "Manifest":
        """With the digest of everything else it says."""
        return self.model_copy(update={"digest": digest_of(self.model_copy(update={"digest": ""}))})

    def to_bytes(self) -> bytes:
        """The one spelling of a manifest."""
        return _pretty(self)


def write_bundle(engine: Engine, run_id: str, path: Path) -> Manifest:
    """Writes the bundle of a run that has ended.

    Raises:
        InputRefused: the run goes on.
        FileTrouble: the file cannot be written.
        RunUnknown: there is no such run.
    """
    members = bundle_of(engine.store, summary(engine, run_id))
    write_private(path, pack(members))
    return Manifest.model_validate_json(members[MANIFEST])


def bundle_of(store: RunStore, known: RunSummary) -> dict[str, bytes]:
    """Every member by name, the manifest included.

    Raises:
        InputRefused: the run goes on.
    """
    record = known.record.model_copy(update={"version": 0})
    if record.state is not RunState.CONCLUDED:
        raise InputRefused(f"run {record.id} still goes on", remedy="a bundle can be written when the run has ended")
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
        run=run.record.id,
        cluster=run.record.cluster,
        verdict=run.record.verdict or "",
        chain_head=run.chain.head,
        versions=versions(),
        members=dict(sorted(digests.items())),
    ).sealed()


def versions() -> dict[str, str]:
    """What this process runs on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def reports_of(known: RunSummary) -> dict[str, bytes]:
    """The report in both forms. It follows from everything else."""
    report = build(known)
    return {REPORT: _pretty(report), REPORT_PAGE: to_html(report).encode()}


def evidence_in(members: Mapping[str, bytes]) -> Evidence:
    """The documents decisions rest on, as the store had them.

    Raises:
        UnicodeDecodeError: one of them is no text.
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
